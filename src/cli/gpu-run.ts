import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import os from 'node:os';
import { keepLease } from '../api/gpu-lease.js';
import { IguanaError, messageOf } from '../errors.js';
import type { GpuGrant } from '../gpu/allocator.js';
import { isOver } from '../gpu/gpu-over.js';
import type { Allocation } from '../gpu/ledger.js';
import { ask, gpuPath, type ServerOptions } from './server-client.js';
import { paint } from './terminal.js';

/** What is passed on to the command. */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

/** Between SIGTERM and SIGKILL of a command whose lease is lost, ms. */
const GRACE_MS = 10_000;

/**
 * Runs a command on the GPUs that it was given: renews the lease while it runs and passes signals on.
 * @param onLost what becomes of it when the lease is lost
 * @returns its exit status, 128 and the signal's number when one ended it; never 0 when it was stopped for its lease; as of a shell 127 when there is no such command, 126 when it cannot be
 * started, which is told
 */
export async function runOnGpus(
  options: ServerOptions,
  { allocation, environment }: GpuGrant,
  [command = '', ...args]: readonly string[],
  onLost: 'stop' | 'keep',
): Promise<number> {
  let child: ChildProcess | undefined;
  // from before its start on: a signal that ended this process alone would leave it on GPUs that nobody renews
  const passOn = forwardSignals((signal) => child?.kill(signal));
  try {
    child = spawn(command, args, {
      stdio: 'inherit',
      env: { ...process.env, ...environment, IGUANA_GPU_ALLOCATION: allocation.id },
    });
    await once(child, 'spawn');
    return await supervise(options, allocation, command, child, onLost);
  } catch (cause) {
    if (child?.pid !== undefined) throw cause;
    return notStarted(command, cause);
  } finally {
    passOn.end();
  }
}

function notStarted(command: string, cause: unknown): number {
  const { code } = cause as NodeJS.ErrnoException;
  const isMissing = code === 'ENOENT' || command === '';
  const why = isMissing ? 'it is not found' : code === 'EACCES' ? 'it may not be run' : messageOf(cause);
  const path = `${command || "''"} as a command: ${why}`;
  process.stderr.write(`${messageOf(new IguanaError('IGU_FILE_MISSING', { path }, { cause }))}\n`);
  return isMissing ? 127 : 126;
}

async function supervise(
  options: ServerOptions,
  allocation: Allocation,
  command: string,
  child: ChildProcess,
  onLost: 'stop' | 'keep',
): Promise<number> {
  let stopped = false;
  const { leaseMs, expiresAt } = allocation;
  const endLease = keepLease({
    leaseMs,
    expiresAt,
    renew: () => ask(options, 'POST', gpuPath('allocations', allocation.id, 'renew'), {}, leaseMs ?? undefined),
    isOver,
    onLost: (why) => {
      const then = onLost === 'stop' ? `${command} is stopped` : `${command} goes on, others may be given them`;
      tell(`the GPUs of ${allocation.instance} are lost: ${why}; ${then}`);
      if (onLost !== 'stop') return;
      stopped = true;
      child.kill('SIGTERM');
      const kill = setTimeout(() => child.kill('SIGKILL'), GRACE_MS);
      child.once('exit', () => clearTimeout(kill));
    },
  });
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  endLease();
  const status = signal === null ? (code ?? 1) : 128 + os.constants.signals[signal];
  return stopped && status === 0 ? 1 : status;
}

function forwardSignals(pass: (signal: NodeJS.Signals) => unknown): { end(): void } {
  const listeners = signals.map((signal) => {
    // a terminal gives Ctrl-C and Ctrl-\ to the command itself, which would get it twice
    const own = process.stdin.isTTY === true && (signal === 'SIGINT' || signal === 'SIGQUIT');
    const listener = (): void => void (own || pass(signal));
    process.on(signal, listener);
    return [signal, listener] as const;
  });
  return {
    end: () => {
      for (const [signal, listener] of listeners) process.off(signal, listener);
    },
  };
}

export function tell(text: string): void {
  process.stderr.write(`${paint('yellow', text, process.stderr)}\n`);
}
