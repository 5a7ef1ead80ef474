import { describe, expect, test } from 'vitest';
import type { UsageRecord } from '../../../src/functions/billing.js';
import { IdentitySet } from '../../../src/functions/identity-set.js';
import { UsageLedger } from '../../../src/functions/usage-ledger.js';
import { uniform } from '../../support/random.js';

const MINUTE = 60_000;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

function usage(more: Partial<UsageRecord>): UsageRecord {
  return {
    invocationId: 'a',
    attempt: 1,
    function: 'f',
    version: 1,
    startedAt: 0,
    billedMs: 1,
    initMs: 0,
    memoryMb: 128,
    gasUsed: 0,
    success: true,
    signature: '',
    ...more,
  };
}

describe('identities', () => {
  test('are remembered as a set would, until the older half is forgotten', () => {
    const random = uniform(3);
    const identities = new IdentitySet(1_000);
    const reference = new Set<string>();
    for (let i = 0; i < 3_000; i++) {
      const text = String(Math.floor(random() * 900));
      expect(identities.add(text)).toBe(!reference.has(text));
      reference.add(text);
    }
    expect(identities.size).toBe(reference.size);
    for (let i = 0; i < 10_000; i++) identities.add(`more ${i}`);
    expect(identities.size).toBeLessThanOrEqual(2_000);
    expect(identities.add('more 9999')).toBe(false);
    expect(identities.add('more 9000')).toBe(false);
    expect(identities.add('1')).toBe(true);
  });
});

describe('usage ledger', () => {
  test('bills any period as adding up its records does', () => {
    const random = uniform(11);
    const start = Date.UTC(2026, 4, 1);
    const ledger = new UsageLedger();
    const records: UsageRecord[] = [];
    for (let i = 0; i < 20_000; i++) {
      const record = usage({
        invocationId: String(i),
        function: random() < 0.5 ? 'f' : 'g',
        startedAt: start + Math.floor((i / 20_000) * 10 * DAY + random() * HOUR),
        billedMs: 1 + Math.floor(random() * 5_000),
        initMs: random() < 0.1 ? 30 : 0,
        memoryMb: 128 << Math.floor(random() * 5),
        gasUsed: Math.floor(random() * 1e6),
      });
      records.push(record);
      expect(ledger.add(record)).toBe(true);
      if (i % 7 === 0) expect(ledger.add({ ...record, billedMs: 9 })).toBe(false);
    }
    const newest = Math.max(...records.map(({ startedAt }) => startedAt));
    for (let i = 0; i < 300; i++) {
      const from = start + Math.floor(random() * 10 * DAY);
      const to = from + Math.floor(random() ** 4 * 10 * DAY);
      const bill = ledger.bill('f', { start: from, end: to });
      expect(bill.start).toBeLessThanOrEqual(from);
      expect(bill.end).toBeGreaterThanOrEqual(to);
      const unit = to > newest - 2 * DAY + HOUR ? MINUTE : HOUR;
      expect(bill.end - to).toBeLessThan(unit);
      const within = records.filter(
        (one) => one.function === 'f' && one.startedAt >= bill.start && one.startedAt < bill.end,
      );
      const sum = (of: (record: UsageRecord) => number) => within.reduce((total, one) => total + of(one), 0);
      expect(bill).toMatchObject({
        invocationCount: within.length,
        computeTimeMs: sum((one) => one.billedMs),
        initTimeMs: sum((one) => one.initMs),
        gbSeconds: sum((one) => one.billedMs * one.memoryMb) / 1024 / 1000,
        gasUsed: sum((one) => one.gasUsed),
      });
    }
    expect(ledger.bill('f').invocationCount + ledger.bill('g').invocationCount).toBe(20_000);
    expect(ledger.bill('nobody').estimatedCostUsd).toBe(0);
    expect(ledger.names.sort()).toEqual(['f', 'g']);
  });

  test('each try of a call is billed', () => {
    const ledger = new UsageLedger();
    expect([1, 2, 2, 1].map((attempt) => ledger.add(usage({ attempt })))).toEqual([true, true, false, false]);
    expect(ledger.bill('f').invocationCount).toBe(2);
  });

  test('forgets what is older than it keeps', () => {
    const ledger = new UsageLedger();
    for (let day = 0; day < 100; day++) ledger.add(usage({ invocationId: `d${day}`, startedAt: day * DAY }));
    expect(ledger.bill('f').invocationCount).toBeLessThanOrEqual(63);
    expect(ledger.bill('f').invocationCount).toBeGreaterThanOrEqual(62);
    expect(ledger.bill('f', { start: 90 * DAY, end: 91 * DAY }).invocationCount).toBe(1);
  });

  test('what a process with a wrong clock says makes nobody else old', () => {
    const now = Date.UTC(2026, 4, 1);
    const ledger = new UsageLedger(() => now);
    for (let i = 0; i < 10; i++) ledger.add(usage({ invocationId: `r${i}`, startedAt: now - i * MINUTE }));
    ledger.add(usage({ invocationId: 'wrong', startedAt: now + 100 * DAY }));
    ledger.add(usage({ invocationId: 'next', startedAt: now }));
    expect(ledger.bill('f', { end: now + MINUTE }).invocationCount).toBe(11);
    expect(ledger.bill('f', { start: now - 4 * MINUTE, end: now + MINUTE }).invocationCount).toBe(6);
  });
});
