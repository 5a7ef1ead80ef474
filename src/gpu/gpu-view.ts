import type { Clock } from '../clock.js';
import type { GpuAllocator, GpuDenial, GpuGrant } from './allocator.js';
import { milliOf } from './allocator-cluster.js';
import { type GpuRequest, type GpuSharing, givableMb, isWell } from './allocator-rules.js';
import type { GpuAccounts } from './gpu-accounts.js';
import type { GpuMove, GpuNode, GpuPlan, GpuStats, WaitingRequest } from './gpu-service.js';
import type { Allocation, LedgerRecord } from './ledger.js';
import { planDefragmentation } from './placement/defragment.js';
import type { GpuDemand } from './placement/demand.js';
import { PlacementState } from './placement/placement-state.js';
import type { Gpu } from './types.js';

export interface GpuViewOptions {
  readonly clock: Clock;
  readonly allocator: GpuAllocator;
  readonly nodes: ReadonlyMap<string, GpuNode>;
  readonly waiting: () => Iterable<WaitingRequest>;
  readonly accounts: GpuAccounts;
  readonly sharing?: (node: string, gpu: Gpu) => GpuSharing;
}

/** What can be asked without changing anything, whoever decides. */
export class GpuView {
  constructor(private readonly options: GpuViewOptions) {}

  nodes(): readonly GpuNode[] {
    return [...this.options.nodes.values()].sort((a, b) => (a.node < b.node ? -1 : 1));
  }

  records(): readonly LedgerRecord[] {
    return [...this.options.allocator.ledger.all()];
  }

  waiting(): readonly WaitingRequest[] {
    return [...this.options.waiting()].map(
      ({ instance, gang, owner, gpuCount, priority, since, until, what }): WaitingRequest => ({
        ...{ instance, gang, owner, gpuCount, priority, since, until, what },
      }),
    );
  }

  find(idOrInstance: string): LedgerRecord | undefined {
    return this.options.allocator.ledger.find(idOrInstance);
  }

  /** Why one that is no more ended, where that is still known. */
  endOf(id: string): string | undefined {
    return this.options.accounts.endOf(id);
  }

  canAllocate(instance: string, request: GpuRequest): GpuGrant | GpuDenial {
    return this.options.allocator.canAllocate(instance, request);
  }

  explain(request: GpuRequest): ReturnType<GpuAllocator['explain']> {
    return this.options.allocator.explain(request);
  }

  stats(): GpuStats {
    const { nodes, accounts, clock } = this.options;
    const gpus = [...nodes.values()].flatMap((node) => node.gpus);
    const heard = [...nodes.values()].flatMap(({ gpus: told, silent }) => (silent ? [] : told));
    const now = clock.now();
    const records = this.records();
    const allocations = records.filter(({ kind }) => kind === 'allocation').length;
    const { granted, refused, expired, preempted, averageWaitMs } = accounts;
    return {
      nodes: nodes.size,
      gpus: gpus.length,
      healthy: heard.filter(({ health, stale }) => health.state === 'ok' && !stale).length,
      allocations,
      reservations: records.length - allocations,
      held: accounts.heldBy('allocation'),
      reserved: accounts.heldBy('reservation'),
      waiting: this.waiting().length,
      ...{ granted, refused, expired, preempted, averageWaitMs },
      idleReservedHours: accounts.hoursOf('reservation', now),
      usedHours: accounts.hoursOf('allocation', now),
    };
  }

  plan(maxMoves?: number): GpuPlan {
    const cluster = new Movables(this.nodes(), this.records(), this.options.sharing);
    const { moves, before, after } = planDefragmentation(
      cluster.state,
      this.options.allocator.demandMix,
      cluster.movable,
      maxMoves === undefined ? {} : { maxMoves },
    );
    return {
      moves: moves.map(({ id, from, to, gain }): GpuMove => {
        const { instance } = this.find(id) as Allocation;
        return { allocation: id, instance, from: cluster.named(from), to: cluster.named(to), gain };
      }),
      unusableBefore: before,
      unusableAfter: after,
      partitions: this.partitionsToMake(),
    };
  }

  private partitionsToMake(): GpuPlan['partitions'] {
    return this.records().flatMap((record) => {
      const steps = this.options.allocator.stepsFor(record);
      return steps.length > 0 ? [{ allocation: record.id, node: record.holdings[0]!.node, steps }] : [];
    });
  }
}

/** The cluster for the plan of moves: a node for the GPUs of one model on each node; GPUs that take nothing new are left out. */
class Movables {
  readonly state: PlacementState;
  readonly movable: { readonly id: string; readonly demand: GpuDemand; readonly placement: Placed }[] = [];
  private readonly groups: { readonly node: string; readonly model: string; readonly gpus: Gpu[] }[] = [];

  constructor(nodes: readonly GpuNode[], records: readonly LedgerRecord[], sharing: GpuViewOptions['sharing']) {
    const byKey = new Map<string, number>();
    const places = new Map<string, { readonly node: number; readonly at: number }>();
    for (const { node, gpus, silent } of nodes) {
      if (silent) continue;
      for (const gpu of gpus) {
        if (!isWell(gpu) || gpu.stale || (sharing?.(node, gpu).mode ?? 'open') !== 'open') continue;
        const key = JSON.stringify([node, gpu.name, gpu.memoryTotalMb.value]);
        let group = byKey.get(key);
        if (group === undefined) {
          group = this.groups.length;
          byKey.set(key, group);
          this.groups.push({ node, model: gpu.name, gpus: [] });
        }
        places.set(gpu.id, { node: group, at: this.groups[group]!.gpus.push(gpu) - 1 });
      }
    }
    this.state = new PlacementState(
      this.groups.map(({ node, model, gpus }) => ({
        ...{ id: node, model, gpus: gpus.length, cpuMilli: 0, memoryMb: 0 },
        gpuMemoryMb: givableMb(gpus[0]!) ?? 0,
      })),
    );
    for (const record of records) this.put(record, places);
  }

  named({ node, gpus }: Placed): GpuMove['from'] {
    const group = this.groups[node]!;
    return { node: group.node, gpuIds: gpus.map((at) => group.gpus[at]!.id) };
  }

  private put(record: LedgerRecord, places: ReadonlyMap<string, { readonly node: number; readonly at: number }>): void {
    const placed = record.holdings.map((holding) => ({ holding, place: places.get(holding.gpuId) }));
    const milli = placed.map(({ holding, place }) => {
      if (!place) return 0;
      return milliOf({ holding, gpu: this.groups[place.node]!.gpus[place.at]! });
    });
    let fits = true;
    placed.forEach(({ place }, i) => {
      if (!place) return;
      const at = this.state.firstGpu[place.node]! + place.at;
      const free = this.state.freeGpu[at]! - milli[i]!;
      if (free < 0) fits = false;
      this.state.freeGpu[at] = Math.max(0, free);
    });
    const first = placed[0]?.place;
    const alike = first && placed.every(({ place }, i) => place?.node === first.node && milli[i] === milli[0]);
    if (!fits || !alike || record.kind !== 'allocation' || pinned(record.request)) return;
    const { model } = this.groups[first.node]!;
    const demand: GpuDemand = {
      ...{ cpuMilli: 0, memoryMb: 0, gpuCount: placed.length, gpuMilli: milli[0]!, models: [model] },
    };
    this.movable.push({
      id: record.id,
      demand,
      placement: { node: first.node, gpus: placed.map(({ place }) => place!.at) },
    });
  }
}

interface Placed {
  readonly node: number;
  readonly gpus: readonly number[];
}

function pinned(request: string): boolean {
  const asked = JSON.parse(request) as GpuRequest;
  return asked.node !== undefined;
}
