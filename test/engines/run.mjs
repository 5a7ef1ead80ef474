// Everything that runs WebAssembly, on every engine that is there. With --install, engines that come cheaply by clients of this machine (wasmtime by pip;
// wasm3 by pip and clang) are fetched first, pinned by hash; what could not be had is told and left out. Ends well without having run when no engine but V8
// is there.
import { spawn, spawnSync } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { describeEngines } from '../../dist/src/wasm/engines/describe.js';
import { installEngine } from '../../dist/src/wasm/engines/install.js';

const INSTALL_TIMEOUT_MS = 120_000;
const cheap = { wasmtime: [pipThere], wasm3: [pipThere, clangThere] };

const args = process.argv.slice(2);
const install = args.includes('--install');
const forRunner = args.filter((arg) => arg !== '--install');

if (install) {
  for (const { name, missing } of await describeEngines()) {
    const needs = cheap[name];
    if (missing === undefined || needs === undefined) continue;
    const lacking = needs.map((there) => there()).find((what) => what !== undefined);
    if (lacking !== undefined) console.log(`engines lane: ${name} is not installed, since ${lacking}`);
    else await tryInstall(name);
  }
}

const engines = (await describeEngines()).filter(({ name }) => name !== 'native');
const there = engines.filter((engine) => engine.missing === undefined);
for (const { name, missing } of engines.filter((engine) => engine.missing !== undefined))
  console.log(`engines lane: not on ${name}: ${missing}`);
if (there.length === 0) {
  console.log('engines lane not run: no engine but V8 is there');
  process.exit(0);
}
console.log(
  `engines lane on ${there.map(({ description }) => `${description.name} ${description.version}`).join(', ')}`,
);
process.exit(await vitest());

/** Whoever has no way out to a registry is not made to wait, or to fail. */
async function tryInstall(name) {
  const late = delay(INSTALL_TIMEOUT_MS, 'late', { ref: false });
  const done = installEngine(name, { print: (line) => console.log(`engines lane: ${line}`) }).then(
    () => undefined,
    (error) => error.message,
  );
  const failed = await Promise.race([done, late]);
  if (failed !== undefined)
    console.log(`engines lane: ${name} is not installed: ${failed === 'late' ? 'it took too long' : lastOf(failed)}`);
}

/** Clients say why at the end, after all their tries. */
function lastOf(message) {
  return message.split(' | ').at(-1);
}

function pipThere() {
  const there = ['python3', 'python'].some((python) => answers(python, ['-m', 'pip', '--version']));
  return there || answers('pip3', ['--version']) ? undefined : 'there is no pip';
}

function clangThere() {
  const compiled = spawnSync(
    process.env.CLANG || 'clang',
    ['--target=wasm32-wasi', '-mexec-model=reactor', '-x', 'c', '-o', '/dev/null', '-'],
    { input: '#include <stdlib.h>\nvoid *f(void) { return malloc(1); }\n', timeout: 20_000 },
  );
  return compiled.status === 0 ? undefined : 'there is no clang with a WASI C library';
}

function answers(command, words) {
  return spawnSync(command, words, { stdio: 'ignore', timeout: 10_000 }).status === 0;
}

function vitest() {
  const run = spawn(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.engines.config.ts', ...forRunner],
    { stdio: 'inherit' },
  );
  return new Promise((resolve) => {
    run.on('exit', (code, signal) => {
      if (signal) console.log(`engines lane: the tests' process ended by ${signal}`);
      resolve(code ?? 1);
    });
  });
}
