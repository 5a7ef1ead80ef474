import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import os from 'node:os';
import { keepLease } from '../api/gpu-lease.js';
import { IguanaError, messageOf } from '../errors.js';
import type { GpuGrant } from '../gpu/allocator.js';
import { AnsweredError, ask, gpuPath, type ServerOptions } from './server-client.js';
import { paint } from './terminal.js';

/** What is passed on to the command. */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

/** Between SIGTERM and SIGKILL of a command whose lease is lost, ms. */
const GRACE_MS = 10_000;

/**
 * Runs a command on the GPUs that it was given: renews the lease while it runs and passes signals on.
 * @param onLost what becomes of it when the lease is lost
 * @returns its exit status, 128 and the signal's number when one ended it; never 0 when it was stopped for its lease
 * @throws IguanaError `IGU_USAGE` when it cannot be started
 */
export async function runOnGpus(
  options: ServerOptions,
  { allocation, environment }: GpuGrant,
  [command = '', ...args]: readonly string[],
  onLost: 'stop' | 'keep',
): Promise<number> {
  const child = spawn(command, args, {
    stdio: 'inherit',
    env: { ...process.env, ...environment, IGUANA_GPU_ALLOCATION: allocation.id },
  });
  try {
    await once(child, 'spawn');
  } catch (cause) {
    throw new IguanaError('IGU_USAGE', { what: `${command} cannot be started: ${messageOf(cause)}` }, { cause });
  }
  let stopped = false;
  const { leaseMs } = allocation;
  const endLease =
    leaseMs === null
      ? undefined
      : keepLease({
          leaseMs,
          renew: () => ask(options, 'POST', gpuPath('allocations', allocation.id, 'renew'), {}, leaseMs),
          isOver: (error) => error instanceof AnsweredError && error.code === 'IGU_GPU_ALLOCATION',
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
  const passOn = forwardSignals(child);
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  passOn.end();
  endLease?.();
  const status = signal === null ? (code ?? 1) : 128 + os.constants.signals[signal];
  return stopped && status === 0 ? 1 : status;
}

function forwardSignals(child: ChildProcess): { end(): void } {
  const listeners = signals.map((signal) => {
    // a terminal gives Ctrl-C and Ctrl-\ to the command itself, which would get it twice
    const own = process.stdin.isTTY === true && (signal === 'SIGINT' || signal === 'SIGQUIT');
    const listener = (): void => void (own || child.kill(signal));
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
