/**
 * Engines that are native libraries share a process with V8, whose threads come and go: their fault handlers, stacks and callbacks must outlive each of
 * these threads. In a process of its own, whose end tells.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { describeEngines } from '../../src/wasm/engines/describe.js';
import { workerUrl } from '../../src/worker-url.js';

const ROUNDS = 50;
const runtime = workerUrl(new URL('../../src/wasm/runtime/x.ts', import.meta.url).href, './runtime.js').href;
const program = fileURLToPath(new URL('./stress-program.mjs', import.meta.url));

function run(engines: readonly string[]): Promise<{ end: number | string | null; seen: unknown; said: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, runtime, engines.join(','), String(ROUNDS)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 150_000,
    });
    let out = '';
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    child.on('error', reject);
    child.on('close', (code, signal) =>
      resolve({ end: signal ?? code, seen: out === '' ? undefined : JSON.parse(out), said }),
    );
  });
}

it(`ends no process in ${ROUNDS} rounds of making, calling, trapping, destroying and cutting off`, async () => {
  const there = (await describeEngines()).flatMap((one) => ('missing' in one ? [] : [one.name]));
  const expected: Record<string, number> = { 'v8 out-of-bounds-memory': ROUNDS * (4 * there.length + 1) };
  for (const name of there) {
    const words = ['load out-of-bounds-memory', 'unreachable unreachable', 'recurse stack-overflow'];
    for (const word of [...words, 'divide integer-divide-by-zero', 'spin out-of-gas', 'add 42'])
      expected[`${name} ${word}`] = ROUNDS;
    if (['native', 'wasmtime', 'wasm3'].includes(name)) expected[`${name} cut off IGU_WASM_LOST`] = ROUNDS;
  }
  expect(await run(there)).toEqual({ end: 0, seen: expected, said: '' });
}, 160_000);
