import { ControlFlow } from './control-flow.js';

/** Where gas is charged, by segment. */
export interface Charges {
  /** What is taken (or, when negative, lent) at the segment's beginning. */
  readonly amount: ArrayLike<number>;
  /** How much more than its price has been charged once the segment has begun: a test adds it to what is left. */
  readonly ahead: ArrayLike<number>;
  /** 1 where the function's own frame is taken off the stack that is left, before and after each segment. */
  readonly framed: { readonly before: ArrayLike<number>; readonly after: ArrayLike<number> };
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
  if (count === 1) return { amount: flow.price, ahead: [0], framed: { before: [0], after: [0] } };
  const { into, outOf, ground } = junctionsOf(flow, true);
  const frequency = frequencies(flow);
  const lent = lendAlongTree(flow, into, outOf, ground, frequency);
  const all = new Incidence(2 * count + 1, count);
  for (let segment = 0; segment < count; segment++) {
    if (into[segment] !== outOf[segment]) all.add(into[segment]!, outOf[segment]!, segment);
  }
  for (let pass = 0, moved = true; moved && pass < PASSES; pass++) {
    moved = false;
    for (let junction = 0; junction <= 2 * count; junction++) {
      if (junction === ground || all.first[junction]! < 0) continue;
      moved = relend(flow, into, outOf, frequency, lent, junction, all) || moved;
    }
  }
  const amount = new Float64Array(count);
  const ahead = new Float64Array(count);
  for (let segment = 0; segment < count; segment++) {
    ahead[segment] = lent[outOf[segment]!]!;
    amount[segment] = flow.price[segment]! + ahead[segment]! - lent[into[segment]!]!;
  }
  return { amount, ahead, framed: placeFrames(flow, frequency, amount) };
}

/**
 * Recurring calls want the frame taken off before and given back after. Between them it may stay off, so that a loop of calls does neither: each
 * junction is put to the side that costs less, tests of the stack included, which are needed wherever a frame is taken off.
 */
function placeFrames(flow: ControlFlow, frequency: Float64Array, amount: Float64Array): Charges['framed'] {
  const { count } = flow;
  const before = new Uint8Array(count);
  const after = new Uint8Array(count);
  let calls = false;
  for (let segment = 0; segment < count; segment++) if (flow.lastRecurringCall[segment]! >= 0) calls = true;
  if (!calls) return { before, after };

  const { into, outOf, ground } = junctionsOf(flow, false);
  const off = new Uint8Array(2 * count + 1);
  const all = new Incidence(2 * count + 1, count);
  for (let segment = 0; segment < count; segment++) {
    all.add(into[segment]!, outOf[segment]!, segment);
    if (flow.lastRecurringCall[segment]! >= 0 && outOf[segment] !== ground) off[outOf[segment]!] = 1;
  }
  const cost = (segment: number): number => {
    const start = off[into[segment]!]!;
    const end = off[outOf[segment]!]!;
    const calling = flow.lastRecurringCall[segment]! >= 0;
    const change = calling ? 1 - start : end - start;
    let operations = calling && end === 0 ? 1 : 0;
    if (change !== 0 && amount[segment] === 0) operations++;
    if (change > 0) operations++;
    return operations * frequency[segment]!;
  };
  const costAt = (junction: number): number => {
    let sum = 0;
    for (let end = all.first[junction]!; end >= 0; end = all.next[end]!) sum += cost(end >> 1);
    return sum;
  };
  for (let pass = 0, moved = true; moved && pass < PASSES; pass++) {
    moved = false;
    for (let junction = 0; junction <= 2 * count; junction++) {
      if (junction === ground || all.first[junction]! < 0) continue;
      const now = costAt(junction);
      off[junction]! ^= 1;
      if (costAt(junction) < now * (1 - 1e-9)) moved = true;
      else off[junction]! ^= 1;
    }
  }
  for (let segment = 0; segment < count; segment++) {
    before[segment] = off[into[segment]!]!;
    after[segment] = off[outOf[segment]!]!;
  }
  return { before, after };
}

/** The edges at each vertex of a graph, as lists in arrays. Edge e stands at 2e for one end and 2e + 1 for the other. */
class Incidence {
  readonly first: Int32Array;
  readonly next: Int32Array;

  constructor(vertices: number, edges: number) {
    this.first = new Int32Array(vertices).fill(-1);
    this.next = new Int32Array(2 * edges);
  }

  add(a: number, b: number, edge: number): void {
    this.next[2 * edge] = this.first[a]!;
    this.first[a] = 2 * edge;
    this.next[2 * edge + 1] = this.first[b]!;
    this.first[b] = 2 * edge + 1;
  }
}

/** What each junction lends when a spanning tree of the most frequent segments needs no charges. */
function lendAlongTree(
  flow: ControlFlow,
  into: Int32Array,
  outOf: Int32Array,
  ground: number,
  frequency: Float64Array,
): Float64Array {
  const { count } = flow;
  const order = Uint32Array.from(frequency.keys()).sort((a, b) => frequency[b]! - frequency[a]!);
  const parent = separate(2 * count + 1);
  const tree = new Incidence(2 * count + 1, count);
  for (const segment of order) {
    if (join(parent, into[segment]!, outOf[segment]!)) tree.add(into[segment]!, outOf[segment]!, segment);
  }
  // Known at the ground, and from there along the tree.
  const lent = new Float64Array(2 * count + 1);
  const known = new Uint8Array(2 * count + 1);
  const visit = [ground];
  known[ground] = 1;
  for (let junction = visit.pop(); junction !== undefined; junction = visit.pop()) {
    for (let end = tree.first[junction]!; end >= 0; end = tree.next[end]!) {
      const segment = end >> 1;
      const other = end & 1 ? into[segment]! : outOf[segment]!;
      if (known[other]) continue;
      known[other] = 1;
      lent[other] = lent[junction]! + (end & 1 ? flow.price[segment]! : -flow.price[segment]!);
      visit.push(other);
    }
  }
  return lent;
}

const PASSES = 8;
/** Segments at one junction that are tried. */
const MOST_TRIED = 32;

/** A tree leaves out that prices may agree by chance: lends at one junction what most frequent segments agree on. Returns whether it changed. */
function relend(
  flow: ControlFlow,
  into: Int32Array,
  outOf: Int32Array,
  frequency: Float64Array,
  lent: Float64Array,
  junction: number,
  all: Incidence,
): boolean {
  const wanted = (end: number): number => {
    const segment = end >> 1;
    const price = flow.price[segment]!;
    return end & 1 ? lent[into[segment]!]! - price : lent[outOf[segment]!]! + price;
  };
  const agreeing = (value: number): number => {
    let sum = 0;
    let tried = 0;
    for (let end = all.first[junction]!; end >= 0 && tried < MOST_TRIED; end = all.next[end]!, tried++) {
      if (wanted(end) === value) sum += frequency[end >> 1]!;
    }
    return sum;
  };
  let best = lent[junction]!;
  let most = agreeing(best) * (1 + 1e-9);
  let tried = 0;
  for (let end = all.first[junction]!; end >= 0 && tried < MOST_TRIED; end = all.next[end]!, tried++) {
    const value = wanted(end);
    if (value === best) continue;
    const sum = agreeing(value);
    if (sum <= most) continue;
    best = value;
    most = sum * (1 + 1e-9);
  }
  if (best === lent[junction]) return false;
  lent[junction] = best;
  return true;
}

/** The junctions before and after each segment, as union-find has them. @param exactAtCalls segments with calls lead to the ground */
function junctionsOf(
  flow: ControlFlow,
  exactAtCalls: boolean,
): { into: Int32Array; outOf: Int32Array; ground: number } {
  const { count, ways, from, to } = flow;
  // 2s is the way out of segment s, 2s + 1 the way into it, the last the ground.
  const last = 2 * count;
  const parent = separate(2 * count + 1);
  const leaves = new Uint8Array(count);
  for (let way = 0; way < ways; way++) {
    leaves[from[way]!] = 1;
    join(parent, 2 * from[way]!, to[way] === ControlFlow.exit ? last : 2 * to[way]! + 1);
  }
  join(parent, 1, last);
  for (let segment = 0; segment < count; segment++) {
    if (!leaves[segment] || (exactAtCalls && flow.mustTest[segment])) join(parent, 2 * segment, last);
  }
  const into = new Int32Array(count);
  const outOf = new Int32Array(count);
  for (let segment = 0; segment < count; segment++) {
    outOf[segment] = find(parent, 2 * segment);
    into[segment] = find(parent, 2 * segment + 1);
  }
  return { into, outOf, ground: find(parent, last) };
}

function separate(size: number): Int32Array {
  const parent = new Int32Array(size);
  for (let i = 0; i < size; i++) parent[i] = i;
  return parent;
}

function find(parent: Int32Array, node: number): number {
  let root = node;
  while (parent[root] !== root) {
    parent[root] = parent[parent[root]!]!;
    root = parent[root]!;
  }
  return root;
}

/** False when they were one already. */
function join(parent: Int32Array, a: number, b: number): boolean {
  const from = find(parent, a);
  const to = find(parent, b);
  parent[from] = to;
  return from !== to;
}

/** A loop is taken to run so many times. */
const TRIPS = 8;

/** How often each segment runs for one call, guessed from its loops and branches. */
function frequencies(flow: ControlFlow): Float64Array {
  const { count, ways, from, to, loopDepth } = flow;
  const frequency = new Float64Array(count);
  const total = new Float64Array(count);
  const share = (way: number): number => {
    const inner = loopDepth[from[way]!]! - (to[way] === ControlFlow.exit ? 0 : loopDepth[to[way]!]!);
    return inner > 0 ? TRIPS ** -inner : 1;
  };
  const first = new Int32Array(count).fill(-1);
  const next = new Int32Array(ways);
  for (let way = 0; way < ways; way++) {
    total[from[way]!]! += share(way);
    next[way] = first[from[way]!]!;
    first[from[way]!] = way;
  }
  frequency[0] = 1;
  for (let segment = 0; segment < count; segment++) {
    if (flow.isHeader[segment]) frequency[segment]! *= TRIPS;
    for (let way = first[segment]!; way >= 0; way = next[way]!) {
      if (to[way]! > segment) frequency[to[way]!]! += (frequency[segment]! * share(way)) / total[segment]!;
    }
  }
  return frequency;
}
