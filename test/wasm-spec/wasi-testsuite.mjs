// The public test programs of WASI (github.com/WebAssembly/wasi-testsuite) against our WASI preview 1, on plain V8.
// Usage: npm run build && node test/wasm-spec/wasi-testsuite.mjs DIRECTORY [--memory | --paths] [--json FILE] [NAME…]
// DIRECTORY is a checkout. Its branch `prod/testsuite-base` brings the programs compiled; on `main` the C ones are built here with clang and wasi-libc, the
// Rust ones with cargo when its wasm32-wasip1 target is there. Default: each program has a fresh host directory; with --memory an in-memory file system,
// with --paths a host directory held by paths, as on systems without /proc.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const built = new URL('../../dist/src/wasm/wasi/', import.meta.url);

if (isMainThread) await main();
else parentPort.postMessage(await runOne(workerData));

async function main() {
  const options = process.argv.slice(2);
  const json = options.includes('--json') ? options.splice(options.indexOf('--json'), 2)[1] : undefined;
  const flags = options.filter((o) => o.startsWith('--'));
  const [suite, ...only] = options.filter((o) => !o.startsWith('--'));
  if (!suite || !existsSync(join(suite, 'tests'))) {
    console.error('wasi-testsuite: give the directory of a checkout of WebAssembly/wasi-testsuite');
    process.exit(2);
  }
  const hold = flags.includes('--memory') ? 'memory' : flags.includes('--paths') ? 'paths' : 'host';
  const scratch = mkdtempSync(join(tmpdir(), 'wasi-testsuite-'));
  const results = [];
  try {
    const programs = [...findPrograms(suite, scratch, results)].filter((p) => !only.length || only.includes(p.name));
    for (const program of programs) results.push(await runInWorker({ ...program, hold, scratch }));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const count = (state) => results.filter((r) => r.state === state).length;
  for (const r of results) if (r.state !== 'passed') console.log(`${r.state} ${r.language}/${r.name}: ${r.why}`);
  console.log(
    `wasi-testsuite (${hold}): ${results.length} programs, ${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped`,
  );
  if (json) writeFileSync(json, JSON.stringify(results, null, 2));
  if (count('failed') > 0 || count('passed') === 0) process.exit(1);
}

/** Programs as { language, name, path, specification, directory }: compiled ones first, else built from their sources. */
function* findPrograms(suite, scratch, results) {
  for (const language of ['assemblyscript', 'c', 'rust']) {
    const compiled = join(suite, 'tests', language, 'testsuite', 'wasm32-wasip1');
    if (existsSync(compiled)) {
      for (const file of readdirSync(compiled).filter((name) => name.endsWith('.wasm')))
        yield describe(language, basename(file, '.wasm'), join(compiled, file), compiled);
    } else yield* build(language, suite, scratch, results);
  }
}

function* build(language, suite, scratch, results) {
  const skip = (name, why) => results.push({ language, name, state: 'skipped', why });
  if (language === 'c') {
    const source = join(suite, 'tests/c/src');
    if (!existsSync(source)) return;
    for (const file of readdirSync(source).filter((name) => name.endsWith('.c'))) {
      const name = basename(file, '.c');
      const path = join(scratch, `${name}.wasm`);
      try {
        execFileSync('clang', ['--target=wasm32-wasi', '-O1', '-o', path, join(source, file)], { stdio: 'pipe' });
      } catch (error) {
        skip(
          name,
          `cannot be built: ${
            String(error.stderr ?? error.message)
              .trim()
              .split('\n')[0]
          }`,
        );
        continue;
      }
      yield describe(language, name, path, source);
    }
  } else if (language === 'rust') {
    const source = join(suite, 'tests/rust/wasm32-wasip1');
    if (!existsSync(join(source, 'Cargo.toml')))
      return skip('*', 'no compiled programs and no Cargo.toml in this checkout');
    try {
      execFileSync(
        'cargo',
        [
          'build',
          '--target=wasm32-wasip1',
          '--target-dir',
          join(scratch, 'rust'),
          '--manifest-path',
          join(source, 'Cargo.toml'),
        ],
        { stdio: 'pipe' },
      );
    } catch (error) {
      return skip(
        '*',
        `cannot be built: ${String(error.stderr ?? error.message)
          .trim()
          .split('\n')
          .at(-1)}`,
      );
    }
    const output = join(scratch, 'rust/wasm32-wasip1/debug');
    for (const file of readdirSync(output).filter((name) => name.endsWith('.wasm')))
      yield describe(language, basename(file, '.wasm'), join(output, file), join(source, 'src/bin'));
  } else skip('*', 'no compiled programs in this checkout, and its compiler is not used here');
}

function describe(language, name, path, directory) {
  const file = join(directory, `${name}.json`);
  const specification = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  return { language, name, path, directory, specification };
}

function runInWorker(program) {
  return new Promise((resolve) => {
    const { language, name } = program;
    const worker = new Worker(new URL(import.meta.url), { workerData: program });
    const late = setTimeout(() => {
      worker.terminate();
      resolve({ language, name, state: 'failed', why: 'not done after 30 s' });
    }, 30_000);
    worker.once('message', (result) => {
      clearTimeout(late);
      resolve({ language, name, ...result });
    });
    worker.once('error', (error) => {
      clearTimeout(late);
      resolve({ language, name, state: 'failed', why: String(error) });
    });
  });
}

/** Runs one program with its own copy of the directory it wants, and checks exit code and output. */
async function runOne({ name, path, directory, specification, hold, scratch }) {
  const { Wasi } = await import(new URL('wasi.js', built));
  const { WasiExit } = await import(new URL('wasi-error.js', built));
  const { HostFileSystem } = await import(new URL('host-file-system.js', built));
  const { MemoryFileSystem } = await import(new URL('memory-file-system.js', built));
  const { args = [], env = {}, root, exit_code = 0, stdout = '', stderr = '' } = legacy(specification);
  if (specification.proposals?.length) return { state: 'skipped', why: `needs ${specification.proposals.join(', ')}` };
  const preopens = [];
  if (root) {
    const copy = mkdtempSync(join(scratch, 'root-'));
    cpSync(join(directory, root), copy, { recursive: true });
    const fileSystem =
      hold === 'memory'
        ? new MemoryFileSystem({ files: filesIn(copy), now: () => BigInt(Date.now()) * 1_000_000n })
        : new HostFileSystem(copy, hold === 'paths' ? { hold: 'paths' } : {});
    if (hold === 'memory') for (const folder of foldersIn(copy)) makeFolder(fileSystem, folder);
    preopens.push({ guest: '/', fileSystem, mode: 'rw' });
  }
  const wasi = new Wasi({ args: [`${name}.wasm`, ...args], env, preopens });
  let code = 0;
  try {
    const module = new WebAssembly.Module(readFileSync(path));
    const { exports } = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.imports() });
    wasi.bind(() => new Uint8Array(exports.memory.buffer));
    exports._start();
  } catch (error) {
    if (error instanceof WasiExit) code = error.code;
    else return { state: 'failed', why: `${error}: ${wasi.stderr.text().trim()}` };
  } finally {
    wasi.close();
  }
  const said = wasi.stderr.text();
  if (code !== exit_code) return { state: 'failed', why: `exit code ${code}, expected ${exit_code}: ${said.trim()}` };
  if (stdout !== '' && wasi.stdout.text() !== stdout) return { state: 'failed', why: `wrote ${wasi.stdout.text()}` };
  if (stderr !== '' && said !== stderr) return { state: 'failed', why: `wrote to standard error: ${said}` };
  return { state: 'passed', why: '' };
}

/** Specifications come in two forms; the one with operations is brought into the other. */
function legacy({ operations, ...rest }) {
  if (!operations) return rest;
  const out = {};
  for (const operation of operations) {
    if (operation.type === 'run')
      Object.assign(out, { args: operation.args, env: operation.env, root: operation.root });
    else if (operation.type === 'wait') out.exit_code = operation.exit_code ?? 0;
    else if (operation.type === 'read') out[operation.id ?? 'stdout'] = operation.payload ?? '';
    else throw new Error(`operation ${operation.type} is not known here`);
  }
  return out;
}

function* namesIn(folder) {
  for (const name of readdirSync(folder, { recursive: true })) yield String(name);
}

function filesIn(folder) {
  const files = {};
  for (const name of namesIn(folder))
    if (statSync(join(folder, name)).isFile()) files[name] = new Uint8Array(readFileSync(join(folder, name)));
  return files;
}

function foldersIn(folder) {
  return [...namesIn(folder)].filter((name) => statSync(join(folder, name)).isDirectory()).sort();
}

function makeFolder(fileSystem, folder) {
  let directory = fileSystem.root(false);
  for (const part of folder.split('/')) {
    if (!directory.lookup(part)) directory.createDirectory(part);
    directory = directory.enter(part);
  }
}
