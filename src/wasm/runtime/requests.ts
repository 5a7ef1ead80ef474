import type { Engine } from '../engines/engine.js';
import type { PreparedModule, PrepareOptions } from '../module/prepared.js';
import type { Snapshot } from '../snapshot/snapshot.js';
import type { GasUsed } from './instance.js';
import type { InstanceInfo, InstanceSpec } from './instance-host.js';
import type { PlainError } from './plain-errors.js';
import type { ResourceLimits } from './resource-limits.js';
import type { TypedValue } from './values.js';

/** What a worker thread starts with. */
export interface WorkerOptions {
  readonly codeDirectory?: string;
}

/** What every thread gets beside. */
export interface WorkerStart extends WorkerOptions {
  /** Of a `RunningRequest`. */
  readonly running: SharedArrayBuffer;
}

/** What the owner of a worker thread asks of it. */
export type Request =
  | { readonly op: 'prepare'; readonly bytes: Uint8Array; readonly options: PrepareOptions }
  | { readonly op: 'add-module'; readonly key: string; readonly module: PreparedModule }
  | { readonly op: 'remove-module'; readonly key: string }
  | { readonly op: 'compile' | 'create'; readonly spec: InstanceSpec }
  | {
      readonly op: 'call';
      readonly id: string;
      readonly name: string;
      readonly args: readonly TypedValue[];
      /** The thread shall stop the call itself. */
      readonly timeoutMs?: number;
    }
  | { readonly op: 'limits'; readonly id: string; readonly limits: ResourceLimits }
  | { readonly op: 'gas'; readonly id: string; readonly gas: number | null }
  | { readonly op: 'info' | 'output' | 'snapshot' | 'destroy'; readonly id: string }
  | { readonly op: 'restore'; readonly id: string; readonly snapshot: Snapshot }
  | {
      readonly op: 'read';
      readonly id: string;
      readonly memory: string;
      readonly offset: number;
      readonly length: number;
    }
  | {
      readonly op: 'write';
      readonly id: string;
      readonly memory: string;
      readonly offset: number;
      readonly data: Uint8Array;
    };

/** The answer to `call` when it failed. */
export interface FailedCall {
  readonly error: PlainError;
  readonly gasUsed: GasUsed;
}

export type Answer =
  | { readonly number: number; readonly ok: true; readonly value: unknown }
  | { readonly number: number; readonly ok: false; readonly error: PlainError };

/** The answer to `create`. */
export interface Created {
  readonly info: InstanceInfo;
  readonly stopper: Engine['stopper'];
}
