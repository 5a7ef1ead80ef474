/**
 * The cluster as requests see it: which GPUs will do, and which of them placement prefers. GPUs of a node that are alike (model, memory and how they are shared) are a group, which is
 * what placement takes for a node. What a group answers to a shape of request is kept until something of it changes, so that a request looks anew only at what has changed since the
 * last one like it. It is longer than others since what is kept and what ends it have to be seen together.
 */
import { gpuLedgerLimits } from '../limits.js';
import {
  factsOf,
  foreignMb,
  freeMilli,
  type GpuCandidate,
  type GpuOffer,
  type GpuRefusal,
  type GpuRequest,
  type GpuSharing,
  givableMb,
  judgeNow,
  lacks,
  milliOfMemory,
  placeMig,
  type RefusalCode,
  standingOf,
  type TriedGang,
  type Verdict,
} from './allocator-rules.js';
import { DemandCounts } from './demand-counts.js';
import type { Ledger, SharingMode } from './ledger.js';
import { expectedRequests, type MigMix, MigOutlook } from './mig/mig-outlook.js';
import { type DemandShare, type ExpectedDemand, type GpuDemand, WHOLE_GPU } from './placement/demand.js';
import { type PlacementPolicyName, placementPolicies, type ScorerFactory } from './placement/inflation.js';
import { PlacementState } from './placement/placement-state.js';
import type { NodeScore, NodeScorer } from './placement/policy.js';
import type { Gpu } from './types.js';

/** GPUs that were chosen for a request: all of one group. */
export interface Choice {
  readonly offers: readonly GpuOffer[];
  readonly sharing: GpuSharing;
}

/** Some GPUs only, as they would be without some records. */
export interface Some {
  readonly only: Iterable<string>;
  readonly without: ReadonlySet<string>;
}

/** It is never changed in what verdicts depend on: another takes its place then, so that what was judged once can be told later. */
interface Place extends GpuCandidate {
  readonly id: string;
  gpu: Gpu;
  /** Alike within a group. */
  readonly kind: string;
  /** Of the GPU, what verdicts depend on. */
  readonly facts: string;
  readonly group: Group;
  /** Position in its group. */
  readonly at: number;
}

interface Group {
  readonly places: Place[];
  /** Thousandths of each that placement counts as free. */
  readonly free: number[];
  /** Position among all groups; of one that is not ranked yet: none. */
  at: number;
  /** That each can give; 0: not known. */
  memoryMb: number;
  /** Counts the changes of what its GPUs answer. */
  version: number;
  /** One of each kind of standing, and how many are like it; made when it is asked. */
  distinct: readonly Several<Place>[] | undefined;
  /** By slot of the shape. */
  readonly answers: Answer[];
}

interface Makeable {
  readonly made: GpuOffer;
  readonly count: number;
}

/** GPUs that answer alike. */
type Several<T = GpuCandidate> = readonly T[];

interface Node {
  /** Ids of GPUs in the order that was told. */
  readonly gpus: readonly string[];
  readonly groups: readonly Group[];
}

/** What the GPUs of a group answer to a shape of request. Written over again and again: thousands of new ones for each new shape would keep the garbage collector busy. */
class Answer {
  shape = NO_SHAPE;
  version = 0;
  /** GPUs that will do, the way of sharing, and thousandths of a GPU that are taken of each. */
  fits = 0;
  mode: SharingMode | undefined = undefined;
  milli = 0;
  /** Where an instance may still be made: an offer, and of how many GPUs. */
  readonly dynamic: Makeable[] = [];
  /** By which scorer; higher is better. */
  epoch = 0;
  score = 0.5;
  /** How many reasons there are, a code twice perhaps, then the codes and how many GPUs each is of: most groups have one or two. */
  reasons = 0;
  readonly codes: RefusalCode[] = ['held', 'held'];
  readonly counts: number[] = [0, 0];
}

/** Why a request found nothing. */
interface Refusals {
  readonly counts: ReadonlyMap<RefusalCode, number>;
  /** GPUs that would do, each alone. */
  readonly fits: number;
  /** In words, as it was then. Cost: O(GPUs). */
  readonly tell: (tried?: TriedGang) => GpuRefusal[];
}

interface Shape {
  readonly slot: number;
  readonly id: number;
  /** Nothing did for it when the cluster was like this, and why: so it is until something changes. */
  nothing: { readonly version: number; readonly most: number; readonly refusals: Refusals } | undefined;
}

/** All groups, in the order of their nodes, and the policy over them. */
interface Ranked {
  readonly groups: readonly Group[];
  readonly state: PlacementState;
  scorer: NodeScorer;
}

/** Of answers that are not kept. */
const NO_SHAPE = 0;

/** Shapes of requests whose answers are kept; the one that was not asked for longest goes. One costs some 100 bytes a group. */
const MAX_SHAPES = 48;

/** No policy puts anything so low: for places that fit by the MiB but not by the thousandth. */
const LAST = -1e6;

/** Of several kinds of place that would do for a part of a GPU, the most isolated first. */
const byIsolation: readonly SharingMode[] = ['mig', 'partition', 'mps', 'time-slicing', 'shared', 'exclusive'];

export class AllocatorCluster {
  private readonly nodes = new Map<string, Node>();
  private readonly places = new Map<string, Place>();
  private readonly shapes = new Map<string, Shape>();
  private readonly out: NodeScore = { score: 0, gpu: -1 };
  private readonly demand = new DemandCounts();
  private migMix: MigMix | undefined;
  private ranked: Ranked | undefined;
  private shapesSeen = 0;
  /** Counts the scorers. */
  private epoch = 0;
  private learnt = 0;
  /** Counts what may change answers: places and who holds them. */
  private version = 0;

  constructor(
    private readonly ledger: Ledger,
    private readonly policy: PlacementPolicyName,
  ) {}

  /** Number of GPUs. */
  get size(): number {
    return this.places.size;
  }

  /** Product names that there are. */
  get models(): readonly string[] {
    return [...new Set(this.rank().state.models)];
  }

  /**
   * What a node has now. A GPU that another node told of has moved here. False: no request sees a difference.
   * Cost: some µs a GPU while the same GPUs are told again; when there are others, the next request costs O(GPUs).
   */
  setNode(name: string, gpus: readonly Gpu[], sharingOf: (gpu: Gpu) => GpuSharing): boolean {
    const before = this.nodes.get(name)?.gpus;
    const told = [...new Map(gpus.map((gpu) => [gpu.id, gpu])).values()].map((gpu) => {
      const sharing = sharingOf(gpu);
      return { gpu, sharing, kind: kindOf(gpu, sharing) };
    });
    const alike =
      before?.length === told.length &&
      told.every(({ gpu, kind }, i) => before[i] === gpu.id && this.places.get(gpu.id)!.kind === kind);
    if (alike) {
      let changed = false;
      for (const { gpu } of told) if (this.update(this.places.get(gpu.id)!, gpu)) changed = true;
      return changed;
    }
    for (const { gpu } of told) {
      const other = this.places.get(gpu.id);
      if (other && other.node !== name) {
        const rest = this.nodes.get(other.node)!.gpus.filter((id) => id !== gpu.id);
        this.settle(
          other.node,
          rest.map((id) => this.places.get(id)!),
        );
      }
    }
    this.settle(name, told);
    return true;
  }

  removeNode(name: string): void {
    this.settle(name, []);
    this.nodes.delete(name);
  }

  /** Who holds a GPU has changed. */
  refresh(gpuId: string): void {
    const place = this.places.get(gpuId);
    if (!place) return;
    this.put({ ...place, holders: this.ledger.holdersOf(gpuId) });
  }

  /** Kinds of demand that are expected: those that were learnt, or a forecast of them. */
  get demandMix(): readonly DemandShare[] {
    return this.demand.mix();
  }

  /** A forecast of demand; undefined: what was asked for so far, and any MIG profile as often as another. */
  expect(mix: readonly DemandShare[] | undefined, migMix: MigMix | undefined): void {
    this.demand.expect(mix);
    this.migMix = migMix;
    this.expectAnew();
  }

  /** So much was given. What is asked for is looked at anew now and then, more often in the beginning. */
  learn(demand: ExpectedDemand): void {
    this.demand.add(demand);
    if (++this.learnt >= Math.min(gpuLedgerLimits.mixEvery, this.demand.total / 2)) this.expectAnew();
  }

  /** A GPU as it would be without some records. */
  candidate(gpuId: string, without: ReadonlySet<string>): GpuCandidate | undefined {
    const place = this.places.get(gpuId);
    if (!place) return undefined;
    const { node, gpu, sharing, holders } = place;
    return { node, gpu, sharing, holders: holders.filter(({ record }) => !without.has(record.id)) };
  }

  gpuOf(gpuId: string): GpuCandidate | undefined {
    return this.places.get(gpuId);
  }

  /** Groups that have enough GPUs of the right kind for a request, whatever is held of them. */
  *suitable(request: GpuRequest): Iterable<readonly GpuCandidate[]> {
    for (const { places } of this.rank().groups)
      if (places.length >= (request.gpuCount ?? 1) && !lacks(request, places[0]!)) yield places;
  }

  /** The GPUs that placement prefers; undefined: none will do. Nothing is taken. */
  choose(request: GpuRequest, some?: Some): Choice | undefined {
    const count = request.gpuCount ?? 1;
    const best = new Map<SharingMode, { group: Group; candidates: readonly GpuCandidate[]; score: number }>();
    const dynamic: Makeable[] = [];
    const consider = (group: Group, candidates: readonly GpuCandidate[], answer: Answer): void => {
      for (const one of answer.dynamic) dynamic.push(one);
      if (answer.mode === undefined || answer.fits < count) return;
      const { score } = answer;
      const other = best.get(answer.mode);
      // of equal ones the smallest GPUs, of these the last
      const better = !other || score > other.score || (score === other.score && group.memoryMb <= other.group.memoryMb);
      if (better) best.set(answer.mode, { group, candidates, score });
    };
    const { groups } = this.rank();
    if (some)
      for (const [group, candidates] of this.grouped(some))
        consider(group, candidates, this.ask(group, distinct(candidates), request, new Answer()));
    else {
      const shape = this.shapeOf(request);
      if (shape.nothing?.version === this.version) return undefined;
      for (const group of groups) consider(group, group.places, this.answerOf(group, request, shape));
    }
    for (const mode of byIsolation) {
      const way = best.get(mode);
      if (way) {
        const offers = this.take(way.group, way.candidates, request, count);
        return { offers, sharing: way.candidates[0]!.sharing };
      }
      if (mode === 'mig' && dynamic.length > 0) return this.placeDynamic(dynamic, some?.without);
    }
    return undefined;
  }

  /** Which GPUs would do, each alone, and why the others do not. Cost: O(GPUs). */
  explain(request: GpuRequest): { readonly fits: readonly string[]; readonly gpus: readonly GpuRefusal[] } {
    return tellOf(this.rank().groups.map(distinctOf), request);
  }

  /** Why nothing did that `choose` looked at, of so many GPUs at most; told only when somebody wants to know. */
  refusals(request: GpuRequest, most: number): Refusals {
    const shape = this.shapeOf(request);
    const { nothing } = shape;
    if (nothing && nothing.version === this.version && nothing.most === most) return nothing.refusals;
    const counts = new Map<RefusalCode, number>();
    let fits = 0;
    const there = this.rank().groups.map((group) => {
      const answer = this.answerOf(group, request, shape);
      fits += answer.fits;
      for (const { count } of answer.dynamic) fits += count;
      for (let i = 0; i < answer.reasons; i++) {
        const code = answer.codes[i]!;
        counts.set(code, (counts.get(code) ?? 0) + answer.counts[i]!);
      }
      return distinctOf(group);
    });
    const refusals: Refusals = { counts, fits, tell: (tried) => tellOf(there, request, most, tried).gpus };
    shape.nothing = { version: this.version, most, refusals };
    return refusals;
  }

  /** GPUs of a node, new ones or such that are told in another way. */
  private settle(name: string, gpus: readonly Pick<Place, 'gpu' | 'sharing' | 'kind'>[]): void {
    for (const id of this.nodes.get(name)?.gpus ?? []) this.places.delete(id);
    const groups = new Map<string, Group>();
    for (const { gpu, sharing, kind } of gpus) {
      let group = groups.get(kind);
      if (!group) {
        const memoryMb = givableMb(gpu) ?? 0;
        group = { places: [], free: [], at: -1, memoryMb, version: 0, distinct: undefined, answers: [] };
        groups.set(kind, group);
      }
      const holders = this.ledger.holdersOf(gpu.id);
      const candidate = { node: name, gpu, sharing, holders };
      const place = { id: gpu.id, ...candidate, kind, facts: factsOf(gpu), group, at: group.places.length };
      group.places.push(place);
      group.free.push(freeMilli(candidate));
      this.places.set(gpu.id, place);
    }
    this.nodes.set(name, { gpus: gpus.map(({ gpu }) => gpu.id), groups: [...groups.values()] });
    this.ranked = undefined;
    this.version++;
  }

  /** The same GPU, seen again. False: no request sees a difference. */
  private update(place: Place, gpu: Gpu): boolean {
    const facts = factsOf(gpu);
    const { holders } = place;
    const same = facts === place.facts && foreignMb(gpu, holders) === foreignMb(place.gpu, holders);
    if (same) place.gpu = gpu;
    else this.put({ ...place, gpu, facts });
    return !same;
  }

  /** In the place of what was known of the GPU: answers of its group no longer hold. */
  private put(place: Place): void {
    const { group } = place;
    group.places[place.at] = place;
    this.places.set(place.id, place);
    group.version++;
    this.version++;
    group.distinct = undefined;
    const memoryMb = givableMb(group.places[0]!.gpu) ?? 0;
    if (memoryMb !== group.memoryMb) {
      group.memoryMb = memoryMb;
      this.ranked = undefined;
    }
    const free = freeMilli(place);
    if (free === group.free[place.at]) return;
    group.free[place.at] = free;
    if (!this.ranked) return;
    const { state, scorer } = this.ranked;
    state.freeGpu[state.firstGpu[group.at]! + place.at] = free;
    scorer.changed?.(group.at);
  }

  private rank(): Ranked {
    if (this.ranked) return this.ranked;
    const groups = [...this.nodes.values()].flatMap((node) => node.groups);
    const state = new PlacementState(
      groups.map(({ places, memoryMb }, i) => ({
        id: String(i),
        model: places[0]!.gpu.name,
        gpus: places.length,
        gpuMemoryMb: memoryMb,
        cpuMilli: 0,
        memoryMb: 0,
      })),
    );
    groups.forEach((group, i) => {
      group.at = i;
      state.freeGpu.set(group.free, state.firstGpu[i]);
    });
    this.ranked = { groups, state, scorer: this.makeScorer(state) };
    return this.ranked;
  }

  private expectAnew(): void {
    if (this.ranked) this.ranked.scorer = this.makeScorer(this.ranked.state);
  }

  private makeScorer(state: PlacementState): NodeScorer {
    this.epoch++;
    this.learnt = 0;
    const make: ScorerFactory = placementPolicies[this.policy];
    return make(state, this.demand.mix());
  }

  private shapeOf(request: GpuRequest): Shape {
    const key = keyOf(request);
    let shape = this.shapes.get(key);
    if (shape) this.shapes.delete(key);
    else {
      let slot = this.shapes.size;
      if (slot >= MAX_SHAPES) {
        const [oldest, { slot: freed }] = this.shapes.entries().next().value as [string, Shape];
        this.shapes.delete(oldest);
        slot = freed;
      }
      shape = { slot, id: ++this.shapesSeen, nothing: undefined };
    }
    this.shapes.set(key, shape);
    return shape;
  }

  private answerOf(group: Group, request: GpuRequest, shape: Shape): Answer {
    let kept = group.answers[shape.slot];
    if (!kept) {
      kept = new Answer();
      group.answers[shape.slot] = kept;
    }
    if (kept.shape !== shape.id || kept.version !== group.version) {
      this.ask(group, distinctOf(group), request, kept);
      kept.shape = shape.id;
      kept.version = group.version;
    } else if (kept.epoch !== this.epoch) this.rescore(group, request, kept);
    return kept;
  }

  /** Writes over an answer. */
  private ask(group: Group, there: readonly Several[], request: GpuRequest, answer: Answer): Answer {
    answer.fits = 0;
    answer.mode = undefined;
    answer.milli = 0;
    answer.reasons = 0;
    if (answer.dynamic.length > 0) answer.dynamic.length = 0;
    const never = lacks(request, there[0]![0]!);
    for (const alike of there) {
      const verdict = never ?? judgeNow(request, alike[0]!);
      if (!('offer' in verdict)) {
        answer.codes[answer.reasons] = verdict.code;
        answer.counts[answer.reasons++] = alike.length;
        continue;
      }
      const { offer } = verdict;
      if (offer.mig) answer.dynamic.push({ made: offer, count: alike.length });
      else {
        answer.mode ??= offer.holding.mode;
        answer.milli ||= milliOf(offer);
        answer.fits += alike.length;
      }
    }
    this.rescore(group, request, answer);
    return answer;
  }

  private rescore(group: Group, { gpuCount = 1 }: GpuRequest, answer: Answer): void {
    answer.epoch = this.epoch;
    answer.score = this.scoreOf(group, gpuCount, answer.fits, answer.milli);
  }

  /** Writes into `out` which GPU it would be. */
  private scoreOf(group: Group, count: number, fits: number, milli: number): number {
    this.out.gpu = -1;
    const demand = demandOf(count, milli);
    const { state, scorer } = this.rank();
    if (fits < count || !state.fits(group.at, demand, undefined)) return LAST - milli / WHOLE_GPU;
    scorer.score(group.at, demand, this.out);
    return this.out.score;
  }

  /** GPUs of a group: the one that the policy names, then those with the least room. */
  private take(group: Group, candidates: readonly GpuCandidate[], request: GpuRequest, count: number): GpuOffer[] {
    const { state } = this.rank();
    const there = candidates.flatMap((candidate) => {
      const verdict = judgeNow(request, candidate);
      if (!('offer' in verdict)) return [];
      const { at } = this.places.get(candidate.gpu.id)!;
      return [{ at, offer: verdict.offer, free: state.freeGpu[state.firstGpu[group.at]! + at]! }];
    });
    this.scoreOf(group, count, there.length, milliOf(there[0]!.offer));
    const { gpu } = this.out;
    there.sort((a, b) => Number(b.at === gpu) - Number(a.at === gpu) || a.free - b.free || a.at - b.at);
    return there.slice(0, count).map(({ offer }) => offer);
  }

  /** Over all GPUs of the model that can take the instance: where the fewest later requests will be refused for it. */
  private placeDynamic(offers: readonly Makeable[], without: ReadonlySet<string> | undefined): Choice {
    let best: { made: GpuOffer; placement: number; cost: number } | undefined;
    for (const table of new Set(offers.map(({ made }) => made.mig!.table))) {
      const alike = offers.filter(({ made }) => made.mig!.table === table);
      const layouts = alike.flatMap(({ made, count }) => new Array<number>(count).fill(made.mig!.layout));
      const mix = this.migMix ?? Object.fromEntries(table.model.profiles.map(({ name }) => [name, 1]));
      const outlook = new MigOutlook(table, expectedRequests(table, mix, layouts.length));
      outlook.look(layouts);
      // GPUs of one layout are as good as the first of them
      const seen = new Set<number>();
      for (const { made } of alike) {
        const { layout, places } = made.mig!;
        if (seen.has(layout)) continue;
        seen.add(layout);
        for (const placement of places) {
          const cost = outlook.costOf(layout, placement);
          if (!best || cost < best.cost) best = { made, placement, cost };
        }
      }
    }
    const { made, placement } = best!;
    const place = this.places.get(made.holding.gpuId)!;
    const candidate = without ? this.candidate(made.holding.gpuId, without)! : place;
    return { offers: [placeMig(candidate, made, placement)], sharing: place.sharing };
  }

  /** In the order of the groups, as everything. */
  private grouped({ only, without }: Some): [Group, GpuCandidate[]][] {
    const groups = new Map<Group, GpuCandidate[]>();
    for (const id of only) {
      const place = this.places.get(id);
      if (!place) continue;
      const list = groups.get(place.group);
      const candidate = this.candidate(id, without)!;
      if (list) list.push(candidate);
      else groups.set(place.group, [candidate]);
    }
    return [...groups].sort(([a], [b]) => a.at - b.at);
  }
}

/** Thousandths of a GPU that an offer takes: the larger of its shares of memory and compute. */
export function milliOf({ holding, gpu }: Pick<GpuOffer, 'holding' | 'gpu'>): number {
  if (holding.mode === 'exclusive') return WHOLE_GPU;
  return Math.min(WHOLE_GPU, Math.max(1, holding.shareMilli, milliOfMemory(holding.memoryMb, gpu)));
}

/** As placement counts it: processors and host memory are not the allocator's. */
export function demandOf(gpuCount: number, milli: number): GpuDemand {
  return { cpuMilli: 0, memoryMb: 0, gpuCount, gpuMilli: gpuCount > 1 ? WHOLE_GPU : milli };
}

function distinct<T extends GpuCandidate>(candidates: readonly T[]): readonly Several<T>[] {
  const found = new Map<string, T[]>();
  for (const one of candidates) {
    const key = standingOf(one);
    const alike = found.get(key);
    if (alike) alike.push(one);
    else found.set(key, [one]);
  }
  return [...found.values()];
}

function distinctOf(group: Group): readonly Several<Place>[] {
  group.distinct ??= distinct(group.places);
  return group.distinct;
}

function tellOf(
  groups: readonly (readonly Several<Place>[])[],
  request: GpuRequest,
  most = Number.POSITIVE_INFINITY,
  tried?: TriedGang,
): { fits: string[]; gpus: GpuRefusal[] } {
  const fits: string[] = [];
  const gpus: GpuRefusal[] = [];
  for (const there of groups) {
    if (gpus.length >= most) break;
    const never = lacks(request, there[0]![0]!);
    for (const alike of there) {
      const verdict = never ?? judgeNow(request, alike[0]!);
      if ('offer' in verdict) {
        for (const { id } of alike) fits.push(id);
        continue;
      }
      const { code } = verdict;
      const what = verdict.say(tried);
      for (const place of alike) {
        const own = place === alike[0] || !personal.has(code) ? what : toldOf(judgeNow(request, place), what, tried);
        gpus.push({ node: place.node, gpuId: place.id, code, what: own });
      }
    }
  }
  return { fits, gpus: gpus.slice(0, most) };
}

/** Reasons that name who or what it is on each GPU. */
const personal: ReadonlySet<RefusalCode> = new Set(['held', 'foreign-process', 'health', 'no-partition']);

function toldOf(verdict: Verdict, otherwise: string, tried: TriedGang | undefined): string {
  return 'offer' in verdict ? otherwise : verdict.say(tried);
}

function kindOf(gpu: Gpu, sharing: GpuSharing): string {
  return JSON.stringify([gpu.vendor, gpu.name, gpu.architecture.value, gpu.memoryTotalMb.value, sharing]);
}

/** The same for requests that every GPU and every policy answers alike. */
function keyOf(request: GpuRequest): string {
  const { gpuCount = 1, memoryMb, computeShare, exclusive, minComputeCapability, model } = request;
  const { vendor, mode, profile, node } = request;
  const named = [model, minComputeCapability, vendor, mode, profile, node];
  return JSON.stringify([gpuCount, memoryMb, computeShare, exclusive, ...named]);
}
