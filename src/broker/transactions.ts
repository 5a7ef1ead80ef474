import type { Clock } from '../clock.js';
import { brokerLimits } from '../limits.js';
import type { CommittedOffset, Groups } from './groups.js';
import { Journal } from './journal.js';
import type { PartitionLog } from './log/log.js';
import type { KafkaError } from './protocol/error-codes.js';
import type { Topics } from './topics.js';

interface Transaction {
  producerId: bigint;
  epoch: number;
  timeoutMs: number;
  open: boolean;
  /** What was decided of a transaction whose markers are being written: it is only finished, never changed. */
  decided: boolean | undefined;
  /** True when the last transaction was committed: EndTxn may be sent again. */
  lastOutcome: boolean | undefined;
  readonly partitions: Set<string>;
  /** Offsets that become committed with the transaction, by group. */
  readonly offsets: Map<string, Map<string, CommittedOffset>>;
  cancelTimeout: (() => void) | undefined;
}

/** An offset that becomes committed with a transaction: group, topic/partition, offset, metadata. */
type JournalledOffset = [group: string, key: string, offset: string, metadata: string | null];

/**
 * The next free producer id; or a transactional id's producer with the outcome of its last transaction (l: true commit), the partitions of its open
 * one (o: true) and, once that is decided, the outcome (d: true commit) with the offsets that go along (f).
 */
type JournalEntry = { next: string } | JournalledTransaction;

interface JournalledTransaction {
  id: string;
  pid: string;
  e: number;
  t: number;
  o: boolean;
  p: string[];
  l?: boolean;
  d?: boolean;
  f?: JournalledOffset[];
}

/**
 * The transaction coordinator: producer ids, epochs and fencing, and the end of transactions as markers in every partition (KIP-98).
 * A decision is written down before its markers and offsets, and finished at the next start if a crash comes between; what was open and undecided is aborted then, or after its
 * timeout.
 */
export class Transactions {
  private readonly byId = new Map<string, Transaction>();
  private nextProducerId = 1n;
  private readonly journal: Journal<JournalEntry>;

  constructor(
    private readonly clock: Clock,
    private readonly topics: Topics,
    private readonly groups: Groups,
    /** Told of every log that got a marker: who waits for records may now see more. */
    private readonly appended: (log: PartitionLog) => void,
    journalFile: string | null,
  ) {
    this.journal = new Journal<JournalEntry>(
      journalFile,
      (entry) => {
        if ('next' in entry) this.nextProducerId = BigInt(entry.next);
        else {
          const transaction = fresh(BigInt(entry.pid), entry.e, entry.t);
          transaction.open = entry.o;
          transaction.lastOutcome = entry.l;
          transaction.decided = entry.d;
          for (const [group, key, offset, metadata] of entry.f ?? []) {
            const offsets = transaction.offsets.get(group) ?? new Map<string, CommittedOffset>();
            offsets.set(key, { offset: BigInt(offset), metadata });
            transaction.offsets.set(group, offsets);
          }
          for (const key of entry.p) transaction.partitions.add(key);
          this.byId.set(entry.id, transaction);
        }
      },
      () => [{ next: this.nextProducerId.toString() }, ...[...this.byId].map(([id, t]) => journalled(id, t))],
    );
    for (const [id, transaction] of this.byId) if (transaction.open) this.finish(id, transaction);
  }

  initProducer(
    transactionalId: string | null,
    timeoutMs: number,
  ): { errorCode: KafkaError; producerId: bigint; producerEpoch: number } {
    if (transactionalId === null) return { errorCode: 'NONE', producerId: this.newProducerId(), producerEpoch: 0 };
    const refuse = (errorCode: KafkaError) => ({ errorCode, producerId: -1n, producerEpoch: -1 });
    if (transactionalId === '') return refuse('INVALID_REQUEST');
    if (timeoutMs <= 0 || timeoutMs > brokerLimits.maxTransactionTimeoutMs)
      return refuse('INVALID_TRANSACTION_TIMEOUT');
    let transaction = this.byId.get(transactionalId);
    if (transaction?.open) {
      this.finish(transactionalId, transaction);
    }
    if (!transaction) transaction = fresh(this.newProducerId(), 0, timeoutMs);
    else if (transaction.epoch >= 32_766) transaction = fresh(this.newProducerId(), 0, timeoutMs);
    else transaction.epoch++;
    transaction.timeoutMs = timeoutMs;
    transaction.lastOutcome = undefined;
    this.byId.set(transactionalId, transaction);
    this.journal.append(journalled(transactionalId, transaction));
    return { errorCode: 'NONE', producerId: transaction.producerId, producerEpoch: transaction.epoch };
  }

  addPartition(
    transactionalId: string,
    producerId: bigint,
    epoch: number,
    topic: string,
    partition: number,
  ): KafkaError {
    const transaction = this.checked(transactionalId, producerId, epoch);
    if (typeof transaction === 'string') return transaction;
    if (!this.topics.partition(topic, partition)) return 'UNKNOWN_TOPIC_OR_PARTITION';
    this.begin(transactionalId, transaction);
    transaction.partitions.add(`${topic}/${partition}`);
    this.journal.append(journalled(transactionalId, transaction));
    return 'NONE';
  }

  addGroup(transactionalId: string, producerId: bigint, epoch: number, groupId: string): KafkaError {
    const transaction = this.checked(transactionalId, producerId, epoch);
    if (typeof transaction === 'string') return transaction;
    this.begin(transactionalId, transaction);
    if (!transaction.offsets.has(groupId)) transaction.offsets.set(groupId, new Map());
    // what is open must be known to be open after a crash, or its offsets would be missing from what is then committed
    this.journal.append(journalled(transactionalId, transaction));
    return 'NONE';
  }

  addOffset(
    transactionalId: string,
    producerId: bigint,
    epoch: number,
    groupId: string,
    topic: string,
    partition: number,
    committed: CommittedOffset,
  ): KafkaError {
    const transaction = this.checked(transactionalId, producerId, epoch);
    if (typeof transaction === 'string') return transaction;
    const offsets = transaction.offsets.get(groupId);
    if (!transaction.open || !offsets) return 'INVALID_TXN_STATE';
    offsets.set(`${topic}/${partition}`, committed);
    return 'NONE';
  }

  endTransaction(transactionalId: string, producerId: bigint, epoch: number, commit: boolean): KafkaError {
    const transaction = this.checked(transactionalId, producerId, epoch);
    if (typeof transaction === 'string') return transaction;
    if (!transaction.open) return transaction.lastOutcome === commit ? 'NONE' : 'INVALID_TXN_STATE';
    if (transaction.decided !== undefined && transaction.decided !== commit) return 'INVALID_TXN_STATE';
    this.end(transactionalId, transaction, commit);
    return 'NONE';
  }

  /** Whether a transactional batch may go to a partition: only of the newest producer, inside an open transaction that named it. */
  checkProduce(
    transactionalId: string,
    producerId: bigint,
    epoch: number,
    topic: string,
    partition: number,
  ): KafkaError {
    const transaction = this.checked(transactionalId, producerId, epoch);
    if (typeof transaction === 'string') return transaction;
    return transaction.open && transaction.partitions.has(`${topic}/${partition}`) ? 'NONE' : 'INVALID_TXN_STATE';
  }

  close(): void {
    for (const transaction of this.byId.values()) transaction.cancelTimeout?.();
    this.journal.close();
  }

  private checked(transactionalId: string, producerId: bigint, epoch: number): Transaction | KafkaError {
    const transaction = this.byId.get(transactionalId);
    if (!transaction || transaction.producerId !== producerId) return 'INVALID_PRODUCER_ID_MAPPING';
    return transaction.epoch === epoch ? transaction : 'INVALID_PRODUCER_EPOCH';
  }

  private begin(id: string, transaction: Transaction): void {
    if (transaction.open) return;
    transaction.open = true;
    transaction.cancelTimeout = this.clock.after(transaction.timeoutMs, () => {
      if (transaction.open) this.finish(id, transaction);
    });
  }

  /**
   * Ends an open transaction without its producer: as it was decided, or else by aborting it under a new epoch. That fences the producer, which could
   * otherwise go on in a new transaction and commit a part of what it holds for one.
   */
  private finish(id: string, transaction: Transaction): void {
    if (transaction.decided === undefined) transaction.epoch++;
    this.end(id, transaction, transaction.decided ?? false);
  }

  private end(id: string, transaction: Transaction, commit: boolean): void {
    transaction.cancelTimeout?.();
    transaction.cancelTimeout = undefined;
    transaction.decided = commit;
    this.journal.append(journalled(id, transaction));
    const now = this.clock.now();
    for (const key of transaction.partitions) {
      const cut = key.lastIndexOf('/');
      const log = this.topics.partition(key.slice(0, cut), Number(key.slice(cut + 1)));
      if (!log) continue;
      log.appendMarker(transaction.producerId, transaction.epoch, commit, now);
      this.appended(log);
    }
    if (commit) {
      for (const [groupId, offsets] of transaction.offsets) {
        for (const [key, committed] of offsets) {
          const cut = key.lastIndexOf('/');
          this.groups.commit(groupId, key.slice(0, cut), Number(key.slice(cut + 1)), committed);
        }
      }
    }
    transaction.partitions.clear();
    transaction.offsets.clear();
    transaction.open = false;
    transaction.decided = undefined;
    transaction.lastOutcome = commit;
    this.journal.append(journalled(id, transaction));
  }

  private newProducerId(): bigint {
    const id = this.nextProducerId++;
    this.journal.append({ next: this.nextProducerId.toString() });
    return id;
  }
}

function fresh(producerId: bigint, epoch: number, timeoutMs: number): Transaction {
  return {
    producerId,
    epoch,
    timeoutMs,
    open: false,
    decided: undefined,
    lastOutcome: undefined,
    partitions: new Set(),
    offsets: new Map(),
    cancelTimeout: undefined,
  };
}

function journalled(id: string, t: Transaction): JournalledTransaction {
  const entry: JournalledTransaction = {
    id,
    pid: t.producerId.toString(),
    e: t.epoch,
    t: t.timeoutMs,
    o: t.open,
    p: [...t.partitions],
  };
  if (t.lastOutcome !== undefined) entry.l = t.lastOutcome;
  if (t.decided === undefined) return entry;
  entry.d = t.decided;
  entry.f = [...t.offsets].flatMap(([group, byPartition]) =>
    [...byPartition].map(([key, { offset, metadata }]): JournalledOffset => [group, key, offset.toString(), metadata]),
  );
  return entry;
}
