import { isUtf8 } from 'node:buffer';
import { IguanaError, messageOf } from '../../errors.js';
import { functionLimits } from '../../limits.js';
import type { CompiledModule } from '../../wasm/engines/engine.js';
import { wasiModulesOf } from '../../wasm/runtime/guest-wasi.js';
import { Instance, type UserImports } from '../../wasm/runtime/instance.js';
import type { TenantAccount } from '../../wasm/runtime/tenant-account.js';
import type { Snapshot } from '../../wasm/snapshot/snapshot.js';
import { WasmTrap } from '../../wasm/trap.js';
import type { RawFunction } from '../../wasm/types.js';
import { BoundedOutput } from '../../wasm/wasi/streams.js';
import { Wasi } from '../../wasm/wasi/wasi.js';
import { WasiExit } from '../../wasm/wasi/wasi-error.js';
import { ALLOCATE, RELEASE } from './convention.js';
import { EventInput, type LogOutput } from './guest-streams.js';
import type { GuestCode, GuestFailure, GuestReply } from './protocol.js';

const MB = 2 ** 20;
/** In an answer's length: what was answered is the text of an error. */
const IS_ERROR = 2 ** 31;

/** A call that failed, with everything that is told of it. */
export class GuestError extends Error {
  constructor(readonly failure: GuestFailure) {
    super(failure.what);
  }
}

/** An error that the guest says itself. */
class Refused extends Error {}

/**
 * One instance of a function on the thread that it was made on. A command begins each call from the state after initialisation; other instances keep their
 * state between calls, and begin anew after a call that failed.
 */
export class Guest {
  private readonly input = new EventInput();
  private readonly output = new BoundedOutput(functionLimits.maxAnswerBytes);
  private instance!: Instance;
  private run!: RawFunction;
  private allocate: RawFunction | undefined;
  private release: RawFunction | undefined;
  private gasBefore = 0;
  private used = false;
  /** Logged while it was made ready: of its next call. */
  private readied: readonly string[] = [];

  /** @throws GuestError with `why: 'code'` */
  constructor(
    private readonly compiled: CompiledModule,
    private readonly code: GuestCode,
    private readonly log: LogOutput,
    private readonly account?: TenantAccount,
  ) {
    this.begin();
  }

  get memoryBytes(): number {
    return this.instance.memoryBytes;
  }

  /** The state as it is now, for `GuestCode.snapshot`. @throws GuestError with `why: 'code'` */
  snapshot(): Snapshot {
    try {
      return this.instance.snapshot();
    } catch (error) {
      throw this.codeError(`${messageOf(error)}; or set snapshot: false`);
    }
  }

  /** @param event JSON. @throws GuestError */
  call(event: string): GuestReply {
    if (this.used) this.reset();
    if (this.readied.length > 0) {
      for (const line of this.readied) this.log.line(line);
      this.readied = [];
    }
    const { kind } = this.code.convention;
    const started = performance.now();
    const refusedBefore = this.instance.refusedGrowths;
    try {
      const answer = kind === 'command' ? this.callCommand(event) : this.callBytes(event);
      return {
        answer,
        durationMs: performance.now() - started,
        memoryBytes: this.instance.memoryBytes,
        gasUsed: this.gasUsed(),
        log: this.log.take(),
      };
    } catch (error) {
      this.used = true;
      const memory = !(error instanceof Refused) && this.instance.refusedGrowths > refusedBefore;
      throw new GuestError({
        why: memory ? 'memory' : 'failed',
        what: reason(error),
        frames: error instanceof WasmTrap ? error.frames : [],
        durationMs: performance.now() - started,
        gasUsed: this.gasUsed(),
        log: this.log.take(),
      });
    }
  }

  /** Makes the next call begin as the convention says. Done between calls, so that no caller waits for it. */
  settle(): void {
    if (this.used) this.reset();
  }

  close(): void {
    this.instance.close();
  }

  private callCommand(event: string): string | Uint8Array {
    this.used = true;
    this.input.set(Buffer.from(event));
    this.output.clear();
    try {
      this.run();
    } catch (error) {
      if (!(error instanceof WasiExit) || error.code !== 0) throw error;
    }
    if (this.output.truncated) throw tooLong(this.output.written);
    return decoded(this.output.bytes());
  }

  private callBytes(event: string): string | Uint8Array {
    const length = Buffer.byteLength(event);
    const address = (this.allocate!(length) as number) >>> 0;
    const before = this.instance.memory();
    if (address + length > before.length) throw new Refused(`${ALLOCATE} gave room outside of its memory`);
    Buffer.from(before.buffer, before.byteOffset + address, length).write(event);
    const packed = BigInt.asUintN(64, this.run(address | 0, length) as bigint);
    const from = Number(packed >> 32n);
    const low = Number(packed & 0xffff_ffffn);
    const size = low % IS_ERROR;
    if (size > functionLimits.maxAnswerBytes) throw tooLong(size);
    const after = this.instance.memory();
    if (from + size > after.length) throw new Refused('its answer lies outside of its memory');
    const answer = decoded(after.slice(from, from + size));
    this.release?.(from | 0, size);
    if (low >= IS_ERROR) throw new Refused(typeof answer === 'string' ? answer : 'an error that is no text');
    return answer;
  }

  /** All that was used since the last call, so that what `iguana_alloc` and a reset took is counted too. */
  private gasUsed(): number {
    const { total } = this.instance.getGasUsed();
    const used = total - this.gasBefore;
    this.gasBefore = total;
    return used;
  }

  private reset(): void {
    const { snapshot } = this.code;
    if (snapshot) this.instance.restore(snapshot);
    else {
      this.instance.close();
      this.begin();
    }
    this.used = false;
  }

  private begin(): void {
    const { snapshot, convention, options, module } = this.code;
    const wasi =
      wasiModulesOf(module.info).length > 0
        ? new Wasi({
            args: [convention.entry],
            env: options.env,
            stdin: this.input,
            stdout: convention.kind === 'command' ? this.output : this.log,
            stderr: this.log,
          })
        : undefined;
    try {
      this.instance = new Instance(this.compiled, {
        limits: { maxMemory: Math.min(options.memoryMb, 4096) * MB },
        viewsDetach: true,
        imports: (instance) => this.imports(instance),
        ...(wasi && { wasi }),
        ...(snapshot && { snapshot }),
        ...(this.account && { tenant: this.account }),
      });
    } catch (error) {
      throw this.codeError(error instanceof WasiExit ? `it ended itself: ${error.message}` : reason(error));
    }
    const { instance } = this;
    this.run = instance.function(convention.entry);
    if (convention.kind === 'bytes') {
      this.allocate = instance.function(ALLOCATE);
      const releases = module.info.exports.some(({ name }) => name === RELEASE);
      this.release = releases ? instance.function(RELEASE) : undefined;
    }
    this.gasBefore = 0;
    if (snapshot) return;
    this.initialise();
    this.gasBefore = instance.getGasUsed().total;
    this.readied = this.log.take().lines;
  }

  private initialise(): void {
    const { code, instance } = this;
    for (const name of code.convention.initialise) {
      try {
        instance.function(name)();
      } catch (error) {
        throw this.codeError(`${name}: ${reason(error)}`);
      }
    }
  }

  /** What a guest may import beside WASI. */
  private imports(instance: Instance): UserImports {
    const text = (address: number, length: number): string => {
      const memory = instance.memory();
      const from = address >>> 0;
      const bytes = memory.subarray(from, from + Math.min(length >>> 0, functionLimits.maxLogLine));
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
    };
    return {
      env: {
        iguana_log: (address, length) => this.log.line(text(address as number, length as number)),
        // what AssemblyScript calls when it gives up
        abort: (message, _file, line) => {
          throw new Refused(`${assemblyScriptText(instance.memory(), message as number)} (line ${line})`);
        },
      },
    };
  }

  private codeError(what: string): GuestError {
    return new GuestError({ why: 'code', what, frames: [], durationMs: 0, gasUsed: 0, log: this.log.take() });
  }
}

function reason(error: unknown): string {
  if (error instanceof WasmTrap) {
    const stack = error.frames.slice(0, 8).join(' < ');
    return `${error.trap.replaceAll('-', ' ')}${stack ? ` in ${stack}` : ''}`;
  }
  if (error instanceof WasiExit) return `it ended with ${error.message}`;
  return error instanceof IguanaError ? error.message : messageOf(error);
}

function tooLong(bytes: number): Refused {
  return new Refused(`it answered ${bytes} bytes, more than ${functionLimits.maxAnswerBytes}`);
}

function decoded(bytes: Uint8Array<ArrayBuffer>): string | Uint8Array {
  return isUtf8(bytes) ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8') : bytes;
}

/** UTF-16, with its length in bytes in the four bytes before it. */
function assemblyScriptText(memory: Uint8Array, pointer: number): string {
  const at = pointer >>> 0;
  if (at < 4 || at > memory.length) return 'it was aborted';
  const length = new DataView(memory.buffer, memory.byteOffset).getUint32(at - 4, true);
  const end = Math.min(at + Math.min(length, functionLimits.maxLogLine), memory.length);
  return Buffer.from(memory.subarray(at, end)).toString('utf16le') || 'it was aborted';
}
