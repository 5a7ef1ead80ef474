// How long do snapshots take, to restore, to take, to keep? Usage: node --expose-gc bench/wasm-snapshot.mjs; writes bench/results/wasm-snapshot.md
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { PerformanceObserver, performance } from 'node:perf_hooks';
import { brotliCompressSync, brotliDecompressSync, constants, deflateRawSync, inflateRawSync } from 'node:zlib';
import { NativeEngine } from '../dist/src/wasm/engines/native.js';
import { prepareModule } from '../dist/src/wasm/module/prepare.js';
import { initialImageOf } from '../dist/src/wasm/snapshot/initial-image.js';
import { findDifferingPages } from '../dist/src/wasm/snapshot/page-scan.js';
import { restoreInPlace, restoreSnapshot } from '../dist/src/wasm/snapshot/restore-snapshot.js';
import { createSnapshot } from '../dist/src/wasm/snapshot/snapshot.js';
import { SnapshotStore } from '../dist/src/wasm/snapshot/snapshot-store.js';

const PAGE = 4096;
const MIB = 1_048_576;
const lines = [];
const print = (line) => {
  lines.push(line);
  console.log(line);
};
const ms = (value) => (value < 0.0995 ? value.toFixed(3) : value.toFixed(2));

/** Sorted durations of `rounds` calls; `between` runs before each and is not measured. */
function measure(rounds, run, between = () => undefined) {
  const times = [];
  for (let i = 0; i < rounds; i++) {
    const given = between(i);
    const start = performance.now();
    run(given, i);
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b);
}
const cpuMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** Of three series of 300, the one that the machine disturbed least (lowest 99th of a hundred): durations, and time of processors, sorted each. */
function quietest(run, between) {
  let best;
  for (let series = 0; series < 3; series++) {
    const cpu = [];
    const wall = measure(
      300,
      (given) => {
        const before = cpuMs();
        run(given);
        cpu.push(cpuMs() - before);
      },
      between,
    );
    cpu.sort((a, b) => a - b);
    if (!best || quantile(wall, 0.99) < quantile(best.wall, 0.99)) best = { wall, cpu };
  }
  return best;
}
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
const p50 = (sorted) => ms(quantile(sorted, 0.5));
const p99 = (sorted) => ms(quantile(sorted, 0.99));

const leb = (value) => {
  const out = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 128) return [...out, rest];
    out.push((rest & 127) | 128);
  }
};

/** A module with one memory of so many MiB and a counter. */
function moduleOf(mebibytes) {
  const limits = [1, ...leb(mebibytes * 16), ...leb(mebibytes * 16)];
  const bytes = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  bytes.push(5, limits.length + 1, 1, ...limits); // memory
  bytes.push(6, 6, 1, 0x7f, 1, 0x41, 0, 0x0b); // (global (mut i32) (i32.const 0))
  bytes.push(7, 10, 1, 6, ...Buffer.from('memory'), 2, 0);
  return prepareModule(new Uint8Array(bytes));
}

let seed = 12345;
const random = () => {
  seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
  return seed / 0x7fffffff;
};

/** Writes something into every one of so many pages, all different, `from` pages after the first ones. */
function touch(memory, pages, scattered, from = 0) {
  const all = memory.length / PAGE;
  for (let i = 0; i < pages; i++) {
    const page = ((scattered ? Math.floor((i * all) / pages) : i) + from) % all;
    const start = page * PAGE;
    memory.fill(1 + Math.floor(random() * 255), start, start + PAGE);
    for (let at = start; at < start + 32; at++) memory[at] = Math.floor(random() * 256);
  }
}

const engine = new NativeEngine();

function restoring() {
  print('## Restore\n');
  print(
    'Milliseconds, median / 99th of a hundred; of three series of 300 the one least disturbed. *New*: an instance is made and',
  );
  print(
    'gets the pages; the old one is dropped. *In place*: a live instance in which as many pages were written since, each time',
  );
  print(
    'the same ones; *other pages*: each time others. *Full copy*: all of the memory copied into a new instance, as without',
  );
  print(
    'sparse pages. CPU: time of processors that the process took, its collector threads included; on a busy machine it says',
  );
  print('more than the clock.\n');
  print('| memory | pages | new | new, CPU | in place | in place, CPU | other pages, CPU | full copy |');
  print('| --- | --- | --- | --- | --- | --- | --- | --- |');
}

function restoringOf(mebibytes, pages, scattered) {
  const module = moduleOf(mebibytes);
  const compiled = engine.compile(module);
  const image = initialImageOf(compiled, {});
  const source = compiled.instantiate({});
  touch(source.memory('memory'), pages, scattered);
  const snapshot = createSnapshot(source, module, image);
  if (snapshot.pages.length !== pages * PAGE) throw new Error('not what was touched');
  const fresh = () => restoreSnapshot(snapshot, compiled, {}, image);
  measure(100, fresh);
  const back = quietest(fresh);
  const live = fresh();
  const putBack = () => restoreInPlace(snapshot, live, module, image);
  const inPlace = quietest(putBack, () => touch(live.memory('memory'), pages, scattered, 7));
  const others = quietest(putBack, (i) => touch(live.memory('memory'), pages, scattered, 8 + i));
  if (Buffer.compare(live.memory('memory'), source.memory('memory')) !== 0) throw new Error('not restored');
  const copy = Buffer.from(source.memory('memory'));
  const full = measure(30, () => compiled.instantiate({}).memory('memory').set(copy));
  const what = `${pages} (${(pages * PAGE) / 1024} KiB), ${scattered ? 'scattered' : 'one run'}`;
  const cells = [back.wall, back.cpu, inPlace.wall, inPlace.cpu, others.cpu].map(
    (times) => `${p50(times)} / ${p99(times)}`,
  );
  print(`| ${mebibytes} MiB | ${what} | ${cells.join(' | ')} | ${p50(full)} |`);
}

function taking() {
  print('\n## Take\n');
  print('| memory | state | p50 ms | p99 ms |');
  print('| --- | --- | --- | --- |');
  for (const [mebibytes, pages, state] of [
    [1, 256, 'all of it differs'],
    [64, 0, 'untouched'],
    [64, 256, '256 pages scattered'],
    [64, 4096, '4,096 pages scattered'],
    [64, 16_384, 'all of it differs'],
  ]) {
    const module = moduleOf(mebibytes);
    const compiled = engine.compile(module);
    const image = initialImageOf(compiled, {});
    const instance = compiled.instantiate({});
    touch(instance.memory('memory'), pages, true);
    const times = measure(pages > 1000 ? 20 : 200, () => createSnapshot(instance, module, image));
    print(`| ${mebibytes} MiB | ${state} | ${p50(times)} | ${p99(times)} |`);
  }
}

/** Ways to find pages that are not zero. */
const zeros = Buffer.alloc(65_536);
const scans = {
  'block against itself moved by one byte (ours)': (memory, found) =>
    findDifferingPages(memory, 0, memory.length / PAGE, { runs: new Uint32Array(0), bytes: zeros }, zeros, found),
  'block of 64 KiB against zeros, then pages': (memory, found) => {
    for (let block = 0; block < memory.length; block += 65_536) {
      if (memory.compare(zeros, 0, 65_536, block, block + 65_536) === 0) continue;
      for (let at = block; at < block + 65_536; at += PAGE)
        if (memory.compare(zeros, 0, PAGE, at, at + PAGE) !== 0) found.push(at / PAGE);
    }
  },
  'page against zeros': (memory, found) => {
    for (let at = 0; at < memory.length; at += PAGE)
      if (memory.compare(zeros, 0, PAGE, at, at + PAGE) !== 0) found.push(at / PAGE);
  },
  'loop over Int32Array': (memory, found) => {
    const words = new Int32Array(memory.buffer, memory.byteOffset, memory.length / 4);
    for (let page = 0; page < words.length; page += 1024) {
      let any = 0;
      for (let i = page; i < page + 1024; i += 4) any |= words[i] | words[i + 1] | words[i + 2] | words[i + 3];
      if (any !== 0) found.push(page / 1024);
    }
  },
  'loop over BigUint64Array': (memory, found) => {
    const words = new BigUint64Array(memory.buffer, memory.byteOffset, memory.length / 8);
    for (let page = 0; page < words.length; page += 512)
      for (let i = page; i < page + 512; i++)
        if (words[i] !== 0n) {
          found.push(page / 512);
          break;
        }
  },
};

function scanning() {
  print('\n## Ways to find the pages, 64 MiB\n');
  print('| way | untouched, ms | 256 pages differ | once touched, zero again |');
  print('| --- | --- | --- | --- |');
  const states = [() => undefined, (memory) => touch(memory, 256, true), (memory) => memory.fill(1).fill(0)].map(
    (prepare) => {
      const memory = Buffer.from(new WebAssembly.Memory({ initial: 1024 }).buffer);
      prepare(memory);
      return memory;
    },
  );
  for (const [name, scan] of Object.entries(scans))
    print(`| ${name} | ${states.map((memory) => p50(measure(21, () => scan(memory, [])))).join(' | ')} |`);
}

function pageSizes() {
  print('\n## Size of pages\n');
  print(
    'An 8 MiB heap in which so many objects of 48 bytes were changed; what a snapshot then holds, KiB, and in how many runs.\n',
  );
  print('| objects changed | 1 KiB | 2 KiB | 4 KiB | 8 KiB | 16 KiB | 64 KiB |');
  print('| --- | --- | --- | --- | --- | --- | --- |');
  for (const [title, count, spread] of [
    ['100 anywhere', 100, 1],
    ['1,000 anywhere', 1000, 1],
    ['1,000 in 64 places of 8 KiB', 1000, 0],
    ['10,000 in 64 places of 8 KiB', 10_000, 0],
  ]) {
    const memory = Buffer.alloc(8 * MIB);
    const places = Array.from({ length: 64 }, () => Math.floor(random() * 1023) * 8192);
    for (let i = 0; i < count; i++) {
      const at = spread ? random() * (memory.length - 48) : places[i % 64] + random() * 8144;
      memory.fill(1 + (i % 255), Math.floor(at) & ~7, (Math.floor(at) & ~7) + 48);
    }
    const cells = [1, 2, 4, 8, 16, 64].map((kib) => {
      let held = 0;
      let runs = 0;
      let before = false;
      for (let at = 0; at < memory.length; at += kib * 1024) {
        const differs = memory.compare(zeros, 0, kib * 1024, at, at + kib * 1024) !== 0;
        if (differs) held += kib;
        if (differs && !before) runs++;
        before = differs;
      }
      return `${held} in ${runs}`;
    });
    print(`| ${title} | ${cells.join(' | ')} |`);
  }
}

async function churn() {
  print('\n## A thousand memories of 64 MiB made and dropped, 1 MiB of each touched\n');
  print('| how | ms each p50 | p99 | time in the collector, ms each | largest resident set, MiB |');
  print('| --- | --- | --- | --- | --- |');
  const module = moduleOf(64);
  const compiled = engine.compile(module);
  const image = initialImageOf(compiled, {});
  const source = compiled.instantiate({});
  touch(source.memory('memory'), 256, true);
  const snapshot = createSnapshot(source, module, image);
  let collecting = 0;
  const observer = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) collecting += duration;
  });
  observer.observe({ entryTypes: ['gc'] });
  for (const how of ['new each time', 'in place']) {
    globalThis.gc?.();
    await new Promise((done) => setTimeout(done, 50));
    collecting = 0;
    let largest = 0;
    const live = restoreSnapshot(snapshot, compiled, {}, image);
    const times = [];
    for (let i = 0; i < 1000; i++) {
      const start = performance.now();
      if (how === 'in place') restoreInPlace(snapshot, live, module, image);
      else restoreSnapshot(snapshot, compiled, {}, image);
      times.push(performance.now() - start);
      if (i % 20 === 0) {
        largest = Math.max(largest, process.memoryUsage.rss());
        await new Promise((done) => setImmediate(done));
      }
    }
    await new Promise((done) => setTimeout(done, 50));
    times.sort((a, b) => a - b);
    print(`| ${how} | ${p50(times)} | ${p99(times)} | ${ms(collecting / 1000)} | ${Math.round(largest / MIB)} |`);
  }
  observer.disconnect();
}

/** A heap as programs have: records with pointers, small texts, gaps. */
function heap(bytes) {
  const out = Buffer.alloc(bytes);
  let at = 0;
  for (let i = 0; at + 160 < bytes; i++) {
    out.writeUInt32LE(Math.floor(random() * bytes) & ~15, at);
    out.writeUInt32LE(Math.floor(random() * bytes) & ~15, at + 4);
    out.writeUInt32LE(i, at + 8);
    out.writeDoubleLE(random() * 1000, at + 16);
    at += 24 + out.write(`{"id":${i},"value":${Math.floor(random() * 1000)},"name":"series-${i % 100}"}`, at + 24);
    at = (at + 23) & ~15;
  }
  return out;
}

function compressing() {
  print('\n## Compression of packs (4 MiB of records, pointers and small texts)\n');
  print('| pages together | method | smaller by | MB/s in | MB/s out |');
  print('| --- | --- | --- | --- | --- |');
  const raw = heap(4 * MIB);
  const brotli = (quality) => [
    (part) => brotliCompressSync(part, { params: { [constants.BROTLI_PARAM_QUALITY]: quality } }),
    brotliDecompressSync,
  ];
  const deflate = (level) => [(part) => deflateRawSync(part, { level }), inflateRawSync];
  for (const [pages, name, [pack, unpack]] of [
    [1, 'deflate 1', deflate(1)],
    [16, 'deflate 1', deflate(1)],
    [64, 'deflate 1 (ours)', deflate(1)],
    [256, 'deflate 1', deflate(1)],
    [64, 'deflate 3', deflate(3)],
    [64, 'deflate 6', deflate(6)],
    [64, 'brotli 1', brotli(1)],
    [64, 'brotli 4', brotli(4)],
  ]) {
    const parts = [];
    for (let at = 0; at < raw.length; at += pages * PAGE) parts.push(raw.subarray(at, at + pages * PAGE));
    let packed = [];
    const into = measure(5, () => {
      packed = parts.map((part) => pack(part));
    });
    const out = measure(5, () => packed.map((part) => unpack(part)));
    const size = packed.reduce((sum, { length }) => sum + length, 0);
    const speed = (times) => (raw.length / 1e3 / quantile(times, 0.5)).toFixed(0);
    print(`| ${pages} | ${name} | ${(raw.length / size).toFixed(2)}× | ${speed(into)} | ${speed(out)} |`);
  }
}

async function keeping() {
  print('\n## On disk\n');
  print('| what | p50 ms | p99 ms |');
  print('| --- | --- | --- |');
  const directory = mkdtempSync(join(tmpdir(), 'iguana-bench-'));
  try {
    const store = await SnapshotStore.open(directory);
    const module = moduleOf(64);
    const compiled = engine.compile(module);
    const image = initialImageOf(compiled, {});
    const instance = compiled.instantiate({});
    const save = [];
    const again = [];
    const load = [];
    for (let i = 0; i < 30; i++) {
      const memory = instance.memory('memory');
      memory.set(heap(MIB), MIB * (i % 40));
      if (i > 0) memory.fill(0, MIB * (i - 1), MIB * i);
      const snapshot = createSnapshot(instance, module, image);
      let start = performance.now();
      const id = await store.save(snapshot);
      save.push(performance.now() - start);
      memory[60 * MIB + 5] = i + 1;
      start = performance.now();
      await store.save(createSnapshot(instance, module, image));
      again.push(performance.now() - start);
      start = performance.now();
      await store.load(id);
      load.push(performance.now() - start);
    }
    for (const [what, times] of [
      ['save 1 MiB of new pages', save],
      ['take and save again with one page changed', again],
      ['load 1 MiB', load],
    ])
      print(`| ${what} | ${p50(times.sort((a, b) => a - b))} | ${p99(times)} |`);
    const packs = readdirSync(join(directory, 'packs')).map((name) => statSync(join(directory, 'packs', name)).size);
    const held = packs.reduce((sum, size) => sum + size, 0);
    print(`\n60 snapshots of about 257 pages (60.2 MiB): ${packs.length} packs, ${(held / MIB).toFixed(1)} MiB.`);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

print('# Snapshots of WebAssembly instances\n');
print(
  `Node ${process.version}, ${cpus().length} × ${cpus()[0].model}, ${process.platform} ${process.arch}, load ${loadavg()[0].toFixed(1)} at the start. \`node --expose-gc bench/wasm-snapshot.mjs\`.\n`,
);
restoring();
for (const [mebibytes, pages, scattered] of [
  [1, 16, true],
  [1, 256, false],
  [16, 64, true],
  [16, 256, true],
  [32, 256, true],
  [64, 64, true],
  [64, 256, false],
  [64, 256, true],
])
  restoringOf(mebibytes, pages, scattered);
taking();
scanning();
pageSizes();
await churn();
compressing();
await keeping();
mkdirSync('bench/results', { recursive: true });
writeFileSync('bench/results/wasm-snapshot.md', `${lines.join('\n')}\n`);
