/**
 * One part of bench/wasm-start.mjs in a process of its own: `node start-part.mjs PART [ARGUMENT…]` writes one JSON object. Times are wall-clock
 * milliseconds.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CodeCache } from '../../dist/src/wasm/aot/v8-code-cache.js';
import { prepareModule } from '../../dist/src/wasm/module/prepare.js';
import { WasmRuntime } from '../../dist/src/wasm/runtime/runtime.js';
import { openEngine } from './engines.mjs';
import { largeModule } from './large-module.mjs';
import { quantile } from './measure.mjs';

const guests = new URL('../../test/guests/', import.meta.url);
const kernels = readFileSync(new URL('./kernels.wasm', import.meta.url));
const [, , part, ...args] = process.argv;

async function timed(action) {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
const spread = (times) => ({
  n: times.length,
  p50: quantile(times, 0.5),
  p99: quantile(times, 0.99),
  most: Math.max(...times),
});
const i32 = (value) => [{ type: 'i32', value }];
const rss = () => {
  globalThis.gc?.();
  return process.memoryUsage.rss();
};

const parts = {
  /** File → metered → compiled → instance → first result, each time a module that was never seen, ways interleaved. */
  async cold(scratch, kilobytes, count) {
    const runtime = new WasmRuntime({ workers: 1, maxModules: 100_000 });
    const through = async (file, options) => {
      const { id } = await runtime.loadModule(file);
      const instance = await runtime.createInstance({ moduleId: id, ...options });
      await runtime.callFunction(instance, 'fib', i32(10));
      return async () => {
        await runtime.destroy(instance);
        runtime.unloadModule(id);
      };
    };
    const ways = {
      'plain V8': async (file) => {
        const module = new WebAssembly.Module(readFileSync(file));
        new WebAssembly.Instance(module).exports.fib(10);
      },
      'Iguana, in place': (file) => through(file, { placement: 'in-place' }),
      'Iguana, in place, not metered': (file) => through(file, { placement: 'in-place', metered: false }),
      'Iguana, in a worker thread': (file) => through(file, { placement: 'worker' }),
    };
    const first = {};
    const times = Object.fromEntries(Object.keys(ways).map((way) => [way, []]));
    let size = 0;
    for (let i = -10; i < Number(count); i++)
      for (const [way, action] of Object.entries(ways)) {
        const file = join(scratch, 'cold.wasm');
        const bytes = largeModule(kernels, Number(kilobytes) * 1000, `${way} ${i}`);
        size = bytes.length;
        writeFileSync(file, bytes);
        let end;
        const took = await timed(async () => {
          end = await action(file);
        });
        await end?.();
        first[way] ??= took;
        if (i >= 0) times[way].push(took);
      }
    await runtime.close();
    return {
      size,
      ways: Object.fromEntries(
        Object.entries(times).map(([way, list]) => [way, { first: first[way], ...spread(list) }]),
      ),
    };
  },

  /** The same with an engine that compiles all before the first call. */
  async coldEngine(scratch, kilobytes, count, name, tier) {
    const engine = await openEngine(name);
    const times = [];
    for (let i = 0; i < Number(count); i++) {
      const file = join(scratch, 'cold-engine.wasm');
      writeFileSync(file, largeModule(kernels, Number(kilobytes) * 1000, `${name} ${i}`));
      let compiled;
      times.push(
        await timed(() => {
          compiled = engine.compile(prepareModule(readFileSync(file)), tier);
          const instance = compiled.instantiate({ iguana: { grow: () => 1 } });
          instance.setGlobal(compiled.module.gas, 2n ** 62n + 2n ** 19n - 1n);
          instance.function('fib')(10);
        }),
      );
      compiled.close();
    }
    return { version: engine.description.version, ...spread(times) };
  },

  async aotCompile(scratch, megabytes) {
    const prepared = prepareModule(largeModule(kernels, Number(megabytes) * 1e6, 'ahead'));
    const { bytes, tookMs } = await new CodeCache(join(scratch, 'code')).compileAhead(prepared);
    return { codeBytes: bytes, tookMs };
  },

  /** In a fresh process: time until the module is ready, and of the first and the tenth call of all kernels. */
  async aotLoad(scratch, megabytes, way) {
    const original = largeModule(kernels, Number(megabytes) * 1e6, 'ahead');
    const prepared = prepareModule(original);
    const cache = new CodeCache(join(scratch, 'code'));
    let module;
    const load = await timed(() => {
      module = way === 'ahead' ? cache.load(prepared) : new WebAssembly.Module(prepared.bytes);
    });
    if (module === undefined) throw new Error(cache.stats().lastMiss);
    const instance = new WebAssembly.Instance(module, { iguana: { grow: () => 1 } });
    const call = () =>
      timed(() => {
        instance.exports[prepared.gas].value = 2n ** 62n + 2n ** 19n - 1n;
        instance.exports.sha256(1 << 18);
        instance.exports.json(1 << 16);
      });
    const first = await call();
    for (let i = 0; i < 8; i++) await call();
    return { size: original.length, load, first, tenth: await call() };
  },

  /** Restoring a memory of so many MiB of which 1 MiB was touched since. */
  async snapshot(megabytes, count) {
    const runtime = new WasmRuntime();
    const { id } = await runtime.loadModule(new URL('hostile/reads-others.wasm', guests));
    const options = {
      moduleId: id,
      placement: 'in-place',
      limits: { maxMemory: 128 * 2 ** 20 },
    };
    const instance = await runtime.createInstance(options);
    const pages = Number(megabytes) * 16;
    const inside = runtime.inPlace(instance);
    inside.function('leftovers')(pages - 2);
    const step = Math.floor((pages * 65_536) / 256 / 4096) * 4096;
    const touch = (value) => {
      const memory = inside.memory();
      for (let i = 0; i < 256; i++) memory.fill(value, i * step, i * step + 4096);
    };
    touch(1);
    const create = [];
    let snapshot;
    for (let i = 0; i < 20; i++)
      create.push(
        await timed(async () => {
          snapshot = await runtime.snapshotCreate(instance);
        }),
      );
    const live = [];
    for (let i = -20; i < Number(count); i++) {
      touch(2 + (i & 3));
      const took = await timed(() => runtime.snapshotRestore(instance, snapshot));
      const memory = inside.memory();
      if (memory[0] !== 1 || memory[255 * step + 4095] !== 1) throw new Error('not restored');
      if (i >= 0) live.push(took);
    }
    const fresh = [];
    for (let i = -5; i < Math.min(100, Number(count)); i++) {
      let made;
      const took = await timed(async () => {
        made = await runtime.createInstance({ ...options, snapshot });
      });
      if (runtime.inPlace(made).memory()[0] !== 1) throw new Error('not restored');
      await runtime.destroy(made);
      if (i >= 0) fresh.push(took);
    }
    await runtime.close();
    return { create: spread(create), live: spread(live), fresh: spread(fresh) };
  },

  /** Live instances of a module with one page of memory: made, called once, kept. */
  async instances(way, count) {
    const file = new URL('assemblyscript/rolling-deviation.wasm', guests);
    const kept = [];
    let make;
    if (way === 'plain') {
      const module = new WebAssembly.Module(readFileSync(file));
      make = () => {
        const instance = new WebAssembly.Instance(module, { env: { abort() {} } });
        instance.exports.push(1);
        return instance;
      };
    } else {
      const runtime = new WasmRuntime({ maxInstances: 20_000 });
      const { id } = await runtime.loadModule(file);
      const imports = { env: { abort() {} } };
      make = async () => {
        const instance = await runtime.createInstance({ moduleId: id, placement: 'in-place', imports });
        await runtime.callFunction(instance, 'push', [{ type: 'f64', value: 1 }]);
        return instance;
      };
    }
    for (let i = 0; i < 100; i++) kept.push(await make());
    const before = rss();
    const took = await timed(async () => {
      for (let i = 0; i < Number(count); i++) kept.push(await make());
    });
    return {
      count: Number(count),
      bytesEach: (rss() - before) / Number(count),
      microsEach: (took * 1000) / Number(count),
    };
  },

  /** What a call from JavaScript costs, in nanoseconds; `add` of two numbers. */
  async calls() {
    const file = new URL('hostile/endless-loop.wasm', guests);
    const runtime = new WasmRuntime({ workers: 1 });
    const { id } = await runtime.loadModule(file);
    const here = await runtime.createInstance({ moduleId: id, placement: 'in-place' });
    const limited = await runtime.createInstance({ moduleId: id, placement: 'in-place', gas: 1e12 });
    const timeLimited = await runtime.createInstance({
      moduleId: id,
      placement: 'in-place',
      limits: { timeout: 1_000 },
    });
    const away = await runtime.createInstance({ moduleId: id, placement: 'worker' });
    const plain = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(file))).exports.add;
    const loop = (run, times) => () => {
      for (let i = 0; i < times; i++) run(i, 1);
    };
    const asyncLoop = (ref, times) => async () => {
      for (let i = 0; i < times; i++) await runtime.callFunction(ref, 'add', [...i32(i), ...i32(1)]);
    };
    const raw = runtime.inPlace(here).function('add');
    const rawLimited = runtime.inPlace(limited).function('add');
    const rawTimed = runtime.inPlace(timeLimited).function('add');
    const cases = {
      'plain V8 export': [loop(plain, 1_000_000), 1_000_000],
      'in place, `function`': [loop(raw, 1_000_000), 1_000_000],
      'in place, `function`, gas limit': [loop(rawLimited, 1_000_000), 1_000_000],
      'in place, `function`, timeout': [loop(rawTimed, 500), 500],
      'in place, `callFunction`': [asyncLoop(here, 100_000), 100_000],
      'in a worker thread, one after the other': [asyncLoop(away, 3_000), 3_000],
      'in a worker thread, 64 at a time': [
        async () => {
          for (let i = 0; i < 100; i++)
            await Promise.all(
              Array.from({ length: 64 }, () => runtime.callFunction(away, 'add', [...i32(i), ...i32(1)])),
            );
        },
        6_400,
      ],
    };
    const result = {};
    for (let round = 0; round < 5; round++)
      for (const [name, [action, times]] of Object.entries(cases)) {
        const each = ((await timed(action)) * 1e6) / times;
        result[name] = Math.min(result[name] ?? Number.POSITIVE_INFINITY, each);
      }
    await runtime.close();
    return result;
  },

  async callsEngine(name) {
    const engine = await openEngine(name);
    const prepared = prepareModule(readFileSync(new URL('hostile/endless-loop.wasm', guests)));
    const instance = engine.compile(prepared).instantiate({ iguana: { grow: () => 1 } });
    instance.setGlobal(prepared.gas, 2n ** 62n + 2n ** 19n - 1n);
    const add = instance.function('add');
    let best = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 5; round++)
      best = Math.min(
        best,
        await timed(() => {
          for (let i = 0; i < 20_000; i++) add(i, 1);
        }),
      );
    return { version: engine.description.version, each: (best * 1e6) / 20_000 };
  },

  /** Milliseconds beyond the timeout of 20 ms until the caller has its error. */
  async stop(count) {
    const runtime = new WasmRuntime({ workers: 1 });
    const { id } = await runtime.loadModule(new URL('hostile/endless-loop.wasm', guests));
    const result = {};
    for (const [name, placement, neighbours] of [
      ['in place', 'in-place', 0],
      ['in a worker thread of its own (the thread is ended)', 'worker', 0],
      ['in a worker thread with others (the call is ended)', 'worker', 1],
    ]) {
      const others = [];
      for (let i = 0; i < neighbours; i++) others.push(await runtime.createInstance({ moduleId: id, placement }));
      const beyond = [];
      for (let i = 0; i < Number(count); i++) {
        const instance = await runtime.createInstance({ moduleId: id, placement });
        await runtime.callFunction(instance, 'add', [...i32(1), ...i32(2)]);
        await runtime.setResourceLimits(instance, { timeout: 20 });
        const took = await timed(() =>
          runtime.callFunction(instance, ['spin', 'nested'][i % 2]).catch(() => undefined),
        );
        beyond.push(took - 20);
        await runtime.destroy(instance);
      }
      for (const other of others) await runtime.destroy(other);
      result[name] = spread(beyond);
    }
    await runtime.close();
    return result;
  },
};

// idle worker threads do not keep a process alive
const alive = setInterval(() => {}, 60_000);
try {
  console.log(JSON.stringify(await parts[part](...args)));
} catch (error) {
  console.log(JSON.stringify({ missing: error.message.split('\n')[0] }));
}
clearInterval(alive);
process.exit(0);
