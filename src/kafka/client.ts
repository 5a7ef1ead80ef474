import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { Kafka, type LogEntry, logLevel, type SASLOptions } from 'kafkajs';
import { IguanaError } from '../errors.js';

export type KafkaLog = (
  level: 'error' | 'warn' | 'info' | 'debug',
  message: string,
  details: Record<string, unknown>,
) => void;

export interface ConnectionOptions {
  /** `host:port` of one or more brokers. */
  readonly brokers: readonly string[];
  /** TLS: true for the system's certificates, or Node's TLS options. Default: plain text. */
  readonly ssl?: boolean | TlsOptions;
  /** User and password or another SASL mechanism. Default: none. */
  readonly sasl?: SASLOptions;
  /** The name the broker sees. Default `iguana`. */
  readonly clientId?: string;
  /** Takes the client's own log lines. Default: none are shown. */
  readonly log?: KafkaLog;
}

/** A kafkajs client; connects to nothing yet. `retries` of a request or connection: 8 take about 20 s. */
export function kafkaClient(options: ConnectionOptions, retries = 8): Kafka {
  const { log } = options;
  process.env.KAFKAJS_NO_PARTITIONER_WARNING ??= '1';
  return new Kafka({
    brokers: [...options.brokers],
    clientId: options.clientId ?? 'iguana',
    connectionTimeout: 3_000,
    retry: { initialRetryTime: 100, maxRetryTime: 5_000, retries },
    logLevel: log ? logLevel.WARN : logLevel.NOTHING,
    logCreator: () => (entry) => log?.(levelName(entry), entry.log.message, entry.log),
    ...(options.ssl === undefined ? {} : { ssl: options.ssl }),
    ...(options.sasl === undefined ? {} : { sasl: options.sasl }),
  });
}

/** Asks the brokers for the cluster once, with few retries. Errors: `IGU_BROKER_UNREACHABLE`. */
export async function assertReachable(options: ConnectionOptions, timeoutMs = 5_000): Promise<void> {
  // with more retries the client would keep the process alive long after the answer is known
  const admin = kafkaClient(options, 1).admin();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([admin.connect().then(() => admin.describeCluster()), late]);
  } catch (cause) {
    throw new IguanaError('IGU_BROKER_UNREACHABLE', { brokers: options.brokers.join(',') }, { cause });
  } finally {
    clearTimeout(timer);
    await admin.disconnect().catch(() => undefined);
  }
}

function levelName(entry: LogEntry): 'error' | 'warn' | 'info' | 'debug' {
  if (entry.level <= logLevel.ERROR) return 'error';
  if (entry.level <= logLevel.WARN) return 'warn';
  return entry.level <= logLevel.INFO ? 'info' : 'debug';
}
