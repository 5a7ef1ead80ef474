/**
 * What does a call of WASI cost? One small guest (bench/wasm/wasi-calls.c) calls in loops; the ways take turns, CPU time of the best
 * of some rounds. `node bench/wasm-wasi.mjs [rounds]`, default 9. Host files lie in the temporary directory.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { BoundedOutput } from '../dist/src/wasm/wasi/streams.js';
import { Wasi } from '../dist/src/wasm/wasi/wasi.js';
import { interleavedMinimum, machine } from './wasm/measure.mjs';

const rounds = Number(process.argv[2] ?? 9);
const load = loadavg()[0].toFixed(1);
const module = new WebAssembly.Module(readFileSync(new URL('./wasm/wasi-calls.wasm', import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), 'iguana-wasi-bench-'));
mkdirSync(join(folder, 'a/b'), { recursive: true });
writeFileSync(join(folder, 'a/b/c'), 'x'.repeat(65_536));

function ours(preopen, options = {}) {
  const wasi = new Wasi({ preopens: [preopen], ...options });
  const { exports } = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.imports() });
  let view = new Uint8Array(exports.memory.buffer);
  wasi.bind(() => {
    if (view.length === 0) view = new Uint8Array(exports.memory.buffer);
    return view;
  });
  return exports;
}

const stdout = new BoundedOutput(1 << 30);
const memory = ours({ guest: '/', files: { 'a/b/c': 'x'.repeat(65_536) } }, { stdout });
const virtual = ours({ guest: '/', files: {} }, { clock: {} });
const host = ours({ guest: '/', host: folder, mode: 'rw' });

const check = (result) => {
  if (result !== 0) throw new Error(`the guest answered ${result}`);
};
/** Nanoseconds (CPU) a call of each way. */
function measure(calls, ways) {
  const before = () => stdout.clear();
  return interleavedMinimum(ways, check, { runs: rounds, before }).map((ms) => (ms * 1e6) / calls);
}

const rows = [];
const row = (what, calls, ways) => {
  const cost = measure(calls, Object.values(ways));
  for (const [i, name] of Object.keys(ways).entries()) rows.push(`| ${what} | ${name} | ${cost[i].toFixed(0)} |`);
};

try {
  const files = [memory, host].map((exports) => exports.create(3));
  if (files.some((fd) => fd < 0)) throw new Error('the guest cannot make its file');
  const [inMemory, onHost] = files;
  // Each round empties the file; what was open before still writes to it.
  const write = (exports, fd, size, n) => {
    exports.create(3);
    return exports.writes(fd, size, n);
  };
  row('clock_time_get, monotonic', 200_000, {
    ours: () => memory.times(1, 200_000),
    'ours, deterministic': () => virtual.times(1, 200_000),
  });
  row('clock_time_get, time of day', 200_000, {
    ours: () => memory.times(0, 200_000),
  });
  row('fd_write of 16 bytes to standard output, kept', 200_000, { ours: () => memory.writes(1, 16, 200_000) });
  row('fd_write of 4 KiB to standard output, kept', 20_000, { ours: () => memory.writes(1, 4_096, 20_000) });
  for (const [size, n] of [
    [16, 5_000],
    [4_096, 200],
  ])
    row(`fd_write of ${size} bytes to a file`, n, {
      'ours, in memory': () => write(memory, inMemory, size, n),
      'ours, on the host': () => write(host, onHost, size, n),
    });
  const [readMemory, readHost] = [memory, host].map((exports) => exports.create(3));
  check(memory.writes(readMemory, 65_536, 16) | host.writes(readHost, 65_536, 16));
  row('fd_read of 4 KiB of a file, with fd_seek at its end', 5_000, {
    'ours, in memory': () => memory.reads(readMemory, 4_096, 5_000),
    'ours, on the host': () => host.reads(readHost, 4_096, 5_000),
  });
  row('path_open of a/b/c and fd_close', 1_000, {
    'ours, in memory': () => memory.opens(3, 1_000),
    'ours, on the host': () => host.opens(3, 1_000),
  });
} finally {
  rmSync(folder, { recursive: true });
}

const text = `# What a call of WASI costs

CPU time of one call from a guest on V8, nanoseconds; best of ${rounds} rounds in turns. Load average when it began: ${load}.

${machine()}. \`node bench/wasm-wasi.mjs ${rounds}\`

| call | way | ns |
| --- | --- | ---: |
${rows.join('\n')}
`;
writeFileSync(new URL('./results/wasm-wasi.md', import.meta.url), text);
console.log(text);
