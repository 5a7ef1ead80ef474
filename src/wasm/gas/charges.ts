import { ControlFlow } from './control-flow.js';

/**
 * Moves charges between segments so that fewer are left, and those outside of loops, while every way through the function costs what it did.
 *
 * Segments that can follow one another fall into groups: all that leave towards a group of segments, and all in that group. Taking δ from every
 * member and charging it in every segment before them (or the other way round) changes no sum. Groups are moved greedily while the weight of charged
 * segments falls; a segment weighs `8^loop depth`. No charge becomes negative, so gas only ever falls.
 *
 * @returns the charge of every segment. Cost: O(passes × (segments + ways)), at most `PASSES` passes.
 */
export function placeCharges(flow: ControlFlow): number[] {
  const charge = [...flow.price];
  const groups = groupsOf(flow);
  const weight = flow.loopDepth.map((depth) => 8 ** Math.min(depth, 16));
  for (let pass = 0; pass < PASSES; pass++) {
    let moved = false;
    for (const { before, after } of groups) {
      moved = move(charge, weight, after, before) || move(charge, weight, before, after) || moved;
    }
    if (!moved) break;
  }
  return charge;
}

const PASSES = 6;

/** Takes the smallest charge of `from` off all of them and puts it on all of `to`, when that makes the charged segments lighter. */
function move(charge: number[], weight: readonly number[], from: readonly number[], to: readonly number[]): boolean {
  let least = Number.POSITIVE_INFINITY;
  for (const segment of from) least = Math.min(least, charge[segment]!);
  if (least === 0 || least === Number.POSITIVE_INFINITY) return false;
  let gain = 0;
  for (const segment of from) if (charge[segment] === least) gain += weight[segment]!;
  for (const segment of to) if (charge[segment] === 0) gain -= weight[segment]!;
  if (gain <= 0) return false;
  for (const segment of from) charge[segment]! -= least;
  for (const segment of to) charge[segment]! += least;
  return true;
}

interface Group {
  readonly before: number[];
  readonly after: number[];
}

/** Segments on both sides of a group (a loop of one segment) keep their charge whatever moves, so they are in neither list. */
function groupsOf(flow: ControlFlow): Group[] {
  const { count } = flow;
  // Node 2s is the way out of segment s, node 2s + 1 the way into it; the last is the way out of the function.
  const parent = Int32Array.from({ length: 2 * count + 1 }, (_, i) => i);
  const find = (node: number): number => {
    let root = node;
    while (parent[root] !== root) {
      parent[root] = parent[parent[root]!]!;
      root = parent[root]!;
    }
    return root;
  };
  for (const [i, from] of flow.from.entries()) {
    const to = flow.to[i]!;
    parent[find(2 * from)] = find(to === ControlFlow.exit ? 2 * count : 2 * to + 1);
  }
  const fixed = find(2 * count);
  const groups = new Map<number, Group>();
  const group = (root: number): Group => {
    let found = groups.get(root);
    if (!found) {
      found = { before: [], after: [] };
      groups.set(root, found);
    }
    return found;
  };
  const left = new Uint8Array(count);
  const entered = new Uint8Array(count);
  for (const from of flow.from) left[from] = 1;
  for (const to of flow.to) if (to !== ControlFlow.exit) entered[to] = 1;
  for (let segment = 0; segment < count; segment++) {
    const out = left[segment] ? find(2 * segment) : -1;
    const into = entered[segment] ? find(2 * segment + 1) : -1;
    if (out === into) continue;
    if (out >= 0 && out !== fixed) group(out).before.push(segment);
    if (into >= 0 && into !== fixed) group(into).after.push(segment);
  }
  return [...groups.values()];
}
