import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { brokerLimits } from '../limits.js';
import type { LogConfig, PartitionLog } from './log/log.js';
import { isSystemError, openPartitionLog } from './log/partition-log.js';
import type { KafkaError } from './protocol/error-codes.js';

/** Topic settings the broker acts on, with Kafka's names and defaults. */
export const configDefaults: Readonly<Record<string, string>> = {
  'cleanup.policy': 'delete',
  'retention.ms': '604800000',
  'retention.bytes': '-1',
  'segment.bytes': '67108864',
  'delete.retention.ms': '86400000',
  'max.message.bytes': '1048588',
};

export interface Topic {
  readonly name: string;
  readonly configs: Map<string, string>;
  readonly partitions: PartitionLog[];
}

interface StoredTopic {
  name: string;
  partitions: number;
  configs: Record<string, string>;
}

/** The topics of one broker, in memory or under `directory`: `topics.json` and a folder for each partition. */
export class Topics {
  private readonly topics = new Map<string, Topic>();

  constructor(private readonly directory: string | null) {
    if (!directory) return;
    mkdirSync(directory, { recursive: true });
    const file = this.file();
    if (!existsSync(file)) return;
    for (const stored of JSON.parse(readFileSync(file, 'utf8')) as StoredTopic[]) {
      this.open(stored.name, stored.partitions, new Map(Object.entries(stored.configs)));
    }
  }

  get(name: string): Topic | undefined {
    return this.topics.get(name);
  }

  partition(name: string, index: number): PartitionLog | undefined {
    return this.topics.get(name)?.partitions[index];
  }

  all(): Topic[] {
    return [...this.topics.values()];
  }

  create(name: string, partitions: number, configs: ReadonlyMap<string, string> = new Map()): KafkaError {
    if (!/^[\w.-]{1,249}$/.test(name) || name === '.' || name === '..') return 'INVALID_TOPIC_EXCEPTION';
    if (this.topics.has(name)) return 'TOPIC_ALREADY_EXISTS';
    if (partitions < 1 || this.partitionCount() + partitions > brokerLimits.maxPartitions) return 'INVALID_PARTITIONS';
    if (!configsAreValid(configs)) return 'INVALID_CONFIG';
    this.open(name, partitions, new Map(configs));
    this.save();
    return 'NONE';
  }

  delete(name: string): KafkaError {
    const topic = this.topics.get(name);
    if (!topic) return 'UNKNOWN_TOPIC_OR_PARTITION';
    this.topics.delete(name);
    this.save();
    topic.partitions.forEach((log, index) => {
      log.close();
      if (this.directory) rmSync(this.folder(name, index), { recursive: true, force: true });
    });
    return 'NONE';
  }

  grow(name: string, count: number): KafkaError {
    const topic = this.topics.get(name);
    if (!topic) return 'UNKNOWN_TOPIC_OR_PARTITION';
    const more = count - topic.partitions.length;
    if (more <= 0 || this.partitionCount() + more > brokerLimits.maxPartitions) return 'INVALID_PARTITIONS';
    for (let i = topic.partitions.length; i < count; i++) topic.partitions.push(this.openLog(name, i, topic.configs));
    this.save();
    return 'NONE';
  }

  /** Sets a topic's settings; they act at once. */
  configure(name: string, configs: ReadonlyMap<string, string>, nowMs: number): KafkaError {
    const topic = this.topics.get(name);
    if (!topic) return 'UNKNOWN_TOPIC_OR_PARTITION';
    if (!configsAreValid(configs)) return 'INVALID_CONFIG';
    topic.configs.clear();
    for (const [key, value] of configs) topic.configs.set(key, value);
    this.save();
    for (const log of topic.partitions) log.clean(logConfigOf(topic.configs), nowMs);
    return 'NONE';
  }

  /** Applies retention and compaction everywhere; a log whose files cannot be written now, as on a full disk, is left to the next time. */
  clean(nowMs: number): void {
    for (const topic of this.topics.values()) {
      const config = logConfigOf(topic.configs);
      for (const log of topic.partitions) {
        try {
          log.clean(config, nowMs);
        } catch (error) {
          if (!isSystemError(error)) throw error;
        }
      }
    }
  }

  close(): void {
    for (const topic of this.topics.values()) {
      for (const log of topic.partitions) {
        log.flush();
        log.close();
      }
    }
  }

  private open(name: string, partitions: number, configs: Map<string, string>): void {
    const logs = Array.from({ length: partitions }, (_, i) => this.openLog(name, i, configs));
    this.topics.set(name, { name, configs, partitions: logs });
  }

  private openLog(name: string, index: number, configs: ReadonlyMap<string, string>): PartitionLog {
    return openPartitionLog({ directory: this.directory && this.folder(name, index), config: logConfigOf(configs) });
  }

  private partitionCount(): number {
    let count = 0;
    for (const topic of this.topics.values()) count += topic.partitions.length;
    return count;
  }

  private save(): void {
    if (!this.directory) return;
    const stored: StoredTopic[] = this.all().map((t) => ({
      name: t.name,
      partitions: t.partitions.length,
      configs: Object.fromEntries(t.configs),
    }));
    writeFileSync(`${this.file()}.new`, JSON.stringify(stored, null, 1));
    renameSync(`${this.file()}.new`, this.file());
  }

  private file(): string {
    return path.join(this.directory ?? '', 'topics.json');
  }

  private folder(name: string, index: number): string {
    return path.join(this.directory ?? '', 'topics', `${name}-${index}`);
  }
}

function logConfigOf(configs: ReadonlyMap<string, string>): LogConfig {
  const number = (name: string): number => Number(configs.get(name) ?? configDefaults[name]);
  return {
    cleanupPolicy: configs.get('cleanup.policy') ?? configDefaults['cleanup.policy']!,
    retentionMs: number('retention.ms'),
    retentionBytes: number('retention.bytes'),
    segmentBytes: number('segment.bytes'),
    deleteRetentionMs: number('delete.retention.ms'),
    maxMessageBytes: number('max.message.bytes'),
  };
}

/** Settings the broker does not know are kept but not acted on, as clients send many; those it acts on must make sense. */
function configsAreValid(configs: ReadonlyMap<string, string>): boolean {
  for (const [name, value] of configs) {
    if (!(name in configDefaults)) continue;
    if (name === 'cleanup.policy') {
      if (!/^(delete|compact|compact,delete|delete,compact)$/.test(value)) return false;
    } else if (!/^-?\d+$/.test(value) || Number(value) < -1) return false;
  }
  return true;
}
