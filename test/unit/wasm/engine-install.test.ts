import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { describeEngines } from '../../../src/wasm/engines/describe.js';
import { installEngine } from '../../../src/wasm/engines/install.js';
import { findLibrary, wasmtimePlace } from '../../../src/wasm/engines/native-library.js';
import { openEngine } from '../../../src/wasm/engines/open-engine.js';

let home: string;
const print = (): void => undefined;
const engines = (): string => path.join(home, 'cache', 'iguana', 'engines');

/** A command of the given name that is the only one there, beside what /bin has. */
function command(name: string, script: string): void {
  const file = path.join(home, 'bin', name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

beforeEach(() => {
  home = mkdtempSync(path.join(tmpdir(), 'iguana-engines-'));
  mkdirSync(path.join(home, 'bin'));
  vi.stubEnv('XDG_CACHE_HOME', path.join(home, 'cache'));
  vi.stubEnv('PATH', path.join(home, 'bin'));
  for (const name of ['IGUANA_LIBWASMTIME', 'IGUANA_LIBWASMER', 'IGUANA_WASM3', 'CLANG']) vi.stubEnv(name, '');
});

afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(home, { recursive: true, force: true });
});

const wheelFolder = `${process.platform === 'win32' ? 'win32' : process.platform}-any`;
/** A pip whose wheel holds the given text as its library. */
const pipThatInstalls = (text: string): string => `
case "$*" in *--version*) exit 0;; esac
echo "$@" > "${path.join(home, 'asked')}"
while [ $# -gt 0 ]; do case "$1" in --target) target="$2";; -r) list="$2";; esac; shift; done
while read -r line; do echo "$line" >> "${path.join(home, 'asked')}"; done < "$list"
/bin/mkdir -p "$target/wasmtime/${wheelFolder}"
echo "${text}" > "$target/wasmtime/${wheelFolder}/_${wasmtimePlace.file}"`;

describe('installing an engine', () => {
  it('says which client is missing', async () => {
    await expect(installEngine('wasmtime', { print })).rejects.toMatchObject({
      code: 'IGU_WASM_ENGINE_MISSING',
      message: expect.stringContaining('pip'),
    });
    await expect(installEngine('wasm3', { print })).rejects.toThrow(/clang/);
    await expect(installEngine('wasmer', { print, yes: true })).rejects.toThrow(/cargo/);
    expect(readdirSync(engines())).toEqual([]);
  });

  it('does not build what takes minutes unless told so, and says what it costs', async () => {
    await expect(installEngine('wasmer', { print })).rejects.toMatchObject({
      code: 'IGU_USAGE',
      message: expect.stringMatching(/minutes.*--yes/),
    });
  });

  it('passes on what a client said, and leaves nothing half done', async () => {
    command('python3', 'case "$*" in *--version*) exit 0;; esac; echo "hashes do not match" >&2; exit 3');
    await expect(installEngine('wasmtime', { print })).rejects.toThrow(/ended with 3: hashes do not match/);
    expect(readdirSync(engines())).toEqual([]);
  });

  it.skipIf(process.platform === 'win32')(
    'asks for one version by its hash, keeps it with its origin, and replaces it whole',
    async () => {
      command('python3', pipThatInstalls('first'));
      const file = await installEngine('wasmtime', { print });
      expect(file).toBe(path.join(engines(), `wasmtime-${wasmtimePlace.version}`, wasmtimePlace.file));
      expect(readFileSync(file, 'utf8')).toBe('first\n');
      expect(findLibrary(wasmtimePlace)).toBe(file);
      const asked = readFileSync(path.join(home, 'asked'), 'utf8');
      expect(asked).toContain('--require-hashes');
      expect(asked).toMatch(new RegExp(`wasmtime==${wasmtimePlace.version} --hash=sha256:[0-9a-f]{64}`));
      command('python3', pipThatInstalls('second'));
      await installEngine('wasmtime', { print });
      expect(readFileSync(file, 'utf8')).toBe('second\n');
      const origin = JSON.parse(readFileSync(path.join(path.dirname(file), 'origin.json'), 'utf8')) as {
        sha256: string;
      };
      expect(origin.sha256).toBe(createHash('sha256').update('second\n').digest('hex'));
      expect(readdirSync(engines())).toEqual([`wasmtime-${wasmtimePlace.version}`]);
    },
  );
});

describe('an engine that is not there', () => {
  it('says how to get it', async () => {
    for (const name of ['wasmtime', 'wasm3', 'wasmer'] as const) {
      await expect(openEngine(name)).rejects.toMatchObject({
        code: 'IGU_WASM_ENGINE_MISSING',
        fix: expect.stringContaining(`iguana engines install ${name}`),
      });
    }
  });

  it('names a file of the user that is not there', async () => {
    vi.stubEnv('IGUANA_LIBWASMTIME', path.join(home, 'none.so'));
    await expect(openEngine('wasmtime')).rejects.toThrow(/IGUANA_LIBWASMTIME names .*none\.so/);
  });

  it('does not take a file that is no library, and a list goes on with the others', async () => {
    const file = path.join(home, 'text.so');
    writeFileSync(file, 'text');
    vi.stubEnv('IGUANA_LIBWASMTIME', file);
    vi.stubEnv('IGUANA_WASM3', file);
    vi.stubEnv('PATH', `${path.join(home, 'bin')}:${path.dirname(process.execPath)}`);
    const states = await describeEngines();
    const native = states.find(({ name }) => name === 'native');
    expect(native).toMatchObject({
      description: { version: `V8 ${process.versions.v8}`, host: 'native' },
      ends: 'with its thread',
    });
    for (const name of ['wasmtime', 'wasm3']) {
      expect(states.find((state) => state.name === name)).toMatchObject({
        path: file,
        missing: expect.stringContaining('cannot be used'),
      });
    }
    expect(states.find(({ name }) => name === 'wasmer')).toMatchObject({
      missing: expect.stringContaining('install wasmer'),
    });
  });
});
