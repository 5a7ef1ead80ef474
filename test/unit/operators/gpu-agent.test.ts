import { expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import type { GpuInventory } from '../../../src/gpu/inventory.js';
import { type Gpu, known } from '../../../src/gpu/types.js';
import { gpuSchedulerLimits } from '../../../src/limits.js';
import { gpuAgent } from '../../../src/operators/gpu-agent.js';
import { decodeGpuInventory } from '../../../src/operators/gpu-records.js';
import { gpuOf, healthOf } from '../gpu/gpu-fixture.js';

async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

function agentOf(first: readonly Gpu[]) {
  const clock = new VirtualClock(1_000_000);
  let gpus = first;
  let broken: Error | undefined;
  const written: { topic: string; at: number; values: (Buffer | null)[] }[] = [];
  const errors: unknown[] = [];
  const broker = { gone: false, slow: undefined as Promise<void> | undefined };
  const inventory = (): GpuInventory => ({
    ...{ gpus, tools: [], takenAt: clock.now(), summary: '', problems: [] },
  });
  const agent = gpuAgent({
    ...{ node: 'n1', inventory: 'inventory', metrics: 'metrics', clock, onError: (error) => errors.push(error) },
    discovery: {
      inventory,
      look: async () => {
        if (broken) throw broken;
        return inventory();
      },
    },
    sink: {
      async write(topic, records) {
        await broker.slow;
        if (broker.gone) throw new Error('no broker');
        written.push({ topic, at: clock.now(), values: records.map(({ value }) => value as Buffer | null) });
      },
    },
  });
  const pass = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 1_000) {
      clock.advance(1_000);
      await settled();
    }
  };
  const told = () => written.filter(({ topic }) => topic === 'inventory');
  const tell = (next: readonly Gpu[]): void => {
    gpus = next;
  };
  const breaks = (error: Error | undefined): void => {
    broken = error;
  };
  return { agent, clock, pass, told, tell, written, errors, broker, breaks };
}

test('an inventory is told every few seconds, and at once when something changes', async () => {
  const one = agentOf([gpuOf('GPU-1')]);
  await one.agent.looked;
  await settled();
  expect(one.told()).toHaveLength(1);
  await one.pass(gpuSchedulerLimits.inventoryEveryMs);
  expect(one.told()).toHaveLength(2);
  one.tell([gpuOf('GPU-1', { health: healthOf('lost') })]);
  await one.pass(1_000);
  expect(one.told()).toHaveLength(3);
  const { node, timestamp, gpus } = decodeGpuInventory(one.told()[2]!.values[0]!);
  expect({ node, timestamp }).toEqual({ node: 'n1', timestamp: one.clock.now() });
  expect(gpus[0]!.health.state).toBe('lost');
  await one.agent.stop();
});

test('a machine without GPUs says nothing; one that had some says that they are gone', async () => {
  const one = agentOf([]);
  await one.pass(30_000);
  expect(one.written).toEqual([]);
  one.tell([gpuOf('GPU-1', { utilization: known(5) })]);
  await one.pass(1_000);
  one.tell([]);
  await one.pass(1_000);
  expect(one.told().map(({ values }) => decodeGpuInventory(values[0]!).gpus.length)).toEqual([1, 0]);
  await one.agent.stop();
});

test('of what could not be written only the newest is told, when it can be again', async () => {
  const one = agentOf([gpuOf('GPU-1')]);
  await one.agent.looked;
  await settled();
  one.broker.gone = true;
  await one.pass(60_000);
  expect(one.errors.length).toBeGreaterThan(0);
  one.broker.gone = false;
  const before = one.told().length;
  await one.pass(1_000);
  expect(one.told().slice(before)).toMatchObject([{ at: one.clock.now() }]);

  let back = (): void => undefined;
  one.broker.slow = new Promise((resolve) => {
    back = resolve;
  });
  await one.pass(60_000);
  expect(one.told()).toHaveLength(before + 1);
  back();
  await settled();
  // what was being written, and the newest
  expect(one.told()).toHaveLength(before + 3);
  await one.agent.stop();
});

test('a change that comes while an inventory is being written is told right after', async () => {
  const one = agentOf([gpuOf('GPU-1')]);
  await one.agent.looked;
  await settled();
  let written = (): void => undefined;
  one.broker.slow = new Promise((resolve) => {
    written = resolve;
  });
  await one.pass(gpuSchedulerLimits.inventoryEveryMs);
  one.tell([gpuOf('GPU-1', { health: healthOf('lost') })]);
  await one.pass(1_000);
  written();
  await settled();
  expect(decodeGpuInventory(one.told().at(-1)!.values[0]!).gpus[0]!.health.state).toBe('lost');
  await one.agent.stop();
});

test('a look that fails is told, and the next one is taken', async () => {
  const one = agentOf([gpuOf('GPU-1')]);
  await one.agent.looked;
  await settled();
  one.breaks(new Error('a tool that does what none does'));
  await one.pass(10_000);
  expect(one.errors).toHaveLength(10);
  one.breaks(undefined);
  const before = one.told().length;
  await one.pass(gpuSchedulerLimits.inventoryEveryMs);
  expect(one.told().length).toBeGreaterThan(before);
  await one.agent.stop();
});
