import { describe, expect, test } from 'vitest';
import { defaultPrices, isAuthentic, usageRecord } from '../../../src/functions/billing.js';
import { UsageLedger } from '../../../src/functions/usage-ledger.js';
import { uniform } from '../../support/random.js';

const call = {
  invocationId: 'a',
  function: 'f',
  version: 1,
  startedAt: 0,
  durationMs: 200,
  initMs: 0,
  memoryMb: 512,
  gasUsed: 0,
  success: true,
};

describe('billing', () => {
  test('512 MB for 200 ms is what the published price says', () => {
    const ledger = new UsageLedger();
    ledger.add(usageRecord(call, 'key'));
    const bill = ledger.bill('f');
    expect(bill.gbSeconds).toBe(0.1);
    expect(bill.estimatedCostUsd).toBeCloseTo(0.00000186667, 16);
  });

  test('time is rounded up to the millisecond, initialisation is apart', () => {
    const ledger = new UsageLedger();
    ledger.add(usageRecord({ ...call, durationMs: 0.2, initMs: 3.4, memoryMb: 1024 }, 'key'));
    expect(ledger.bill('f')).toMatchObject({ computeTimeMs: 1, initTimeMs: 4, gbSeconds: 0.001, initGbSeconds: 0.004 });
  });

  test('what is over a millisecond by the error of adding only is not rounded up', () => {
    expect(usageRecord({ ...call, durationMs: 0.1 + 0.2 + 0.7 + 2e-16 }, 'key').billedMs).toBe(1);
    expect(usageRecord({ ...call, durationMs: 1.000001 }, 'key').billedMs).toBe(2);
  });

  test('each try of a call is billed, and signed as the one it is', () => {
    const ledger = new UsageLedger();
    const tries = [1, 2].map((attempt) => usageRecord({ ...call, attempt }, 'key'));
    expect(tries.map((one) => ledger.add(one))).toEqual([true, true]);
    expect(isAuthentic({ ...tries[0]!, attempt: 2 }, 'key')).toBe(false);
  });

  // printf '["a",1,"f",1,0,200,0,512,0,true]' | openssl dgst -sha256 -hmac key
  test('the signature is the HMAC of the fields as a JSON array', () => {
    expect(usageRecord(call, 'key').signature).toBe('33d42fb4bf262678ac296a883c0e9b547e83d78dd07f6b6a2638a1a265f50475');
  });

  test('a record that is written again counts once', () => {
    const ledger = new UsageLedger();
    expect([ledger.add(usageRecord(call, 'key')), ledger.add(usageRecord(call, 'key'))]).toEqual([true, false]);
    expect(ledger.bill('f').invocationCount).toBe(1);
  });

  test('gas is billed when it has a price', () => {
    const ledger = new UsageLedger();
    ledger.add(usageRecord({ ...call, durationMs: 0, gasUsed: 2e9 }, 'key'));
    expect(ledger.bill('f', {}, { ...defaultPrices, billionGas: 3 }).estimatedCostUsd).toBeCloseTo(6.0000002, 12);
  });

  test('a record is authentic until any field is changed or another key is used', () => {
    const record = usageRecord(call, 'key');
    expect(isAuthentic(record, 'key')).toBe(true);
    expect(isAuthentic(record, 'other')).toBe(false);
    for (const change of [
      { billedMs: 1 },
      { success: false },
      { memoryMb: 128 },
      { function: 'g' },
      { signature: '' },
    ]) {
      expect(isAuthentic({ ...record, ...change }, 'key')).toBe(false);
    }
  });

  test('sums of twenty thousand calls are exact', () => {
    const random = uniform(7);
    const ledger = new UsageLedger();
    let megabyteMs = 0n;
    for (let i = 0; i < 20_000; i++) {
      const durationMs = random() * 900_000;
      const memoryMb = 128 + Math.floor(random() * 9_000);
      megabyteMs += BigInt(Math.ceil(durationMs)) * BigInt(memoryMb);
      ledger.add(usageRecord({ ...call, invocationId: String(i), durationMs, memoryMb }, 'key'));
    }
    expect(ledger.bill('f').gbSeconds).toBe(Number(megabyteMs) / 1024 / 1000);
  });
});
