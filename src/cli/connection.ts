import type { ConnectionOptions } from '../kafka/client.js';
import type { Config } from './config.js';
import { kafkaLog } from './log.js';

/** What `src/kafka` needs to reach the cluster of a configuration; `brokers` wins over the configured ones. */
export function connectionOf(config: Config, brokers: readonly string[] = config.kafka.brokers): ConnectionOptions {
  const { ssl, sasl } = config.kafka;
  const log = config.log === 'silent' ? {} : { log: kafkaLog(config.log) };
  return { brokers, ...log, ...(ssl ? { ssl } : {}), ...(sasl ? { sasl } : {}) };
}

/** The configured cluster, else the embedded broker's address. */
export function brokersOf(config: Config, flag?: string): string[] {
  if (flag) return flag.split(',').map((one) => one.trim());
  if (config.kafka.brokers.length > 0) return config.kafka.brokers;
  return [`${config.broker.host}:${config.broker.port}`];
}
