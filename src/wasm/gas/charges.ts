import { ControlFlow } from './control-flow.js';

/** Where gas is charged, by segment. */
export interface Charges {
  /** What is taken (or, when negative, lent) at the segment's beginning. */
  readonly amount: readonly number[];
  /** How much more than its price has been charged once the segment has begun: a test adds it to what is left. */
  readonly ahead: readonly number[];
}

/**
 * Places charges where they run least often, while every way through the function costs exactly what it did.
 *
 * All ways that leave the same segments or lead to the same ones form a junction. Lending x at a junction (x less from every segment before it, x more
 * from every segment after it) changes no sum, so that each junction's x is free; but at the function's entry and ends, and after segments that call, it
 * is 0: what is left is exact wherever other code sees it. A segment is an edge between two junctions, and it needs no charge when they differ by its
 * price: so all edges of a spanning tree need none, and a tree of the greatest frequency leaves the charges to the rarest segments.
 *
 * Source: T. Ball, J. Larus, Optimally Profiling and Tracing Programs (1994), which places counters so. Cost: O(segments × log + ways).
 */
export function placeCharges(flow: ControlFlow): Charges {
  const { count } = flow;
  const junctions = new Junctions(flow);
  const frequency = frequencies(flow);
  const order = Array.from({ length: count }, (_, segment) => segment).sort((a, b) => frequency[b]! - frequency[a]!);
  const tree = new UnionFind(2 * count + 1);
  const edges: number[][] = Array.from({ length: 2 * count + 1 }, () => []);
  for (const segment of order) {
    const into = junctions.into(segment);
    const out = junctions.outOf(segment);
    if (!tree.join(into, out)) continue;
    edges[into]!.push(segment);
    edges[out]!.push(segment);
  }
  // What is lent at each junction: known at the ground, and from there along the tree.
  const lent = new Float64Array(2 * count + 1);
  const known = new Uint8Array(2 * count + 1);
  const visit = [junctions.ground];
  known[junctions.ground] = 1;
  for (let junction = visit.pop(); junction !== undefined; junction = visit.pop()) {
    for (const segment of edges[junction]!) {
      const into = junctions.into(segment);
      const out = junctions.outOf(segment);
      const other = into === junction ? out : into;
      if (known[other]) continue;
      known[other] = 1;
      lent[other] = lent[junction]! + (other === into ? flow.price[segment]! : -flow.price[segment]!);
      visit.push(other);
    }
  }
  const edgesOf: number[][] = Array.from({ length: 2 * count + 1 }, () => []);
  for (let segment = 0; segment < count; segment++) {
    const into = junctions.into(segment);
    const out = junctions.outOf(segment);
    if (into === out) continue;
    edgesOf[into]!.push(segment);
    edgesOf[out]!.push(segment);
  }
  for (let pass = 0, moved = true; moved && pass < PASSES; pass++) {
    moved = false;
    for (const [junction, incident] of edgesOf.entries()) {
      if (incident.length === 0 || junction === junctions.ground) continue;
      moved = relend(flow, junctions, frequency, lent, junction, incident) || moved;
    }
  }
  const amount: number[] = [];
  const ahead: number[] = [];
  for (let segment = 0; segment < count; segment++) {
    const after = lent[junctions.outOf(segment)]!;
    ahead.push(after);
    amount.push(flow.price[segment]! + after - lent[junctions.into(segment)]!);
  }
  return { amount, ahead };
}

const PASSES = 8;
/** Segments at one junction that are tried. */
const MOST_TRIED = 32;

/** A tree leaves out that prices may agree by chance: lends at one junction what most frequent segments agree on. Returns whether it changed. */
function relend(
  flow: ControlFlow,
  junctions: Junctions,
  frequency: Float64Array,
  lent: Float64Array,
  junction: number,
  incident: readonly number[],
): boolean {
  const free = new Map<number, number>();
  for (const segment of incident.slice(0, MOST_TRIED)) {
    const into = junctions.into(segment);
    const price = flow.price[segment]!;
    const wanted = into === junction ? lent[junctions.outOf(segment)]! + price : lent[into]! - price;
    free.set(wanted, (free.get(wanted) ?? 0) + frequency[segment]!);
  }
  let best = lent[junction]!;
  let most = free.get(best) ?? 0;
  for (const [wanted, sum] of free) {
    if (sum <= most * (1 + 1e-9)) continue;
    best = wanted;
    most = sum;
  }
  if (best === lent[junction]) return false;
  lent[junction] = best;
  return true;
}

class UnionFind {
  private readonly parent: Int32Array;

  constructor(size: number) {
    this.parent = Int32Array.from({ length: size }, (_, i) => i);
  }

  find(node: number): number {
    const { parent } = this;
    let root = node;
    while (parent[root] !== root) {
      parent[root] = parent[parent[root]!]!;
      root = parent[root]!;
    }
    return root;
  }

  /** False when they were one already. */
  join(a: number, b: number): boolean {
    const from = this.find(a);
    const to = this.find(b);
    if (from === to) return false;
    this.parent[from] = to;
    return true;
  }
}

/** Junctions are numbered as their members: 2s is the way out of segment s, 2s + 1 the way into it, the last the ground. */
class Junctions {
  private readonly members: UnionFind;
  private readonly last: number;

  constructor(flow: ControlFlow) {
    const { count } = flow;
    this.last = 2 * count;
    this.members = new UnionFind(2 * count + 1);
    const leaves = new Uint8Array(count);
    for (const [i, from] of flow.from.entries()) {
      const to = flow.to[i]!;
      leaves[from] = 1;
      this.members.join(2 * from, to === ControlFlow.exit ? this.last : 2 * to + 1);
    }
    this.members.join(1, this.last);
    for (let segment = 0; segment < count; segment++) {
      if (!leaves[segment] || flow.mustTest[segment]) this.members.join(2 * segment, this.last);
    }
  }

  get ground(): number {
    return this.members.find(this.last);
  }

  into(segment: number): number {
    return this.members.find(2 * segment + 1);
  }

  outOf(segment: number): number {
    return this.members.find(2 * segment);
  }
}

/** A loop is taken to run so many times. */
const TRIPS = 8;

/** How often each segment runs for one call, guessed from its loops and branches. */
function frequencies(flow: ControlFlow): Float64Array {
  const frequency = new Float64Array(flow.count);
  const share = flow.from.map((from, i) => {
    const to = flow.to[i]!;
    const depth = to === ControlFlow.exit ? 0 : flow.loopDepth[to]!;
    return TRIPS ** Math.min(0, depth - flow.loopDepth[from]!);
  });
  const total = new Float64Array(flow.count);
  const ways: number[][] = Array.from({ length: flow.count }, () => []);
  for (const [i, from] of flow.from.entries()) {
    total[from]! += share[i]!;
    ways[from]!.push(i);
  }
  frequency[0] = 1;
  for (let segment = 0; segment < flow.count; segment++) {
    if (flow.isHeader[segment]) frequency[segment]! *= TRIPS;
    for (const way of ways[segment]!) {
      const to = flow.to[way]!;
      if (to > segment) frequency[to]! += (frequency[segment]! * share[way]!) / total[segment]!;
    }
  }
  return frequency;
}
