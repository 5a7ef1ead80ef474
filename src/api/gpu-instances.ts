import { type Clock, wallClock } from '../clock.js';
import { IguanaError } from '../errors.js';
import type { GpuGrant } from '../gpu/allocator.js';
import type { GpuRequest } from '../gpu/allocator-rules.js';
import { isOver, releaseIfThere } from '../gpu/gpu-over.js';
import type { GpuService } from '../gpu/gpu-service.js';
import { onNode, type UsedGpus, usedGpus } from './gpu.js';
import { checkedRequest, checkedWait } from './gpu-checks.js';
import { keepLease } from './gpu-lease.js';
import { GpuRefusedError } from './gpu-refused.js';

export interface GpuInstancesOptions {
  readonly request: GpuRequest;
  readonly waitMs: number;
  /** Told when an instance has its GPUs no more, while it runs. */
  readonly onLost: (instance: string, why: string) => void;
  readonly clock?: Clock;
}

interface Held {
  readonly grant: GpuGrant;
  /** That gave it: what is used by then may be another. */
  readonly service: GpuService;
  readonly endLease: () => void;
}

interface Asking {
  readonly using: Promise<UsedGpus>;
  readonly answer: Promise<GpuGrant>;
}

/** GPUs of the instances of one cluster: got before an instance starts, kept over its restarts, given back when it is gone. */
export class GpuInstances {
  private readonly held = new Map<string, Held>();
  private readonly asking = new Map<string, Asking>();

  constructor(private readonly options: GpuInstancesOptions) {}

  /** What an instance has now. */
  grantOf(instance: string): GpuGrant | undefined {
    return this.held.get(instance)?.grant;
  }

  /**
   * Environment for the process of an instance, with GPUs that it has already or gets now.
   * @throws GpuRefusedError when there are none; IguanaError `IGU_GPU_REFUSED` when they cannot be shown to a process yet, which would see all of them without
   */
  async prepare(instance: string): Promise<Readonly<Record<string, string>>> {
    const using = usedGpus();
    const asking: Asking = { using, answer: using.then((used) => this.ask(instance, used)) };
    this.asking.set(instance, asking);
    try {
      const { environment, allocation } = await asking.answer;
      return { ...environment, IGUANA_GPU_ALLOCATION: allocation.id };
    } finally {
      if (this.asking.get(instance) === asking) this.asking.delete(instance);
    }
  }

  /** Ends all waits for GPUs: they are refused then. */
  async giveUp(): Promise<void> {
    for (const [instance, { using }] of this.asking) await releaseIfThere((await using).service, instance);
  }

  /** Gives back what an instance has or waits for. */
  async release(instance: string): Promise<void> {
    const held = this.held.get(instance);
    // a heartbeat that came after would find it gone, and tell that it is lost
    this.forget(instance);
    const pending = this.asking.get(instance);
    if (!pending) {
      if (held) await releaseIfThere(held.service, held.grant.allocation.id);
      return;
    }
    const { service } = await pending.using;
    await releaseIfThere(service, instance);
    // what it waited for is over by that; what came just before is given back
    if (await pending.answer.then(() => true, isRefusal)) await releaseIfThere(service, instance);
    this.forget(instance);
  }

  private async ask(instance: string, used: UsedGpus): Promise<GpuGrant> {
    const { service } = used;
    const here = onNode(used, instance, this.options.request);
    const waitMs = checkedWait(instance, this.options.waitMs);
    const answer = await service.allocate(instance, checkedRequest(instance, here), { waitMs });
    if (!answer.granted) throw new GpuRefusedError(instance, answer);
    if (Object.keys(answer.environment).length === 0) {
      await service.release(answer.allocation.id);
      const what =
        answer.steps.length > 0
          ? `its partition is still to be made on ${answer.node}; \`iguana gpu plan\` tells how`
          : `the number of ${answer.gpuIds.join(', ')} is not known, by which its runtime names GPUs`;
      throw new IguanaError('IGU_GPU_REFUSED', { instance, what });
    }
    this.keep(instance, service, answer);
    return answer;
  }

  private keep(instance: string, service: GpuService, grant: GpuGrant): void {
    const { id, leaseMs, expiresAt } = grant.allocation;
    if (this.held.get(instance)?.grant.allocation.id === id) return;
    this.forget(instance);
    const { clock = wallClock, onLost } = this.options;
    const endLease = keepLease({
      leaseMs,
      expiresAt,
      clock,
      renew: () => service.renew(id),
      isOver,
      onLost: (why) => {
        this.held.delete(instance);
        onLost(instance, why);
      },
    });
    this.held.set(instance, { grant, service, endLease });
  }

  private forget(instance: string): void {
    this.held.get(instance)?.endLease();
    this.held.delete(instance);
  }
}

/** It has nothing then. */
function isRefusal(error: unknown): boolean {
  if (error instanceof IguanaError && error.code === 'IGU_GPU_REFUSED') return false;
  throw error;
}
