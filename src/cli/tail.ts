import { Command, InvalidArgumentError } from 'commander';
import { readableValue } from '../codec/readable.js';
import { parseTime } from '../codec/series-csv.js';
import { messageOf } from '../errors.js';
import { assertReachable, kafkaClient } from '../kafka/client.js';
import { type TailedMessage, type TailFrom, tail } from '../kafka/tail.js';
import type { AnomalyRecord, DecisionRecord, ForecastRecord } from '../records.js';
import { readConfig } from './config.js';
import { brokersOf, connectionOf } from './connection.js';
import { anomalyLine, decisionLine, forecastLine } from './event-lines.js';
import { wholeNumber } from './suggest.js';
import { paint } from './terminal.js';
import { untilStopped } from './until-stopped.js';

/** `iguana tail TOPIC`: the records of a topic as they come, decoded. */
export function tailCommand(): Command {
  return new Command('tail')
    .description('Show the records of a topic as they come')
    .argument('<topic>', 'topic to read')
    .option('--from <when>', 'earliest, latest or an ISO time', parseFrom, 'latest' as TailFrom)
    .option('--max <n>', 'stop after N records', wholeNumber(1, 1_000_000_000))
    .option('--brokers <list>', 'Kafka cluster, host:port[,host:port] (default: the embedded broker)')
    .option('--config <file>', 'configuration (default: iguana.yaml here, if there is one)')
    .option('--json', 'one JSON object per record, with topic, partition, offset, key, headers')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana tail forecasts\n  iguana tail anomalies --from earliest --json\n  iguana tail metrics --from 2026-01-31T12:00:00Z --max 100',
    )
    .action(
      async (
        topic: string,
        options: { from: TailFrom; max?: number; brokers?: string; config?: string; json?: boolean },
      ) => {
        const config = readConfig(options.config);
        const connection = connectionOf(config, brokersOf(config, options.brokers));
        await assertReachable(connection);
        const stopped = untilStopped();
        const following = tail(kafkaClient(connection), [topic], options.from);
        let count = 0;
        const ended = new Promise<number>((resolve, reject) => {
          following.messages.subscribe({
            next: (message) => {
              if (options.max !== undefined && count >= options.max) return;
              process.stdout.write(`${options.json ? jsonOf(message) : lineOf(message)}\n`);
              if (++count === options.max) resolve(0);
            },
            error: reject,
          });
        });
        process.exitCode = await Promise.race([stopped, ended]);
        await following.closed();
        process.exit();
      },
    );
}

function parseFrom(given: string): TailFrom {
  if (given === 'earliest' || given === 'latest') return given;
  const time = parseTime(given);
  if (time === undefined)
    throw new InvalidArgumentError('earliest, latest or an ISO time such as 2026-01-31T12:00:00Z is needed.');
  return time;
}

function jsonOf({ topic, partition, message }: TailedMessage): string {
  const headers = Object.fromEntries(Object.entries(message.headers ?? {}).map(([k, v]) => [k, v?.toString()]));
  const { offset, timestamp, key, value } = message;
  return JSON.stringify({
    topic,
    partition,
    offset,
    timestamp: Number(timestamp),
    key: key?.toString() ?? null,
    headers,
    value: read(value),
  });
}

function lineOf({ partition, message }: TailedMessage): string {
  const value = read(message.value);
  const where = paint('dim', `${partition}/${message.offset}`);
  return `${where} ${lineOfRecord(value) ?? `${message.key?.toString() ?? '-'} ${JSON.stringify(value)}`}`;
}

/** Records of our own topics read as the lines of `start` do; anything else stays JSON. */
function lineOfRecord(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if ('points' in value && 'madeAt' in value) return forecastLine(value as ForecastRecord);
  if ('severity' in value && 'openedAt' in value) return anomalyLine(value as AnomalyRecord);
  if ('desired' in value && 'policy' in value) return decisionLine(value as DecisionRecord);
  return undefined;
}

function read(value: Buffer | null): unknown {
  if (value === null) return null;
  try {
    return readableValue(value);
  } catch (error) {
    return { unreadable: messageOf(error), base64: value.toString('base64') };
  }
}
