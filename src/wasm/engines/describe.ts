import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { wasmEngineLimits } from '../../limits.js';
import { workerUrl } from '../../worker-url.js';
import type { EngineDescription, EngineName } from './engine.js';
import { findLibrary, wasm3Place, wasmerPlace, wasmtimePlace } from './native-library.js';
import { engineNames } from './open-engine.js';

/** An engine that was really opened, or why it cannot be. */
export type EngineState = { readonly name: EngineName; readonly path?: string } & (
  | {
      readonly description: EngineDescription;
      /** How a call that does not end by itself is ended (see `Engine.stopper`). */
      readonly ends: 'with its thread' | 'on request' | 'by a gas limit only';
    }
  | { readonly missing: string }
);

/** Opens every engine in a process of its own, all at the same time. Cost: a tenth of a second, some 50 MB each meanwhile. */
export function describeEngines(): Promise<EngineState[]> {
  return Promise.all(engineNames.map(describeEngine));
}

/** What the process of one engine says. */
type Told = EngineState extends infer State ? Omit<State & object, 'name' | 'path'> : never;

function describeEngine(name: EngineName): Promise<EngineState> {
  return new Promise((resolve) => {
    const program = fileURLToPath(workerUrl(import.meta.url, './describe-worker.js'));
    const child = fork(program, [name], {
      env: { ...process.env, IGUANA_WASM_CHILD: '1' },
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      timeout: wasmEngineLimits.describeTimeoutMs,
    });
    const path = pathOf(name);
    const known = { name, ...(path === undefined ? {} : { path }) };
    const answer: { told?: EngineState } = {};
    child.on('message', (message: Told) => {
      answer.told = { ...known, ...message } as EngineState;
    });
    child.on('error', (error) => {
      answer.told ??= { ...known, missing: error.message };
    });
    child.on('close', (code, signal) => {
      resolve(
        answer.told ?? {
          ...known,
          missing: `its process ended by ${signal ?? `exit code ${code}`} when it was opened`,
        },
      );
    });
  });
}

function pathOf(name: EngineName): string | undefined {
  const place = [wasmtimePlace, wasm3Place, wasmerPlace].find(({ engine }) => engine === name);
  try {
    return place && findLibrary(place);
  } catch {
    // the path that the variable names is not there; opening says so
    return undefined;
  }
}
