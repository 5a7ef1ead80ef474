import { describe, expect, it } from 'vitest';
import { keepLease } from '../../../src/api/gpu-lease.js';
import { VirtualClock } from '../../../src/clock.js';

/** A lease of 60 s whose heartbeats end as `outcome` says. */
function lease(outcome: () => Promise<unknown>, expiresAt: number | null = null) {
  const clock = new VirtualClock(1_000);
  const beats: number[] = [];
  const lost: string[] = [];
  const end = keepLease({
    leaseMs: 60_000,
    expiresAt,
    clock,
    renew: () => {
      beats.push(clock.now() - 1_000);
      return outcome();
    },
    isOver: (error) => error instanceof RangeError,
    onLost: (why) => lost.push(`${clock.now() - 1_000}: ${why}`),
  });
  /** So many seconds, one after the other, with what hangs on them. */
  const pass = async (seconds: number): Promise<void> => {
    for (let i = 0; i < seconds; i++) {
      clock.advance(1_000);
      for (let turns = 0; turns < 5; turns++) await Promise.resolve();
    }
  };
  return { beats, lost, end, pass };
}

describe('keepLease', () => {
  it('beats every third of the lease until it is ended', async () => {
    const { beats, lost, end, pass } = lease(() => Promise.resolve());
    await pass(125);
    end();
    await pass(100);
    expect(beats).toEqual([20_000, 40_000, 60_000, 80_000, 100_000, 120_000]);
    expect(lost).toEqual([]);
  });

  it('beats at once when the lease has lasted a while already', async () => {
    const old = lease(() => Promise.resolve(), 1_000 + 10_000);
    const fresh = lease(() => Promise.resolve(), 1_000 + 60_000);
    await old.pass(25);
    await fresh.pass(25);
    expect([old.beats, fresh.beats]).toEqual([[0, 20_000], [20_000]]);
    old.end();
    fresh.end();
  });

  it('is lost at once when whoever gave it says so, and told once', async () => {
    const { beats, lost, pass } = lease(() => Promise.reject(new RangeError('it is over')));
    await pass(200);
    expect([beats, lost]).toEqual([[20_000], ['20000: it is over']]);
  });

  it('outlives heartbeats that fail, and not the time of the lease', async () => {
    let failing = 7;
    const mended = lease(() => (failing-- > 0 ? Promise.reject(new Error('unreachable')) : Promise.resolve()));
    await mended.pass(300);
    expect(mended.beats.slice(0, 10)).toEqual([20, 25, 30, 35, 40, 45, 50, 55, 75, 95].map((s) => 1000 * s));
    expect(mended.lost).toEqual([]);
    const gone = lease(() => Promise.reject(new Error('unreachable')));
    await gone.pass(300);
    expect([gone.beats.length, gone.lost]).toEqual([8, ['60000: unreachable']]);
  });

  it('is lost when a heartbeat is never answered', async () => {
    const { beats, lost, pass } = lease(() => new Promise(() => undefined));
    await pass(100);
    expect([beats, lost]).toEqual([[20_000], ['60000: no heartbeat got through']]);
  });
});
