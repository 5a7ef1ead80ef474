import { readSync, writeSync } from 'node:fs';
import type { HostImports } from '../engines/engine.js';
import type { ModuleInfo } from '../types.js';
import type { DeterministicClockOptions } from '../wasi/clock.js';
import type { InputSource, OutputSink } from '../wasi/streams.js';
import { Wasi, type WasiModuleName, type WasiPreopen } from '../wasi/wasi.js';

/** What a guest is given by WASI. Nothing by default: no files, no environment, no input. Plain data, save where a sink or source of one's own stands. */
export interface GuestWasi {
  /** The first is the program's name. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Bytes, or `inherit` for this process's own (default empty). A source of one's own in place only. */
  readonly stdin?: Uint8Array | 'inherit' | InputSource;
  /** `capture` (default, up to 1 MiB, see `output`), `inherit`, `discard`; a sink of one's own in place only. */
  readonly stdout?: 'capture' | 'inherit' | 'discard' | OutputSink;
  readonly stderr?: 'capture' | 'inherit' | 'discard' | OutputSink;
  readonly preopens?: readonly WasiPreopen[];
  readonly clock?: 'real' | DeterministicClockOptions;
  readonly random?: 'real' | { readonly seed: number };
}

/** What a guest wrote to captured streams. */
export interface GuestOutput {
  readonly stdout: string;
  readonly stderr: string;
  /** Whether more was written than is kept. */
  readonly truncated: boolean;
}

const moduleNames: readonly WasiModuleName[] = ['wasi_snapshot_preview1', 'wasi_unstable'];

/** WASI modules that a module imports. */
export function wasiModulesOf({ imports }: Pick<ModuleInfo, 'imports'>): readonly WasiModuleName[] {
  return moduleNames.filter((name) => imports.some(({ module }) => module === name));
}

export function wasiImports(wasi: Wasi, info: ModuleInfo): HostImports {
  return Object.fromEntries(wasiModulesOf(info).map((name) => [name, wasi.imports(name)]));
}

/** @throws as `Wasi` */
export function makeWasi({ stdin, stdout = 'capture', stderr = 'capture', ...others }: GuestWasi): Wasi {
  const out = sinkOf(stdout, 1);
  const err = sinkOf(stderr, 2);
  return new Wasi({
    ...others,
    ...(stdin !== undefined && { stdin: stdin === 'inherit' ? inheritedInput : stdin }),
    ...(out && { stdout: out }),
    ...(err && { stderr: err }),
  });
}

export function outputOf(wasi: Wasi | undefined): GuestOutput {
  return {
    stdout: wasi?.stdout?.text() ?? '',
    stderr: wasi?.stderr?.text() ?? '',
    truncated: wasi?.stdout?.truncated === true || wasi?.stderr?.truncated === true,
  };
}

function sinkOf(given: NonNullable<GuestWasi['stdout']>, descriptor: 1 | 2): OutputSink | undefined {
  if (given === 'capture') return undefined;
  if (given === 'discard') return { write: () => undefined };
  if (given !== 'inherit') return given;
  return {
    write(memory, start, end) {
      for (let at = start; at < end; ) at += whenReady(() => writeSync(descriptor, memory, at, end - at));
    },
  };
}

const inheritedInput: InputSource = {
  read: (memory, start, end) => (end === start ? 0 : whenReady(() => readSync(0, memory, start, end - start, null))),
};

const never = new Int32Array(new SharedArrayBuffer(4));

/** A terminal or pipe may be set not to block: it is asked again every millisecond then. */
function whenReady(action: () => number): number {
  for (;;) {
    try {
      return action();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EOF') return 0;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(never, 0, 0, 1);
    }
  }
}
