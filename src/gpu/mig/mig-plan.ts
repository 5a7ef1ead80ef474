import type { MigTable } from './mig-table.js';

/** An instance that exists now. */
export interface MigInstance {
  /** UUID, or what else names it. */
  readonly id: string;
  readonly profile: string;
  readonly start: number;
  /** A workload holds it or a process runs in it. */
  readonly busy: boolean;
}

/** A GPU as a plan finds it. */
export interface MigGpu {
  readonly id: string;
  /** As it says: while MIG is off, instances in use are planned ones, and whoever makes the next one has to switch it on. */
  readonly enabled: boolean;
  /** Nothing runs on it: only then can MIG be switched on or off. null: that is not known, and counts as busy. */
  readonly idle: boolean | null;
  readonly instances: readonly MigInstance[];
}

/** What a layout shall have. Without a start any legal one will do. */
export interface MigWanted {
  readonly profile: string;
  readonly start?: number;
}

/** One step; they are to be done in order. */
export type MigStep =
  | { readonly kind: 'enable' | 'disable'; readonly gpu: string }
  | { readonly kind: 'destroy'; readonly gpu: string; readonly instance: string }
  | {
      readonly kind: 'create';
      readonly gpu: string;
      readonly profile: string;
      readonly start: number;
      /** For `nvidia-smi mig -cgi … -C`: with the start, since the driver places first-come and so refuses orders that would fit. */
      readonly argument: string;
    };

export type MigPlan =
  | { readonly steps: readonly MigStep[]; readonly refused?: undefined }
  | { readonly steps: null; readonly refused: string };

/**
 * What to do so that a GPU has these instances, and keeps those in use where they are. Idle instances that fit are kept, others are destroyed; the larger ones are made first.
 * Nothing is done: the steps are for people or for what acts on them.
 * @param wanted beside the busy ones
 * @param cost of putting a placement into a layout: of several ways the one that costs least in all is taken (default: none, the first found)
 * Cost: legal ways to place what is wanted, at most some hundreds.
 */
export function planMig(
  table: MigTable,
  gpu: MigGpu,
  wanted: readonly MigWanted[],
  cost: (layout: number, placement: number) => number = () => 0,
): MigPlan {
  if (!gpu.enabled && !gpu.idle) return refuse(notIdle(gpu));
  const present = new Map<number, MigInstance>();
  for (const instance of gpu.instances) {
    if (!gpu.enabled && !instance.busy) continue;
    const at = table.positionOf(instance.profile, instance.start);
    if (at < 0) return refuse(`${instance.id} is a ${instance.profile} at ${instance.start}, which is not known`);
    present.set(at, instance);
  }
  const busy = [...present].flatMap(([at, instance]) => (instance.busy ? [at] : []));
  const from = table.layoutOf(busy);
  if (from < 0) return refuse('it tells of instances that cannot be there together');
  const sizes = new Map(table.model.profiles.map((profile) => [profile.name, profile]));
  for (const { profile } of wanted)
    if (!sizes.has(profile)) return refuse(`a ${table.model.name} has no profile ${profile}`);
  const order = [...wanted].sort(
    (a, b) =>
      Number(b.start !== undefined) - Number(a.start !== undefined) ||
      sizes.get(b.profile)!.memory - sizes.get(a.profile)!.memory ||
      sizes.get(b.profile)!.compute - sizes.get(a.profile)!.compute,
  );
  const chosen = cheapest(table, from, order, (layout, p) => cost(layout, p) + (present.has(p) ? 0 : CREATION));
  if (!chosen) return refuse(`it has no room for ${wanted.map(({ profile }) => profile).join(', ')}`);
  const steps: MigStep[] = [];
  if (!gpu.enabled) steps.push({ kind: 'enable', gpu: gpu.id });
  const target = new Set(chosen);
  for (const [at, instance] of present)
    if (!instance.busy && !target.has(at)) steps.push({ kind: 'destroy', gpu: gpu.id, instance: instance.id });
  for (const at of chosen) {
    if (present.has(at)) continue;
    const { profile, start } = table.placements[at]!;
    const argument = `${profile.id}:${start}`;
    steps.push({ kind: 'create', gpu: gpu.id, profile: profile.name, start, argument });
  }
  return { steps };
}

/** Makes a whole GPU of it again. */
export function planWhole(gpu: MigGpu): MigPlan {
  if (!gpu.enabled) return { steps: [] };
  const busy = gpu.instances.filter((instance) => instance.busy);
  if (busy.length > 0) return refuse(`it has instances in use: ${busy.map(({ id }) => id).join(', ')}`);
  if (!gpu.idle) return refuse(notIdle(gpu));
  const destroyed = gpu.instances.map(({ id }): MigStep => ({ kind: 'destroy', gpu: gpu.id, instance: id }));
  return { steps: [...destroyed, { kind: 'disable', gpu: gpu.id }] };
}

/** Making an instance costs a little: one that is there and does as well is kept. */
const CREATION = 1e-7;

function cheapest(
  table: MigTable,
  from: number,
  wanted: readonly MigWanted[],
  cost: (layout: number, placement: number) => number,
): number[] | undefined {
  let least = Number.POSITIVE_INFINITY;
  let found: number[] | undefined;
  const search = (layout: number, at: number, spent: number, chosen: readonly number[]): void => {
    if (spent >= least) return;
    if (at === wanted.length) {
      least = spent;
      found = [...chosen];
      return;
    }
    const { profile, start } = wanted[at]!;
    table.placements.forEach((placement, p) => {
      if (placement.profile.name !== profile || (start !== undefined && placement.start !== start)) return;
      const next = table.with(layout, p);
      if (next >= 0) search(next, at + 1, spent + Math.max(0, cost(layout, p)), [...chosen, p]);
    });
  };
  search(from, 0, 0, []);
  return found;
}

function notIdle({ idle }: MigGpu): string {
  const state = idle === null ? 'it is not known whether it is idle, since its processes are not told' : 'it is in use';
  return `${state}: MIG can be switched on an idle GPU only`;
}

function refuse(refused: string): MigPlan {
  return { steps: null, refused };
}
