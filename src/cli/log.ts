import { pino } from 'pino';
import type { KafkaLog } from '../kafka/client.js';

export const logLevels = ['silent', 'error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof logLevels)[number];

/** The Kafka client's own log as JSON lines on standard error; for looking into trouble with a cluster. */
export function kafkaLog(level: LogLevel): KafkaLog {
  const log = pino({ level, base: { name: 'kafka' } }, pino.destination(2));
  return (severity, message, details) => {
    const { timestamp: _, message: __, logger: ___, ...rest } = details;
    log[severity](rest, message);
  };
}
