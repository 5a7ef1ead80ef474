/**
 * Usage on its way to the topic and back. Over the usual length because both directions share what waits: a bill is made when the topic has it.
 */
import { type Clock, wallClock } from '../clock.js';
import { checked, encodeAvro } from '../codec/avro.js';
import { encodeJson, type OutputFormat } from '../codec/encode.js';
import { readableValue } from '../codec/readable.js';
import { IguanaError, messageOf } from '../errors.js';
import { defaultPrices, isAuthentic, type PriceTable, type UsageRecord } from '../functions/billing.js';
import { type PeriodBill, UsageLedger, type UsagePeriod } from '../functions/usage-ledger.js';
import { ensureTopics } from '../kafka/admin.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { type FollowedPartition, followPartition } from '../kafka/partition-reader.js';
import { sink as openSink } from '../kafka/sink.js';
import { usageLimits } from '../limits.js';
import { topicOfGroup } from './group-topic.js';
import { UsageJournal } from './usage-journal.js';

/** What a usage topic is called unless its user says otherwise. */
const TOPIC = 'function-usage';
/** Longest wait of a bill for the end of the topic. */
const CATCH_UP_MS = 60_000;

export interface UsageTopicOptions {
  readonly connection: ConnectionOptions;
  /** Consumer group prefix (default `iguana`): each group has its own bills. */
  readonly group?: string;
  /** Default `function-usage`, of another group than `iguana` with its name behind. */
  readonly topic?: string;
  /** Keys whose signatures count: the one that is used now, and those before it. */
  readonly keys: readonly (string | Uint8Array)[];
  readonly prices?: PriceTable;
  /** Directory of this process where records are kept until the topic has them. Default: none; then a kill loses those of the last 200 ms. */
  readonly journal?: string;
  /** Default `json`. */
  readonly format?: OutputFormat;
  readonly onError?: (error: unknown) => void;
  readonly clock?: Clock;
}

export interface UsageCounts {
  /** Records that the topic has from this process. */
  readonly written: number;
  /** Records in memory that the topic does not have yet. */
  readonly waiting: number;
  /** Records that found no room while the topic could not be reached, and had no journal. */
  readonly lost: number;
  /** Records of the topic that could not be read, or whose signature is not right. */
  readonly refused: number;
}

export interface UsageTopic {
  /** Takes a record: `onUsage` of a `FunctionService`. Never throws, never waits. */
  record(usage: UsageRecord): void;
  /** Resolves when the topic has all that was recorded before. Rejects with what keeps it from that. */
  flush(): Promise<void>;
  /**
   * The bill of a function over all processes: all that the topic has when it is asked for, this process's own records among it.
   * @param period ms since 1970, widened to whole minutes (older than two days: hours); default all that is kept, 62 days
   * @throws IguanaError `IGU_BROKER_UNREACHABLE` when the topic cannot be written and read to its end within a minute
   */
  getBilling(name: string, period?: UsagePeriod): Promise<PeriodBill>;
  readonly counts: UsageCounts;
  /** Writes what waits; what cannot be written stays in the journal. */
  stop(): Promise<void>;
}

/** Records that are written together. */
interface Segment {
  /** Undefined: they are in the journal only. */
  records: UsageRecord[] | undefined;
  readonly file: number | undefined;
  /** The journal has all of them. */
  readonly whole: boolean;
}

/**
 * Writes usage to a topic and adds up what every process has written there. At least once: after a crash records may be written again, the ledger counts
 * them once. The first bill of a process reads the whole topic (bench/results/functions-billing.md), later ones what came since.
 */
export async function usageTopic(options: UsageTopicOptions): Promise<UsageTopic> {
  const { connection, keys, prices = defaultPrices, format = 'json', onError } = options;
  const topic = options.topic ?? topicOfGroup(TOPIC, options.group);
  const clock = options.clock ?? wallClock;
  const configs = { 'cleanup.policy': 'delete', 'retention.ms': String(usageLimits.retentionMs) };
  await ensureTopics(connection, [{ topic, partitions: 1, configs }]);
  const kafka = kafkaClient(connection);
  const sink = openSink(kafka);
  await sink.connect();
  const ledger = new UsageLedger(() => clock.now());
  const counts = { written: 0, lost: 0, refused: 0 };
  const report = (error: unknown): void => onError?.(error);

  let journalling = options.journal !== undefined;
  const journal =
    options.journal === undefined
      ? undefined
      : new UsageJournal(options.journal, (error) => {
          // a disk that is full must not end calls; what is in memory is still written
          journalling = false;
          report(error);
        });
  const segments: Segment[] = (journal?.segments() ?? []).map((file) => ({ records: undefined, file, whole: true }));
  let current: UsageRecord[] = [];
  /** Records in memory. */
  let held = 0;

  const accept = (value: unknown): UsageRecord => {
    const record = checked('function-usage', value) as UsageRecord;
    if (keys.some((key) => isAuthentic(record, key))) return record;
    throw new IguanaError('IGU_RECORD_MALFORMED', { what: `usage of ${record.function}: the signature is not right` });
  };
  const refuse = (error: unknown): void => {
    counts.refused++;
    report(error);
  };

  const cut = (): void => {
    const file = journal?.cut();
    if (current.length === 0) return;
    segments.push({ records: current, file, whole: journalling });
    current = [];
  };
  const readBack = ({ file }: Segment): UsageRecord[] => {
    const records: UsageRecord[] = [];
    for (const line of file === undefined || !journal ? [] : journal.read(file)) {
      try {
        records.push(accept(JSON.parse(line)));
      } catch (error) {
        refuse(error);
      }
    }
    return records;
  };
  const writeSegment = async (records: readonly UsageRecord[]): Promise<void> => {
    for (let from = 0; from < records.length; from += usageLimits.maxFlush) {
      const part = records.slice(from, from + usageLimits.maxFlush);
      const encoded = part.map((record) => ({
        key: record.function,
        value: format === 'avro' ? encodeAvro('function-usage', record) : encodeJson(record),
      }));
      await sink.write(topic, encoded);
      counts.written += part.length;
    }
  };
  const writeAll = async (): Promise<void> => {
    cut();
    for (let segment = segments[0]; segment; segment = segments[0]) {
      let records = segment.records;
      try {
        records ??= readBack(segment);
      } catch (error) {
        // its file is left for the next start; what came after must not wait for it
        report(error);
        segments.shift();
        continue;
      }
      await writeSegment(records);
      segments.shift();
      if (segment.records) held -= segment.records.length;
      if (segment.file !== undefined) journal?.remove(segment.file);
    }
  };
  /** Leaves in the journal what it has, so that memory is bounded while the topic cannot be reached. */
  const makeRoom = (): void => {
    cut();
    for (const segment of segments) {
      if (!segment.whole || !segment.records) continue;
      held -= segment.records.length;
      segment.records = undefined;
    }
  };
  let writing: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  const write = (): Promise<void> => {
    writing = writeAll().finally(() => {
      writing = undefined;
    });
    return writing;
  };
  const flush = (): Promise<void> => {
    if (next) return next;
    if (!writing) return write();
    // what was recorded since a write began goes with the next, for all who wait
    next = writing
      .catch(() => undefined)
      .then(() => {
        next = undefined;
        return write();
      });
    return next;
  };
  let failing = false;
  const flushQuietly = async (): Promise<void> => {
    if (writing) return;
    try {
      await flush();
      failing = false;
    } catch (error) {
      // once an outage, not five times a second
      if (!failing) report(error);
      failing = true;
    }
  };

  const record = (usage: UsageRecord): void => {
    if (held >= usageLimits.maxWaiting) makeRoom();
    if (journalling) journal?.append(JSON.stringify(usage));
    if (held >= usageLimits.maxWaiting) {
      if (counts.lost++ === 0)
        report(new IguanaError('IGU_BROKER_UNREACHABLE', { brokers: connection.brokers.join() }));
      return;
    }
    held++;
    current.push(usage);
    if (current.length >= usageLimits.maxFlush) void flushQuietly();
  };

  let following: FollowedPartition | undefined;
  /** From the first bill on: a process that is asked for none reads nothing. */
  const follow = (): FollowedPartition => {
    following ??= followPartition(
      kafka,
      topic,
      0,
      ({ value }) => {
        try {
          if (value) ledger.add(accept(readableValue(value)));
        } catch (error) {
          refuse(error);
        }
      },
      report,
    );
    return following;
  };
  /** What this process has recorded goes to the topic first, where all of it is counted. */
  const caughtUp = async (): Promise<void> => {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`${topic} was not read to its end within ${CATCH_UP_MS} ms`)),
        CATCH_UP_MS,
      );
    });
    try {
      await Promise.race([flush().then(() => follow().caughtUp()), late]);
    } finally {
      clearTimeout(timer);
    }
  };
  const stopFlushing = clock.every(usageLimits.flushMs, () => void flushQuietly());

  return {
    record,
    flush,
    get counts() {
      return { ...counts, waiting: held };
    },
    async getBilling(name, period = {}) {
      try {
        await caughtUp();
      } catch (cause) {
        const brokers = `${connection.brokers.join(',')} (${messageOf(cause)})`;
        throw new IguanaError('IGU_BROKER_UNREACHABLE', { brokers }, { cause });
      }
      return ledger.bill(name, period, prices);
    },
    async stop() {
      stopFlushing();
      await flush().catch(report);
      journal?.cut();
      await Promise.all([following?.stop(), sink.close()]);
    },
  };
}
