/** A thread that holds instances of WebAssembly functions and runs their calls one after the other. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '../../errors.js';
import { wasmFunctionLimits } from '../../limits.js';
import type { CompiledModule } from '../../wasm/engines/engine.js';
import { NativeEngine } from '../../wasm/engines/native.js';
import { prepareModule } from '../../wasm/module/prepare.js';
import { TenantAccount } from '../../wasm/runtime/tenant-account.js';
import { conventionOf } from './convention.js';
import { Guest, GuestError } from './guest.js';
import { LogOutput } from './guest-streams.js';
import type { FromThread, GuestCode, GuestFailure, GuestOptions, ThreadOptions, ToThread } from './protocol.js';

const port = parentPort;
if (!port) throw new Error('wasm-worker runs in a worker thread');
const { account: share, begun: shared, log: logMemory } = workerData as ThreadOptions;
const log = new LogOutput(logMemory);
const account = TenantAccount.of(share);
const begun = new Int32Array(shared);
const engine = new NativeEngine();
const codes = new Map<number, { readonly guest: GuestCode; readonly compiled: CompiledModule }>();
const guests = new Map<number, Guest | GuestFailure>();
/** Each at once: the request behind it may never end. */
const send = (message: FromThread): void => port.postMessage(message);

function prepare(bytes: Uint8Array, options: GuestOptions): GuestCode {
  let guest: Guest | undefined;
  try {
    const module = prepareModule(bytes, { metered: true });
    const code: GuestCode = { convention: conventionOf(module.info, options.handler), module, options };
    guest = new Guest(engine.compile(module), code, log, account);
    return options.snapshot ? { ...code, snapshot: guest.snapshot() } : code;
  } catch (error) {
    throw error instanceof GuestError ? error : new GuestError(codeFailure(messageOf(error)));
  } finally {
    guest?.close();
  }
}

function codeFailure(what: string): GuestFailure {
  return { why: 'code', what, frames: [], durationMs: 0, gasUsed: 0, log: { lines: [], truncated: false } };
}

function failureOf(error: unknown): GuestFailure {
  return error instanceof GuestError ? error.failure : codeFailure(messageOf(error));
}

function make(instance: number, code: number): number {
  const known = codes.get(code);
  if (!known) throw new Error(`there is no code ${code}`);
  const guest = new Guest(known.compiled, known.guest, log, account);
  guests.set(instance, guest);
  return guest.memoryBytes;
}

function perform(message: Extract<ToThread, { sequence: number }>): FromThread {
  const { sequence } = message;
  try {
    if (message.op === 'prepare') return { sequence, prepared: prepare(message.bytes, message.options) };
    if (message.op === 'make') return { sequence, memoryBytes: make(message.instance, message.code) };
    const guest = guests.get(message.instance);
    if (!(guest instanceof Guest)) return { sequence, failure: guest ?? codeFailure('its instance is not there') };
    return { sequence, reply: guest.call(message.event) };
  } catch (error) {
    const failure = failureOf(error);
    if (message.op === 'make') guests.set(message.instance, failure);
    return { sequence, failure };
  }
}

function receive(message: ToThread): void {
  if ('sequence' in message) {
    const { sequence } = message;
    // taken back by the host
    if (Atomics.compareExchange(begun, 0, sequence - 1, sequence) !== sequence - 1) return;
    send(perform(message));
    // checking and compiling leave much behind
    if (message.op === 'prepare') unusedBytes += wasmFunctionLimits.collectAfterBytes;
    if (message.op !== 'call') return;
    const guest = guests.get(message.instance);
    if (!(guest instanceof Guest)) return;
    try {
      guest.settle();
    } catch (error) {
      guests.set(message.instance, failureOf(error));
    }
  } else if (message.op === 'add-code')
    codes.set(message.code, { guest: message.guest, compiled: engine.compile(message.guest.module) });
  else if (message.op === 'remove-code') {
    codes.get(message.code)?.compiled.close();
    codes.delete(message.code);
  } else {
    const guest = guests.get(message.instance);
    if (guest instanceof Guest) {
      unusedBytes += guest.memoryBytes;
      guest.close();
    }
    guests.delete(message.instance);
    collectSoon();
  }
}

/** Of instances that are gone. */
let unusedBytes = 0;
let quiet: NodeJS.Timeout | undefined;
let empty: NodeJS.Timeout | undefined;

/**
 * Memory of instances that are gone goes back only when garbage is collected, which an idle thread never does by itself and a busy one does in the midst of
 * a start, with a caller who waits. So: in a pause when there is much of it, and later whatever there is when no instance is left.
 */
function collectSoon(): void {
  clearTimeout(empty);
  empty = setTimeout(() => {
    if (guests.size === 0) collect();
  }, wasmFunctionLimits.collectAfterMs).unref();
}

/** Another message puts it off. */
function inPause(): void {
  if (unusedBytes < wasmFunctionLimits.collectAfterBytes) return;
  clearTimeout(quiet);
  quiet = setTimeout(collect, wasmFunctionLimits.pauseMs).unref();
}

let collectGarbage: (() => void) | undefined;

function collect(): void {
  unusedBytes = 0;
  if (!collectGarbage) {
    setFlagsFromString('--expose-gc');
    collectGarbage = runInNewContext('gc') as () => void;
    setFlagsFromString('--no-expose-gc');
  }
  collectGarbage();
}

port.on('message', (messages: readonly ToThread[]) => {
  for (const message of messages) receive(message);
  inPause();
});
port.postMessage('ready');
