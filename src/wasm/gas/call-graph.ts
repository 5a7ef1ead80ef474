import type { ParsedModule } from '../module/parse-module.js';
import type { FunctionSurvey } from './survey.js';

/** Which calls may recur, and the stack that all others can take together. */
export interface CallGraph {
  /** Whether a function (by index, imports first) calls itself through others, or calls one that does. */
  readonly recurs: Uint8Array;
  /** Slots of the deepest chain of frames that needs no counting. */
  readonly headroom: number;
}

/**
 * Strongly connected components of the call graph. An indirect call may reach every function of its type that a table may hold.
 * @param canonical for each type index the first index of an equal type
 * Source: R. Tarjan, Depth-First Search and Linear Graph Algorithms (1972). Cost: O(functions + calls).
 */
export function callGraph(
  module: ParsedModule,
  functions: readonly FunctionSurvey[],
  inTables: ReadonlySet<number>,
  canonical: ArrayLike<number>,
): CallGraph {
  const imported = module.importedFunctions;
  const count = module.functionTypes.length;
  // A node for each function, then one for each distinct type that is called indirectly.
  const typeNodes = new Map<number, number>();
  const successors: (readonly number[])[] = [];
  for (let f = 0; f < imported; f++) successors.push([]);
  for (const f of functions) {
    const next = [...f.callees];
    for (const type of f.indirectTypes) {
      const key = canonical[type]!;
      if (!typeNodes.has(key)) typeNodes.set(key, count + typeNodes.size);
      next.push(typeNodes.get(key)!);
    }
    successors.push(next);
  }
  const members = new Map<number, number[]>();
  for (const key of typeNodes.keys()) members.set(key, []);
  for (const f of inTables) members.get(canonical[module.functionTypes[f]!]!)?.push(f);
  for (const functionsOfType of members.values()) successors.push(functionsOfType);

  const nodes = successors.length;
  const order = new Int32Array(nodes).fill(-1);
  const low = new Int32Array(nodes);
  const onStack = new Uint8Array(nodes);
  const recurs = new Uint8Array(nodes);
  const chain = new Float64Array(nodes);
  const stack: number[] = [];
  let counter = 0;
  let headroom = 0;

  const close = (root: number): void => {
    const component: number[] = [];
    let node: number;
    do {
      node = stack.pop()!;
      onStack[node] = 0;
      component.push(node);
    } while (node !== root);
    const circular = component.length > 1 || successors[root]!.includes(root);
    const reaches = circular || component.some((n) => successors[n]!.some((next) => recurs[next] === 1));
    for (const n of component) {
      recurs[n] = reaches ? 1 : 0;
      let longest = 0;
      for (const next of successors[n]!) if (recurs[next] === 0) longest = Math.max(longest, chain[next]!);
      chain[n] = longest + (functions[n - imported]?.frameSlots ?? 0);
      headroom = Math.max(headroom, chain[n]!);
    }
  };

  // Depth first without recursion: modules have call chains longer than a stack.
  for (let start = 0; start < nodes; start++) {
    if (order[start] !== -1) continue;
    const path: { readonly node: number; next: number }[] = [{ node: start, next: 0 }];
    order[start] = low[start] = counter++;
    stack.push(start);
    onStack[start] = 1;
    while (path.length > 0) {
      const top = path[path.length - 1]!;
      const next = successors[top.node]![top.next++];
      if (next === undefined) {
        path.pop();
        const above = path[path.length - 1];
        if (above) low[above.node] = Math.min(low[above.node]!, low[top.node]!);
        if (low[top.node] === order[top.node]) close(top.node);
      } else if (order[next] === -1) {
        order[next] = low[next] = counter++;
        stack.push(next);
        onStack[next] = 1;
        path.push({ node: next, next: 0 });
      } else if (onStack[next]) low[top.node] = Math.min(low[top.node]!, order[next]!);
    }
  }
  return { recurs: recurs.subarray(0, count), headroom };
}
