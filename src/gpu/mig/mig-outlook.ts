import type { MigTable } from './mig-table.js';

/** How much of each profile is asked for, by its name: numbers of 0 and more, in proportion. */
export type MigMix = Readonly<Record<string, number>>;

/**
 * How many requests of each profile are to be expected before what runs now gives much back.
 * @param mix of past requests or of a forecast of them; a profile that is not named is not expected
 * @param gpus in the cluster
 * @param load memory slices asked for at a time, as a part of those there are (default 1)
 * @param horizon as a part of the time that an instance is used (default 0.2: the best of five on the workloads of bench/gpu-mig.mjs)
 */
export function expectedRequests(table: MigTable, mix: MigMix, gpus: number, load = 1, horizon = 0.2): MigMix {
  const { profiles, memorySlices } = table.model;
  const slices = profiles.reduce((sum, { name, memory }) => sum + memory * (mix[name] ?? 0), 0);
  const scale = slices > 0 ? (load * horizon * gpus * memorySlices) / slices : 0;
  return Object.fromEntries(profiles.map(({ name }) => [name, (mix[name] ?? 0) * scale]));
}

/**
 * Values places for MIG instances by the requests that are expected to be refused because of them. For each profile p the number N of instances that could still be made in the
 * whole cluster comes exactly from the table of layouts, demand D is Poisson with the expected number; the cost of a place is how much it raises
 *
 *     Σ over p of E[max(0, Dp − Np)]
 *
 * so the last room for a profile that is asked for is dear, and plenty costs nothing. Of equals the fuller GPU, then the first one, then the last start.
 * Cost: O(GPUs · profiles) to look at a cluster, O(profiles) a place.
 */
export class MigOutlook {
  /** For each layout and profile, how many more would fit if only they came. */
  private readonly room: Uint8Array;
  private readonly kinds: number;
  private readonly expected: readonly number[];
  private readonly totals: Float64Array;
  /** For each profile, P(D > N − 1), P(D > N − 2), …: what losing the last, the second last, … room costs. */
  private readonly loss: readonly Float64Array[];

  /**
   * @param expected requests to come, by profile; see `expectedRequests`
   */
  constructor(
    readonly table: MigTable,
    expected: MigMix,
  ) {
    const { profiles } = table.model;
    this.kinds = profiles.length;
    this.expected = profiles.map(({ name }) => Math.max(0, expected[name] ?? 0));
    this.room = roomOf(table);
    this.totals = new Float64Array(this.kinds);
    const most = this.room.reduce((a, b) => Math.max(a, b), 0);
    this.loss = profiles.map(() => new Float64Array(most));
  }

  /** Looks at the layouts of all GPUs that may be used. Before `costOf`, and again when they changed. */
  look(layouts: Iterable<number>): void {
    this.totals.fill(0);
    for (const layout of layouts)
      for (let kind = 0; kind < this.kinds; kind++) this.totals[kind]! += this.room[layout * this.kinds + kind]!;
    for (let kind = 0; kind < this.kinds; kind++) {
      const loss = this.loss[kind]!;
      const lowest = Math.max(0, this.totals[kind]! - loss.length);
      let tail = poissonAbove(this.expected[kind]!, lowest);
      for (let n = lowest; n < this.totals[kind]!; n++) {
        loss[this.totals[kind]! - 1 - n] = Math.max(0, tail.above);
        tail = tail.next();
      }
    }
  }

  /** How many instances of a profile could still be made in the cluster that was looked at. */
  roomFor(profile: string): number {
    const kind = this.table.model.profiles.findIndex(({ name }) => name === profile);
    return kind < 0 ? 0 : this.totals[kind]!;
  }

  /** Requests that are expected to be refused because of it; +∞: not legal. */
  costOf(layout: number, placement: number): number {
    const after = this.table.with(layout, placement);
    if (after < 0) return Number.POSITIVE_INFINITY;
    let cost = 0;
    for (let kind = 0; kind < this.kinds; kind++) {
      const lost = this.room[layout * this.kinds + kind]! - this.room[after * this.kinds + kind]!;
      const loss = this.loss[kind]!;
      for (let i = 0; i < lost; i++) cost += loss[i]!;
    }
    return cost + FULLER * (this.table.model.memorySlices - bits(this.table.occupied[layout]!));
  }

  /** The GPU (position in `layouts`) and start where a profile costs least; undefined: it fits nowhere. `look` is part of it. */
  best(layouts: readonly number[], profile: string): { gpu: number; placement: number; cost: number } | undefined {
    this.look(layouts);
    const places = this.table.placements.flatMap((one, p) => (one.profile.name === profile ? [p] : []));
    let found: { gpu: number; placement: number; cost: number } | undefined;
    layouts.forEach((layout, gpu) => {
      for (const placement of places) {
        const cost = this.costOf(layout, placement);
        if (cost === Number.POSITIVE_INFINITY) continue;
        if (!found || cost < found.cost || (cost === found.cost && gpu === found.gpu)) found = { gpu, placement, cost };
      }
    });
    return found;
  }

  /**
   * The one move that makes room for a profile that fits nowhere, where it costs least; undefined: there is none, or each costs more than it is worth.
   * @param movable whether an instance may be moved: it restarts its workload (default: all)
   * @param most later requests that it may cost (default 4: the best of five on bench/gpu-mig.mjs at loads around 1)
   * Cost: O(instances · GPUs · starts).
   */
  bestMove(
    layouts: readonly number[],
    profile: string,
    movable: (gpu: number, placement: number) => boolean = () => true,
    most = 4,
  ): MigMove | undefined {
    this.look(layouts);
    const { table } = this;
    let found: MigMove | undefined;
    layouts.forEach((layout, gpu) => {
      for (const instance of table.placementsOf(layout)) {
        if (!movable(gpu, instance)) continue;
        const rest = table.without(layout, instance);
        const placement = this.cheapest(rest, profile);
        if (placement < 0) continue;
        const freed = this.costOf(rest, placement) - this.costOf(rest, instance);
        const moved = table.placements[instance]!.profile.name;
        layouts.forEach((other, toGpu) => {
          const into = toGpu === gpu ? table.with(rest, placement) : other;
          const toPlacement = this.cheapest(into, moved);
          if (toPlacement < 0) return;
          const cost = freed + this.costOf(into, toPlacement);
          if (cost <= most && (!found || cost < found.cost))
            found = { gpu, instance, toGpu, toPlacement, placement, cost };
        });
      }
    });
    return found;
  }

  /** The start of a profile that costs least in one layout; −1: it does not fit. */
  private cheapest(layout: number, profile: string): number {
    let best = -1;
    let least = Number.POSITIVE_INFINITY;
    this.table.placements.forEach((placement, p) => {
      if (placement.profile.name !== profile) return;
      const cost = this.costOf(layout, p);
      if (cost >= least) return;
      least = cost;
      best = p;
    });
    return best;
  }
}

/** One instance that goes elsewhere so that a profile fits: positions of GPUs and placements. */
export interface MigMove {
  readonly gpu: number;
  readonly instance: number;
  readonly toGpu: number;
  readonly toPlacement: number;
  /** Where the profile then goes, on `gpu`. */
  readonly placement: number;
  /** Requests that are expected to be refused because of all of it. */
  readonly cost: number;
}

/** A slice more that is free on the GPU weighs so little: it only decides between equals. */
const FULLER = 1e-6;

const rooms = new WeakMap<MigTable, Uint8Array>();

/** Found once for each table. */
function roomOf(table: MigTable): Uint8Array {
  let room = rooms.get(table);
  if (!room) {
    room = countRoom(table);
    rooms.set(table, room);
  }
  return room;
}

function countRoom(table: MigTable): Uint8Array {
  const { profiles } = table.model;
  const room = new Uint8Array(table.layouts.length * profiles.length);
  profiles.forEach((profile, kind) => {
    const places = table.placements.flatMap((one, p) => (one.profile === profile ? [p] : []));
    for (let layout = 0; layout < table.layouts.length; layout++) {
      // Starts of one profile never overlap each other, so taking each that fits is the most.
      let filled = layout;
      let count = 0;
      for (const p of places) {
        const next = table.with(filled, p);
        if (next < 0) continue;
        filled = next;
        count++;
      }
      room[layout * profiles.length + kind] = count;
    }
  });
  return room;
}

const NEVER = 1e-20;

/** P(D > n) of a Poisson number, and the same for n + 1. */
function poissonAbove(mean: number, n: number): { above: number; next(): ReturnType<typeof poissonAbove> } {
  if (mean === 0) return { above: 0, next: () => poissonAbove(0, n + 1) };
  let log = -mean;
  let below = Math.exp(log);
  for (let k = 1; k <= n; k++) {
    log += Math.log(mean / k);
    const exactly = Math.exp(log);
    below += exactly;
    // so many never come: all that is above is less than what a number of this size can tell
    if (k > mean && exactly < NEVER) {
      below = 1;
      log = Number.NEGATIVE_INFINITY;
      break;
    }
  }
  const step = (above: number, at: number, logOf: number): ReturnType<typeof poissonAbove> => ({
    above,
    next: () => {
      const following = logOf + Math.log(mean / (at + 1));
      return step(above - Math.exp(following), at + 1, following);
    },
  });
  return step(1 - below, n, log);
}

function bits(mask: number): number {
  let count = 0;
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++;
  return count;
}
