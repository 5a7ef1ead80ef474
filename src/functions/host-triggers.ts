import type { DeployedFunction } from './function-service.js';
import type { TriggerHost } from './trigger-host.js';

export interface HostedTriggers {
  /** Brings all hosts in step with what is deployed now. */
  changed(): void;
  /** Resolves when what was asked for before is in place. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Tells every host of the functions there are after each change: one call of a host at a time, and only of the newest state, however often it changes meanwhile.
 * @param functions what is deployed now
 */
export function hostTriggers(
  hosts: readonly TriggerHost[],
  functions: () => readonly DeployedFunction[],
  onError: (error: unknown) => void,
): HostedTriggers {
  const lanes = hosts.map((host) => new Lane(host, functions, onError));
  return {
    changed: () => {
      for (const lane of lanes) lane.change();
    },
    settled: async () => {
      await Promise.all(lanes.map((lane) => lane.settled));
    },
    stop: async () => {
      await Promise.all(lanes.map((lane) => lane.stop()));
    },
  };
}

class Lane {
  settled: Promise<void> = Promise.resolve();
  private wanted = false;
  private busy = false;
  private stopped = false;

  constructor(
    private readonly host: TriggerHost,
    private readonly functions: () => readonly DeployedFunction[],
    private readonly onError: (error: unknown) => void,
  ) {}

  change(): void {
    this.wanted = true;
    if (!this.busy) this.settled = this.run();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.settled;
    await this.host.stop();
  }

  private async run(): Promise<void> {
    this.busy = true;
    while (this.wanted && !this.stopped) {
      this.wanted = false;
      try {
        await this.host.apply(this.functions());
      } catch (error) {
        this.onError(error);
      }
    }
    this.busy = false;
  }
}
