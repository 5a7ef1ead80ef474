/**
 * Gets an engine that does not come with the package, through the clients people already have (pip, clang, cargo), pinned by version and hash; never while
 * the package itself is installed. One file: each engine is a short recipe over the same few steps.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmEngineLimits } from '../../limits.js';
import { engineDirectory, type LibraryPlace, wasm3Place, wasmerPlace, wasmtimePlace } from './native-library.js';

export type InstallableEngine = 'wasmtime' | 'wasm3' | 'wasmer';

export interface InstallOptions {
  /** One line of progress. */
  readonly print: (line: string) => void;
  /** Needed for what takes minutes: the cost is told first. */
  readonly yes?: boolean;
}

/** sha256 of what PyPI has, by platform and architecture of Node. */
const wasmtimeWheels: Readonly<Record<string, string>> = {
  'linux-x64': 'cc14c3a17654e0394e0225b11813532ef0cd7bd1e222a0c5494cdedaabeddac4',
  'linux-arm64': '675484e525c028dc02762b777f1db4477ea70caa3fec6775426daff4d64edfb1',
  'darwin-x64': '13fe813b922712a9e10fe0f48b2c56da06432eea4b24269bb7cd3a6b2720560b',
  'darwin-arm64': 'ff4fc58ed3cbdb919d056accd4d280be13962a542754aaefd8a9b4654efa9bd9',
  'win32-x64': 'a8999581230471f4ff62073b1111eff3a01d45ccec0a908da3f2ae3a499d459c',
  'win32-arm64': '83ddab2358ebde392a065581f2c66995a711ccc25ad0aee7b1d20f8c688075d2',
};

const WASM3_SOURCES = '5a47c8a39f7f6ae71b3316b2e5d86c9d0db6e771a65f09a86e4d4aa3a19aefcc';

/** Units of wasm3 that are compiled with `wasm3-overrides.h` in front. */
const executing = ['m3_compile.c', 'm3_exec.c', 'm3_bind.c'];

const WASM3_FLAGS = [
  '--target=wasm32-wasi',
  '-O3',
  '-fomit-frame-pointer',
  '-mtail-call',
  '-mbulk-memory',
  '-mnontrapping-fptoint',
  '-msign-ext',
  '-DNASSERTS',
  '-Dd_m3RecordBacktraces=1',
  // with slots of 32 bits it gives the second half of a local that stands on the operand stack twice to another value
  '-Dd_m3Use32BitSlots=0',
  // wasm3's 2000 is little for what metering adds; each costs 10 bytes that are cleared for every segment of a module
  '-Dd_m3MaxFunctionStackHeight=4000',
];

const WASM3_LINK_FLAGS = [
  '--target=wasm32-wasi',
  '-mexec-model=reactor',
  '-Wl,--strip-all',
  '-Wl,--stack-first',
  '-Wl,-z,stack-size=262144',
];

/**
 * Puts an engine into the cache directory, all or nothing: it is made beside its place and moved there when it is whole. Cost: wasmtime 10 MB of download,
 * wasm3 75 KB and some 5 s of clang, wasmer 13 minutes of one core and 1.1 GB of temporary files.
 * @returns the engine's file.
 * @throws IguanaError `IGU_WASM_ENGINE_MISSING` naming the client that is missing or what it said; `IGU_USAGE` when a costly build was not agreed to.
 */
export async function installEngine(name: InstallableEngine, options: InstallOptions): Promise<string> {
  const { place, make } = recipes[name];
  if (name === 'wasmer' && !options.yes) {
    throw new IguanaError('IGU_USAGE', {
      what:
        'wasmer is built from source with cargo: about 13 minutes of one core, 270 crates from the crates registry, ' +
        '1.1 GB of temporary files, 18 MB kept. Say --yes to do it',
    });
  }
  const home = engineDirectory(place);
  await mkdir(path.dirname(home), { recursive: true });
  const staging = await mkdtemp(`${home}.new-`);
  try {
    const made = path.join(staging, 'engine');
    await mkdir(made);
    const source = await make({
      ...options,
      name,
      work: path.join(staging, 'work'),
      file: path.join(made, place.file),
    });
    const sha256 = createHash('sha256')
      .update(await readFile(path.join(made, place.file)))
      .digest('hex');
    await writeFile(
      path.join(made, 'origin.json'),
      `${JSON.stringify({ source, version: place.version, sha256 }, null, 2)}\n`,
    );
    if (existsSync(home)) await rename(home, path.join(staging, 'old'));
    await rename(made, home);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
  return path.join(home, place.file);
}

interface Making extends InstallOptions {
  readonly name: InstallableEngine;
  /** A directory for whatever is needed on the way; to be made. */
  readonly work: string;
  /** What is to be made. */
  readonly file: string;
}

/** Makes the file and answers what it was made from. */
type Make = (making: Making) => Promise<string>;

const makeWasmtime: Make = async ({ name, work, file, print }) => {
  const platform = `${process.platform}-${process.arch}`;
  const hash = wasmtimeWheels[platform];
  if (hash === undefined) throw missing(name, `there is no wheel for ${platform}`, 'use another engine');
  const requirement = `wasmtime==${wasmtimePlace.version}`;
  print(`pip installs ${requirement} (10 MB) aside`);
  await mkdir(work, { recursive: true });
  const list = path.join(work, 'requirements.txt');
  await writeFile(list, `${requirement} --hash=sha256:${hash}\n`);
  const target = path.join(work, 'site');
  const only = ['--no-deps', '--require-hashes', '--only-binary=:all:', '--no-compile', '--target', target];
  await pip(name, ['install', '--quiet', ...only, '-r', list]);
  const folder = (await readdir(path.join(target, 'wasmtime'))).find((entry) => /^(linux|darwin|win32)-/.test(entry));
  const library = `_${wasmtimePlace.file}`;
  if (folder === undefined) throw missing(name, `the wheel has no ${library}`, 'tell the makers of Iguana');
  await copyFile(path.join(target, 'wasmtime', folder, library), file);
  return `PyPI ${requirement} sha256:${hash}`;
};

const makeWasm3: Make = async ({ name, work, file, print }) => {
  const clang = process.env.CLANG || 'clang';
  const fix =
    'install clang and lld with a WASI C library (Debian: clang lld wasi-libc libclang-rt-14-dev-wasm32), or name one by CLANG';
  await run(name, clang, ['--version'], fix);
  const requirement = `pywasm3==${wasm3Place.version}`;
  print(`pip downloads the sources in ${requirement} (75 KB)`);
  await mkdir(work, { recursive: true });
  const list = path.join(work, 'requirements.txt');
  await writeFile(list, `${requirement} --hash=sha256:${WASM3_SOURCES}\n`);
  const only = ['--no-deps', '--require-hashes', '--no-binary=:all:', '--dest', work];
  await pip(name, ['download', '--quiet', ...only, '-r', list]);
  const archive = path.join(work, `pywasm3-${wasm3Place.version}.tar.gz`);
  const hash = createHash('sha256')
    .update(await readFile(archive))
    .digest('hex');
  if (hash !== WASM3_SOURCES)
    throw missing(name, `${archive} has sha256 ${hash}`, 'look at what your package index gives');
  await run(name, 'tar', ['-xzf', archive, '-C', work], 'install tar');

  print('clang compiles it to wasm');
  const sources = path.join(work, `pywasm3-${wasm3Place.version}`, 'wasm3');
  const shim = ownSource('wasm3-shim.c');
  const overrides = ownSource('wasm3-overrides.h');
  const objects = path.join(work, 'objects');
  await mkdir(objects);
  const flags = [...WASM3_FLAGS, `-I${sources}`];
  const others = (await readdir(sources)).filter((one) => one.endsWith('.c') && !executing.includes(one));
  const units = [
    ...executing.map((one) => ({ one: path.join(sources, one), before: ['-include', overrides] })),
    ...others.map((one) => ({ one: path.join(sources, one), before: [] })),
    { one: shim, before: [] },
  ];
  const made: string[] = [];
  for (const { one, before } of units) {
    const object = path.join(objects, `${path.basename(one)}.o`);
    await run(name, clang, [...flags, ...before, '-c', one, '-o', object], fix);
    made.push(object);
  }
  await run(name, clang, [...WASM3_LINK_FLAGS, ...made, '-o', file], fix);
  return `PyPI ${requirement} sha256:${WASM3_SOURCES}`;
};

const makeWasmer: Make = async ({ name, work, file, print }) => {
  const fix = 'install Rust 1.95 or newer with cargo';
  await run(name, 'cargo', ['--version'], fix);
  await mkdir(path.join(work, 'src'), { recursive: true });
  await writeFile(path.join(work, 'src', 'lib.rs'), 'pub use wasmer::*;\n');
  await writeFile(
    path.join(work, 'Cargo.toml'),
    `[package]
name = "wasmerc"
version = "0.1.0"
edition = "2021"
[lib]
crate-type = ["cdylib"]
[dependencies.wasmer-c-api]
version = "=${wasmerPlace.version}"
default-features = false
features = ["sys", "cranelift", "compiler", "middlewares"]
[profile.release]
strip = true
[workspace]
`,
  );
  print(`cargo builds wasmer-c-api ${wasmerPlace.version}; this takes minutes`);
  const target = path.join(work, 'target');
  await run(
    name,
    'cargo',
    ['build', '--release', '--manifest-path', path.join(work, 'Cargo.toml'), '--target-dir', target],
    fix,
  );
  await copyFile(path.join(target, 'release', wasmerPlace.file), file);
  return `crates.io wasmer-c-api ${wasmerPlace.version}`;
};

const recipes: Readonly<Record<InstallableEngine, { readonly place: LibraryPlace; readonly make: Make }>> = {
  wasmtime: { place: wasmtimePlace, make: makeWasmtime },
  wasm3: { place: wasm3Place, make: makeWasm3 },
  wasmer: { place: wasmerPlace, make: makeWasmer },
};

export const installableEngines = Object.keys(recipes) as InstallableEngine[];

function missing(engine: string, what: string, fix: string, cause?: unknown): IguanaError {
  return new IguanaError('IGU_WASM_ENGINE_MISSING', { engine, what, fix }, cause === undefined ? undefined : { cause });
}

/** A file that lies beside this one in the sources, wherever this one was compiled to. */
function ownSource(file: string): string {
  const beside = new URL(file, import.meta.url);
  const source = new URL(beside.href.replace(/\/dist\/src\/(?!.*\/dist\/src\/)/, '/src/'));
  const found = [beside, source].map((url) => fileURLToPath(url)).find((one) => existsSync(one));
  if (found === undefined) throw missing('wasm3', `${file} is not in this installation`, 'install the package anew');
  return found;
}

/** Runs the first pip there is. */
async function pip(engine: string, args: readonly string[]): Promise<void> {
  const candidates: (readonly [string, readonly string[]])[] = [
    ['python3', ['-m', 'pip']],
    ['python', ['-m', 'pip']],
    ['pip3', []],
    ['pip', []],
  ];
  for (const [command, before] of candidates) {
    const there = await finished(command, [...before, '--version']).then(
      ({ code }) => code === 0,
      () => false,
    );
    if (there) return run(engine, command, [...before, ...args, '--disable-pip-version-check'], 'see what pip says');
  }
  throw missing(engine, 'it comes by pip, which is not there', 'install Python 3 with pip');
}

/** @throws IguanaError `IGU_WASM_ENGINE_MISSING` with the last lines of what the client said. */
async function run(engine: string, command: string, args: readonly string[], fix: string): Promise<void> {
  const { code, said } = await finished(command, args).catch((error: unknown) => {
    throw missing(engine, `${command} cannot be run (${messageOf(error)})`, fix, error);
  });
  if (code !== 0)
    throw missing(engine, `${command} ended with ${code}: ${said.trim().split('\n').slice(-8).join(' | ')}`, fix);
}

/** The exit code, and the end of what was said. */
function finished(command: string, args: readonly string[]): Promise<{ code: number | null; said: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    const hear = (chunk: Buffer): void => {
      said = (said + chunk.toString()).slice(-wasmEngineLimits.maxClientOutput);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, said }));
  });
}
