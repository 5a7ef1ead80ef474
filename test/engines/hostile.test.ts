/**
 * Guests that try what an untrusted guest may try (test/guests/hostile), on every engine that is there: each ends as on V8, to the unit of gas, and the
 * engine's other guests go on. An engine that refuses a guest says so by name.
 */
import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { IguanaError, messageOf } from '../../src/errors.js';
import { describeEngines } from '../../src/wasm/engines/describe.js';
import type { EngineName } from '../../src/wasm/engines/engine.js';
import { type CreateOptions, type InstanceHandle, WasmRuntime } from '../../src/wasm/runtime/runtime.js';
import { WasmTrap } from '../../src/wasm/trap.js';

const MIB = 1_048_576;

interface Attack {
  readonly guest: string;
  readonly options: Omit<CreateOptions, 'moduleId'>;
  readonly calls: readonly (readonly [name: string, ...args: number[]])[];
}

const gas = (units: number, more: CreateOptions['limits'] = {}) => ({ limits: { maxInstructions: units, ...more } });
const small = { maxMemory: 32 * MIB };

const attacks: Readonly<Record<string, Attack>> = {
  'loops for ever': { guest: 'endless-loop', options: gas(1_000_000), calls: [['spin'], ['add', 40, 2]] },
  'loops for ever when it starts': { guest: 'starts-for-ever', options: { gas: 100_000 }, calls: [] },
  'recurses for ever': {
    guest: 'endless-recursion',
    options: gas(100_000_000),
    calls: [
      ['recurse', 0],
      ['even', 0],
      ['odd', 0],
      ['recurse_indirect', 0],
    ],
  },
  'recurses with large frames': { guest: 'endless-recursion', options: gas(100_000_000), calls: [['large_frames', 0]] },
  'takes 200 MB of 32': {
    guest: 'memory-hog',
    options: gas(1e9, small),
    calls: [['take', 200], ['take_all'], ['take', 1]],
  },
  'asks for memory for ever': {
    guest: 'memory-hog',
    options: gas(1_000_000, small),
    calls: [
      ['ask_for_ever', 0],
      ['ask_for_ever', 1],
      ['ask_for_ever', 100_000],
    ],
  },
  'fills memory for ever': {
    guest: 'memory-hog',
    options: gas(50_000_000, small),
    calls: [['take', 16], ['fill_for_ever']],
  },
  'wants 4 GiB from the start': { guest: 'wants-all-memory', options: gas(1_000_000), calls: [] },
  'grows its table for ever': {
    guest: 'table-hog',
    options: gas(1_000_000),
    calls: [
      ['take', 200_000],
      ['take_all'],
      ['take', 999],
      ['take', 1],
      ['ask_for_ever', 0],
      ['ask_for_ever', 1],
      ['fill_for_ever'],
    ],
  },
  'begins with data outside of its memory': { guest: 'segment-outside', options: gas(1_000_000), calls: [] },
  'begins with 32 MB of data in a small memory': {
    guest: 'huge-data',
    options: gas(1_000_000, { maxMemory: MIB }),
    calls: [],
  },
  'calls the host for ever': {
    guest: 'time-and-chance',
    options: { ...gas(1_000_000), wasi: { clock: { start: 0 }, random: { seed: 7 } } },
    calls: [['flood'], ['flood_random'], ['look']],
  },
  'writes for ever': {
    guest: 'log-flood',
    options: { ...gas(20_000_000), wasi: {} },
    calls: [
      ['write_for_ever', 1],
      ['write_outside', 1],
    ],
  },
  'reads and writes outside of its memory': {
    guest: 'reads-others',
    options: gas(100_000_000),
    calls: [
      ['peek', 131_072],
      ['peek', -1],
      ['poke', 0x7fff_fff0, 1],
      ['poke', -4, 1],
      ['keep', 0x5eed_c0de],
    ],
  },
  'makes every trap': {
    guest: 'traps',
    options: gas(1_000_000),
    calls: [
      ['unreachable'],
      ['divide', 1, 0],
      ['divide', -2_147_483_648, -1],
      ['remainder', 1, 0],
      ['read', 131_069],
      ['write', -1],
      ['fill', 65_536, 65_537],
      ['call', 0],
      ['call', 2],
      ['call', 3],
      ['call', 1],
    ],
  },
};

/** One page of memory and an active segment of so many bytes. */
function hugeData(length: number): Uint8Array {
  const leb = (value: number): number[] =>
    value < 128 ? [value] : [(value % 128) | 128, ...leb(Math.floor(value / 128))];
  const start = [1, 0, 0x41, 0, 0x0b, ...leb(length)];
  const head = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 5, 3, 1, 0, 1, 11, ...leb(start.length + length), ...start];
  const bytes = new Uint8Array(head.length + length);
  bytes.set(head);
  return bytes;
}

const bytesOf = (guest: string): Uint8Array =>
  guest === 'huge-data'
    ? hugeData(32 * MIB)
    : new Uint8Array(readFileSync(new URL(`../guests/hostile/${guest}.wasm`, import.meta.url)));

const runtime = new WasmRuntime({ workers: 2 });
afterAll(() => runtime.close());

/** What became of an action, in a word. */
async function ending(action: () => Promise<unknown>): Promise<string> {
  try {
    return String(await action());
  } catch (error) {
    // engines call a null element one or the other
    if (error instanceof WasmTrap) return error.trap === 'undefined-element' ? 'indirect-call-mismatch' : error.trap;
    if (error instanceof IguanaError) return error.code;
    throw error;
  }
}

const call = (instance: InstanceHandle, name: string, args: readonly number[] = []) =>
  runtime.callFunction(
    instance,
    name,
    args.map((value) => ({ type: 'i32', value })),
  );

/** Every step's end and the gas that it took. */
async function attempt(engine: EngineName, { guest, options, calls }: Attack): Promise<string[]> {
  const { id } = await runtime.loadModule(bytesOf(guest));
  let instance: InstanceHandle | undefined;
  const made = await ending(async () => {
    instance = await runtime.createInstance({ ...options, moduleId: id, runtime: engine });
    return 'made';
  });
  const steps = [made];
  if (!instance) return steps;
  for (const [name, ...args] of calls) {
    const end = await ending(async () => (await call(instance!, name, args)).map(({ value }) => value));
    steps.push(`${name}(${args}) ${end} for ${(await runtime.getGasUsed(instance)).lastCall}`);
  }
  await runtime.destroy(instance);
  return steps;
}

async function bystander(engine: EngineName): Promise<unknown> {
  const { id } = await runtime.loadModule(bytesOf('endless-loop'));
  const instance = await runtime.createInstance({ moduleId: id, runtime: engine });
  const [sum] = await call(instance, 'add', [40, 2]);
  await runtime.destroy(instance);
  return sum?.value;
}

for (const state of await describeEngines()) {
  const { name } = state;
  if (name === 'native') continue;
  describe.skipIf('missing' in state)(name, () => {
    for (const [what, attack] of Object.entries(attacks)) {
      it(`ends a guest that ${what} as V8 does`, async (context) => {
        const there = await attempt(name, attack);
        expect(await bystander(name)).toBe(42);
        if (there[0] === 'IGU_WASM_UNSUPPORTED') context.skip(`${name} refuses it: it lacks what the guest uses`);
        // more than is given to a C compiler
        const expected =
          name === 'wasm2c' && attack.guest === 'huge-data' ? ['IGU_WASM_LIMIT'] : await attempt('native', attack);
        expect(there).toEqual(expected);
      });
    }

    it('stops a loop by the clock, or wants a gas limit for that', async () => {
      const { id } = await runtime.loadModule(bytesOf('endless-loop'));
      const options = { moduleId: id, runtime: name, limits: { timeout: 30 } };
      if (name === 'wasmer' || name === 'wasm2c') {
        const refused = await runtime.createInstance(options).catch((error: unknown) => messageOf(error));
        expect(refused).toContain('IGU_WASM_UNSUPPORTED a timeout without a gas limit');
        return;
      }
      const [loop, other] = await Promise.all([runtime.createInstance(options), runtime.createInstance(options)]);
      const begin = performance.now();
      expect(await Promise.all([loop, other].map((one) => ending(() => call(one!, 'spin'))))).toEqual([
        'timeout',
        'timeout',
      ]);
      expect(performance.now() - begin).toBeLessThan(3_000);
      await Promise.all([runtime.destroy(loop!), runtime.destroy(other!)]);
      expect(await bystander(name)).toBe(42);
    });

    it('keeps what a guest left from the next one', async () => {
      const { id } = await runtime.loadModule(bytesOf('reads-others'));
      const create = () => runtime.createInstance({ moduleId: id, runtime: name });
      const secret = 0x5eed_c0de;
      const keeper = await create();
      await call(keeper, 'keep', [secret]);
      const counted = async (one: InstanceHandle) =>
        (await call(one, 'count', [secret >>> 16, secret & 0xffff]))[0]?.value;
      expect(await counted(keeper)).toBe(64);
      const reader = await create();
      expect(await counted(reader)).toBe(0);
      await runtime.destroy(keeper);
      for (let i = 0; i < 8; i++) {
        const heir = await create();
        expect(await counted(heir)).toBe(0);
        expect((await call(heir, 'leftovers', [16]))[0]?.value).toBe(0);
        await runtime.destroy(heir);
      }
      await runtime.destroy(reader);
    });
  });
}
