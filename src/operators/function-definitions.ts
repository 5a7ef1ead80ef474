import { setTimeout as sleep } from 'node:timers/promises';
import { IguanaError } from '../errors.js';
import type { CodeReference, FunctionRecord } from '../functions/function-record.js';
import { ensureTopics } from '../kafka/admin.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { exclusiveTransaction } from '../kafka/exclusive-transaction.js';
import { followPartition, type StoredRecord } from '../kafka/partition-reader.js';
import type { OutRecord } from '../kafka/sink.js';
import { functionDefinitionLimits } from '../limits.js';

/** What a change makes of a function: no record deletes it. `code` is that of the newest version, where it is not kept yet. */
export interface FunctionChange {
  readonly record: FunctionRecord | undefined;
  readonly code?: Uint8Array;
}

/** Told of every change in its order, also of those by other processes; `codeOf` has the code of all versions in the record. */
export type OnFunctionRecord = (
  name: string,
  record: FunctionRecord | undefined,
  codeOf: (sha256: string) => Uint8Array,
) => void;

/** All functions there are, and the one way in which they change. */
export interface FunctionDefinitions {
  readonly records: ReadonlyMap<string, FunctionRecord>;
  /**
   * Makes a change of what there is and resolves when this process was told of it. `decide` may be asked more than once, and sees what all processes
   * have done before; what it throws is passed on. The record it was given means: no change.
   * Errors: `IGU_LIMIT`, and those of the broker.
   */
  change(name: string, decide: (before: FunctionRecord | undefined) => FunctionChange): Promise<void>;
  stop(): Promise<void>;
}

/** Functions of this process alone, gone with it. */
export function localDefinitions(onRecord: OnFunctionRecord): FunctionDefinitions {
  const records = new Map<string, FunctionRecord>();
  const codes = new Map<string, Uint8Array>();
  return {
    records,
    async change(name, decide) {
      const before = records.get(name);
      const change = decide(before);
      if (change.record === before) return;
      const unused = unusedCode(records, name, change.record);
      const newest = change.record?.versions[change.record.newest]?.code.sha256;
      if (newest !== undefined && change.code) codes.set(newest, change.code);
      set(records, name, change.record);
      onRecord(name, change.record, (sha256) => codes.get(sha256)!);
      for (const sha256 of unused) codes.delete(sha256);
    },
    stop: async () => undefined,
  };
}

export interface KeptDefinitionsOptions {
  readonly connection: ConnectionOptions;
  /** Compacted, of one partition. */
  readonly topic: string;
  readonly onRecord: OnFunctionRecord;
  readonly onError: (error: unknown) => void;
}

const FUNCTION = 'function/';
const CODE = 'code/';

/**
 * Functions in a compacted topic: every process has them all, in the same order, and after a restart.
 *
 * A change is one transaction: code in chunks by its content, the function's record, and tombstones of code that nothing uses any more. All processes
 * write under one transactional id, so whoever begins a change ends everybody else's that is under way; it then reads to the end, and decides. So no two
 * processes ever decide on the same state, and versions are the same numbers everywhere.
 * Cost: a change takes about three round trips and the code's transfer; memory: the code of all versions.
 */
export async function keptDefinitions(options: KeptDefinitionsOptions): Promise<FunctionDefinitions> {
  const { connection, topic, onRecord, onError } = options;
  await ensureTopics(connection, [{ topic, partitions: 1, configs: { 'cleanup.policy': 'compact' } }]);
  const kafka = kafkaClient(connection);
  const records = new Map<string, FunctionRecord>();
  const codes = new KeptCode();
  const take = ({ key, value }: StoredRecord): void => {
    const text = key?.toString() ?? '';
    try {
      if (text.startsWith(CODE)) codes.chunk(text.slice(CODE.length), value);
      else if (text.startsWith(FUNCTION)) {
        const name = text.slice(FUNCTION.length);
        const record = value === null ? undefined : (JSON.parse(value.toString()) as FunctionRecord);
        set(records, name, record);
        onRecord(name, record, (sha256) => codes.get(sha256, record!));
      }
    } catch (error) {
      onError(error);
    }
  };
  const following = followPartition(kafka, topic, 0, take, onError);
  await following.caughtUp();
  let before: Promise<unknown> = Promise.resolve();
  const change: FunctionDefinitions['change'] = async (name, decide) => {
    await following.caughtUp();
    const current = records.get(name);
    if (decide(current).record === current) return;
    await retried(() =>
      exclusiveTransaction(kafka, topic, async () => {
        await following.settled();
        return decided(name, decide);
      }),
    );
    await following.settled();
  };
  const decided = (name: string, decide: Parameters<FunctionDefinitions['change']>[1]): OutRecord[] => {
    const known = records.get(name);
    const wanted = decide(known);
    if (wanted.record === known) return [];
    const unused = unusedCode(records, name, wanted.record);
    const newest = wanted.record?.versions[wanted.record.newest]?.code;
    const fresh = newest && wanted.code && !codes.holds(newest) ? chunksOf(newest.sha256, wanted.code) : [];
    const value = wanted.record ? JSON.stringify(wanted.record) : null;
    const gone = unused.flatMap((sha256) =>
      codes.keys(sha256).map((key) => ({ key: CODE + key, value: null, partition: 0 })),
    );
    return [...fresh, { key: FUNCTION + name, value, partition: 0 }, ...gone];
  };
  return {
    records,
    change(name, decide) {
      const changing = before.then(() => change(name, decide));
      before = changing.catch(() => undefined);
      return changing;
    },
    async stop() {
      await before;
      await following.stop();
    },
  };
}

/** Another process that begins a change ends ours: it is made again on what that one left. */
async function retried(attempt: () => Promise<void>): Promise<void> {
  for (let n = 1; ; n++) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof IguanaError || n >= functionDefinitionLimits.maxAttempts) throw error;
      await sleep(Math.random() * 50 * n);
    }
  }
}

/** Checks a change's bounds, and tells which code nothing uses after it. */
function unusedCode(
  records: ReadonlyMap<string, FunctionRecord>,
  name: string,
  record: FunctionRecord | undefined,
): string[] {
  const { maxCodeBytes, maxFunctions, maxRecordBytes } = functionDefinitionLimits;
  const refuse = (limit: string, value: number) => new IguanaError('IGU_LIMIT', { limit, value });
  if (record) {
    if (!records.has(name) && records.size >= maxFunctions) throw refuse('functions', maxFunctions);
    if (Buffer.byteLength(JSON.stringify(record)) > maxRecordBytes)
      throw refuse(`bytes of the definition of ${name}`, maxRecordBytes);
    const newest = record.versions[record.newest]!.code;
    if (newest.bytes > maxCodeBytes) throw refuse(`bytes of the code of ${name}`, maxCodeBytes);
  }
  const used = new Set<string>();
  for (const one of [...[...records.values()].filter((other) => other.name !== name), ...(record ? [record] : [])])
    for (const version of Object.values(one.versions)) used.add(version.code.sha256);
  const before = records.get(name);
  const had = Object.values(before?.versions ?? {}).map((version) => version.code.sha256);
  return [...new Set(had)].filter((sha256) => !used.has(sha256));
}

function set(records: Map<string, FunctionRecord>, name: string, record: FunctionRecord | undefined): void {
  if (record) records.set(name, record);
  else records.delete(name);
}

function chunksOf(sha256: string, code: Uint8Array): OutRecord[] {
  const { chunkBytes } = functionDefinitionLimits;
  const bytes = Buffer.from(code.buffer, code.byteOffset, code.byteLength);
  return Array.from({ length: Math.ceil(bytes.length / chunkBytes) }, (_, i) => ({
    key: `${CODE}${sha256}/${i}`,
    value: bytes.subarray(i * chunkBytes, (i + 1) * chunkBytes),
    partition: 0,
  }));
}

/** Code as it comes in chunks. */
class KeptCode {
  private readonly chunks = new Map<string, Buffer[]>();
  private readonly joined = new Map<string, Uint8Array>();

  /** Whether all of it is there. */
  holds({ sha256, bytes }: CodeReference): boolean {
    const there = (this.chunks.get(sha256) ?? []).reduce((sum, chunk) => sum + (chunk?.length ?? 0), 0);
    return this.chunks.has(sha256) && there === bytes;
  }

  /** @param key SHA-256, a slash and the chunk's number */
  chunk(key: string, value: Buffer | null): void {
    const [sha256 = '', number] = key.split('/');
    if (value === null) {
      this.chunks.delete(sha256);
      this.joined.delete(sha256);
      return;
    }
    const chunks = this.chunks.get(sha256) ?? [];
    chunks[Number(number)] = value;
    this.chunks.set(sha256, chunks);
  }

  get(sha256: string, record: FunctionRecord): Uint8Array {
    const joined = this.joined.get(sha256);
    if (joined) return joined;
    const code = Buffer.concat((this.chunks.get(sha256) ?? []).filter(Boolean));
    const wanted = Object.values(record.versions).find((version) => version.code.sha256 === sha256)?.code.bytes;
    if (code.length !== wanted) {
      const what = `${code.length} of its ${wanted} bytes are in the topic`;
      throw new IguanaError('IGU_FUNCTION_CODE', { name: record.name, what });
    }
    this.joined.set(sha256, code);
    // the bytes are held once
    const { chunkBytes } = functionDefinitionLimits;
    const views = Array.from({ length: Math.ceil(code.length / chunkBytes) }, (_, i) =>
      code.subarray(i * chunkBytes, (i + 1) * chunkBytes),
    );
    this.chunks.set(sha256, views);
    return code;
  }

  /** Keys of the chunks that are kept of it. */
  keys(sha256: string): string[] {
    return [...(this.chunks.get(sha256)?.keys() ?? [])].map((number) => `${sha256}/${number}`);
  }
}
