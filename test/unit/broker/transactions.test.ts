import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Groups } from '../../../src/broker/groups.js';
import type { PartitionLog } from '../../../src/broker/log/log.js';
import { Topics } from '../../../src/broker/topics.js';
import { Transactions } from '../../../src/broker/transactions.js';
import { VirtualClock } from '../../../src/clock.js';

const TIMEOUT_MS = 60_000;
const ID = 'tx';

let folder: string;
const open: { close(): void }[] = [];

beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-transactions-'));
});
afterEach(() => {
  for (const one of open.splice(0)) one.close();
  rmSync(folder, { recursive: true, force: true });
});

/**
 * A coordinator over what the folder holds; a second one sees what a kill -9 of the first leaves: all that was written, nothing closed.
 * `appended` may throw, as a crash at that moment would end it.
 */
function coordinator(appended: (log: PartitionLog) => void = () => undefined) {
  const clock = new VirtualClock(1_000);
  const topics = new Topics(folder);
  if (!topics.get('t')) topics.create('t', 2);
  const groups = new Groups(clock, path.join(folder, 'offsets.journal'));
  const transactions = new Transactions(clock, topics, groups, appended, path.join(folder, 'transactions.journal'));
  open.push(topics, groups, transactions);
  const markers = (): number[] => [0, 1].map((index) => Number(topics.partition('t', index)!.endOffset));
  return { clock, topics, groups, transactions, markers };
}

/** Producer with both partitions and one offset in its open transaction. */
function begun(transactions: Transactions): [producerId: bigint, epoch: number] {
  const { producerId, producerEpoch } = transactions.initProducer(ID, TIMEOUT_MS);
  for (const index of [0, 1]) expect(transactions.addPartition(ID, producerId, producerEpoch, 't', index)).toBe('NONE');
  expect(transactions.addGroup(ID, producerId, producerEpoch, 'g')).toBe('NONE');
  const committed = { offset: 41n, metadata: null };
  expect(transactions.addOffset(ID, producerId, producerEpoch, 'g', 't', 0, committed)).toBe('NONE');
  return [producerId, producerEpoch];
}

describe('a crash', () => {
  it('between the markers of two partitions leaves nothing half done: the start after it writes the rest and the offsets', () => {
    const first = coordinator(() => {
      throw new Error('killed');
    });
    const [producerId, epoch] = begun(first.transactions);
    expect(() => first.transactions.endTransaction(ID, producerId, epoch, true)).toThrow('killed');
    expect(first.markers()).toEqual([1, 0]);
    expect(first.groups.committed('g', 't', 0)).toBeUndefined();
    const { transactions, groups, markers } = coordinator();
    expect(markers()[1]).toBe(1);
    expect(groups.committed('g', 't', 0)?.offset).toBe(41n);
    // the client, which had no answer, asks again; to change its mind is too late
    expect(transactions.endTransaction(ID, producerId, epoch, true)).toBe('NONE');
    expect(transactions.endTransaction(ID, producerId, epoch, false)).toBe('INVALID_TXN_STATE');
  });

  it('after the end and before the answer: the repeated EndTxn is answered as the first would have been', () => {
    const first = coordinator();
    const [producerId, epoch] = begun(first.transactions);
    expect(first.transactions.endTransaction(ID, producerId, epoch, true)).toBe('NONE');
    for (let start = 0; start < 2; start++) {
      const { transactions, markers } = coordinator();
      expect(transactions.endTransaction(ID, producerId, epoch, true)).toBe('NONE');
      expect(transactions.endTransaction(ID, producerId, epoch, false)).toBe('INVALID_TXN_STATE');
      expect(markers()).toEqual([1, 1]);
    }
  });

  it('before the decision aborts all of it: the producer cannot go on and commit only what comes later', () => {
    const [producerId, epoch] = begun(coordinator().transactions);
    const { transactions, groups, markers } = coordinator();
    expect(markers()).toEqual([1, 1]);
    expect(transactions.addPartition(ID, producerId, epoch, 't', 0)).toBe('INVALID_PRODUCER_EPOCH');
    expect(transactions.endTransaction(ID, producerId, epoch, true)).toBe('INVALID_PRODUCER_EPOCH');
    expect(groups.committed('g', 't', 0)).toBeUndefined();
    expect(transactions.initProducer(ID, TIMEOUT_MS)).toEqual({
      errorCode: 'NONE',
      producerId,
      producerEpoch: epoch + 2,
    });
  });

  it('with offsets only in the transaction aborts it too: they would be missing from what is committed', () => {
    const first = coordinator();
    const { producerId, producerEpoch } = first.transactions.initProducer(ID, TIMEOUT_MS);
    first.transactions.addGroup(ID, producerId, producerEpoch, 'g');
    first.transactions.addOffset(ID, producerId, producerEpoch, 'g', 't', 0, { offset: 7n, metadata: null });
    const { transactions } = coordinator();
    expect(transactions.addPartition(ID, producerId, producerEpoch, 't', 0)).toBe('INVALID_PRODUCER_EPOCH');
  });
});

it('aborts a transaction after its timeout, fences its producer and wakes who waits for records', () => {
  const woken: PartitionLog[] = [];
  const { clock, topics, groups, transactions, markers } = coordinator((log) => void woken.push(log));
  const [producerId, epoch] = begun(transactions);
  clock.advance(TIMEOUT_MS - 1);
  expect(markers()).toEqual([0, 0]);
  clock.advance(1);
  expect(markers()).toEqual([1, 1]);
  expect(woken).toEqual(topics.get('t')!.partitions);
  expect(transactions.endTransaction(ID, producerId, epoch, true)).toBe('INVALID_PRODUCER_EPOCH');
  expect(groups.committed('g', 't', 0)).toBeUndefined();
});

it('keeps a fenced producer out of the partitions of the newer one, whatever it wrote there before', () => {
  const { transactions } = coordinator();
  const older = transactions.initProducer(ID, TIMEOUT_MS);
  const newer = transactions.initProducer(ID, TIMEOUT_MS);
  expect(newer.producerId).toBe(older.producerId);
  transactions.addPartition(ID, newer.producerId, newer.producerEpoch, 't', 0);
  const mayProduce = (epoch: number, partition: number) =>
    transactions.checkProduce(ID, newer.producerId, epoch, 't', partition);
  expect(mayProduce(older.producerEpoch, 0)).toBe('INVALID_PRODUCER_EPOCH');
  expect(mayProduce(newer.producerEpoch, 0)).toBe('NONE');
  expect(mayProduce(newer.producerEpoch, 1)).toBe('INVALID_TXN_STATE');
  expect(transactions.checkProduce(ID, newer.producerId + 1n, 0, 't', 0)).toBe('INVALID_PRODUCER_ID_MAPPING');
  // another producer has ended nothing yet
  transactions.endTransaction(ID, newer.producerId, newer.producerEpoch, true);
  const { producerId, producerEpoch } = transactions.initProducer(ID, TIMEOUT_MS);
  expect(transactions.endTransaction(ID, producerId, producerEpoch, true)).toBe('INVALID_TXN_STATE');
});
