import { describe, expect, it, vi } from 'vitest';
import { GpuForecast, type GpuReadiness } from '../../../src/api/gpu-forecast.js';
import { VirtualClock } from '../../../src/clock.js';
import { localGpus } from '../../../src/gpu/local-gpus.js';
import { seededRandom } from '../../../src/stats/seeded-random.js';
import { gpuOf } from '../gpu/gpu-fixture.js';

const MINUTE = 60_000;
const LASTS = 20;

/** A cluster in which so many workloads begin each minute, and last 20. */
async function simulate(minutes: number, arrivals: (minute: number) => number) {
  const clock = new VirtualClock(1_700_000_040_000);
  const gpus = Array.from({ length: 120 }, (_, i) => gpuOf(`GPU-${i}`));
  const service = await localGpus({ clock, nodes: { here: gpus } });
  const forecast = new GpuForecast(service, 'training', { gpuCount: 1 }, clock.now(), { idleBudget: 0.5 });
  let last: GpuReadiness | undefined;
  let kept = 0;
  const ends: string[][] = [];
  for (let minute = 0; minute < minutes; minute++) {
    clock.advance(MINUTE);
    for (const id of ends.shift() ?? []) await service.release(id);
    const begun: string[] = [];
    for (let i = 0; i < arrivals(minute); i++) {
      const answer = await service.allocate(`w${minute}-${i}`, { owner: 'training', leaseMs: null });
      if (answer.granted) begun.push(answer.allocation.id);
    }
    ends[LASTS - 1] = begun;
    for (let i = 0; i < LASTS - 1; i++) ends[i] ??= [];
    last = await forecast.review(clock.now());
    kept += last.reserved;
  }
  return { service, forecast, last: last!, kept };
}

describe('GpuForecast', () => {
  it('keeps for a steady demand what it will ask for, and gives all back in the end', async () => {
    const { service, forecast, last } = await simulate(120, () => 3);
    expect(last.target).toBeGreaterThanOrEqual(10);
    expect(last.target).toBeLessThanOrEqual(20);
    expect(last).toMatchObject({ reserved: last.target, missing: 0 });
    expect(service.stats().reservations).toBe(last.reserved);
    await forecast.end();
    expect(service.stats()).toMatchObject({ reservations: 0, allocations: 60 });
    await service.stop();
  }, 20_000);

  it('keeps nothing for demand that nobody can foresee', async () => {
    const random = seededRandom(3);
    const { service, last, kept } = await simulate(200, () => (random() < 0.02 ? 2 : 0));
    expect(last.why).toMatch(/would have saved|worth its idle time|there is no forecast/);
    expect(kept).toBeLessThan(20);
    await service.stop();
  }, 20_000);

  it('says what there is no room for, and leaves reservations of others of the owner alone', async () => {
    const clock = new VirtualClock(1_700_000_040_000);
    const service = await localGpus({ clock, nodes: { here: [gpuOf('GPU-0'), gpuOf('GPU-1')] } });
    const own = await service.reserve('training', { gpuCount: 1 }, 3_600_000);
    const forecast = new GpuForecast(service, 'training', {}, clock.now());
    clock.advance(MINUTE);
    expect(await forecast.review(clock.now())).toMatchObject({ target: 0, reserved: 0, missing: 0 });
    await forecast.end();
    expect(service.records().map(({ id }) => id)).toEqual(['id' in own ? own.id : '']);
    await service.stop();
  });

  it('gives back what has ended by itself meanwhile without a word', async () => {
    const { service, forecast, last } = await simulate(120, () => 3);
    expect(last.reserved).toBeGreaterThan(0);
    const told = service.records();
    for (const { id, kind } of told) if (kind === 'reservation') await service.release(id);
    // what this process knows comes a moment later over topics
    vi.spyOn(service, 'records').mockReturnValue(told);
    await forecast.end();
    vi.restoreAllMocks();
    expect(service.stats().reservations).toBe(0);
    await service.stop();
  }, 20_000);
});
