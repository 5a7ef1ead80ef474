import { IguanaError } from '../../errors.js';
import {
  type ExpectedDemand,
  type GpuDemand,
  milliOn,
  type Placement,
  type PlacementNode,
  sizeOf,
  WHOLE_GPU,
} from './demand.js';

/**
 * What is free on each node. Plain typed arrays, since a policy looks at all nodes for every demand. `version` counts the changes of a node, so that what was
 * computed of it can be kept until the next one.
 */
export class PlacementState {
  readonly freeCpu: Float64Array;
  readonly freeMemory: Float64Array;
  /** Thousandths of each GPU; those of node n are from `firstGpu[n]` up to `firstGpu[n + 1]`. */
  readonly freeGpu: Int32Array;
  readonly firstGpu: Int32Array;
  readonly version: Uint32Array;
  /** Of each node's GPUs, in `models`. */
  readonly model: Int32Array;
  /** A name stands once for each size of memory that it has. */
  readonly models: readonly string[];
  /** MiB that a GPU of each of `models` can give, the largest of those that are nearly the same; undefined: not known. */
  readonly gpuMemoryMb: readonly (number | undefined)[];
  readonly maxCpu: number;
  readonly maxGpus: number;

  /** All is free. */
  constructor(readonly nodes: readonly PlacementNode[]) {
    this.firstGpu = new Int32Array(nodes.length + 1);
    nodes.forEach(({ gpus }, i) => {
      this.firstGpu[i + 1] = this.firstGpu[i]! + gpus;
    });
    this.freeCpu = Float64Array.from(nodes, ({ cpuMilli }) => cpuMilli);
    this.freeMemory = Float64Array.from(nodes, ({ memoryMb }) => memoryMb);
    this.freeGpu = new Int32Array(this.firstGpu[nodes.length]!).fill(WHOLE_GPU);
    this.version = new Uint32Array(nodes.length);
    const kinds = new Map<string, number>();
    const models: string[] = [];
    const memory: (number | undefined)[] = [];
    this.model = Int32Array.from(nodes, ({ model, gpuMemoryMb }) => {
      const key = JSON.stringify([model, gpuMemoryMb === undefined ? null : `${sizeOf(gpuMemoryMb)}`]);
      const kind = kinds.get(key) ?? models.length;
      kinds.set(key, kind);
      models[kind] = model;
      memory[kind] = gpuMemoryMb === undefined ? undefined : Math.max(memory[kind] ?? 0, gpuMemoryMb);
      return kind;
    });
    this.models = models;
    this.gpuMemoryMb = memory;
    this.maxCpu = nodes.reduce((most, { cpuMilli }) => Math.max(most, cpuMilli), 1);
    this.maxGpus = nodes.reduce((most, { gpus }) => Math.max(most, gpus), 1);
  }

  /** Which of `models` will do; undefined: all. */
  allowed(demand: ExpectedDemand): Uint8Array | undefined {
    const { models, gpuMemoryMb } = demand;
    if (models === undefined && gpuMemoryMb === undefined) return undefined;
    return Uint8Array.from(this.models, (model, m) =>
      (models?.includes(model) ?? true) && milliOn(demand, this.gpuMemoryMb[m]) <= WHOLE_GPU ? 1 : 0,
    );
  }

  /** Whether a node has room for a demand. */
  fits(node: number, demand: GpuDemand, allowed: Uint8Array | undefined): boolean {
    if (demand.cpuMilli > this.freeCpu[node]! || demand.memoryMb > this.freeMemory[node]!) return false;
    if (allowed && allowed[this.model[node]!] === 0) return false;
    if (demand.gpuCount === 0) return true;
    let room = 0;
    for (let g = this.firstGpu[node]!; g < this.firstGpu[node + 1]!; g++)
      if (this.freeGpu[g]! >= demand.gpuMilli) room++;
    return room >= demand.gpuCount;
  }

  /** Thousandths of all its GPUs. */
  idleGpu(node: number): number {
    let idle = 0;
    for (let g = this.firstGpu[node]!; g < this.firstGpu[node + 1]!; g++) idle += this.freeGpu[g]!;
    return idle;
  }

  /** The first GPUs of a node with room, by position. */
  firstFit(node: number, { gpuCount, gpuMilli }: GpuDemand): number[] {
    const found: number[] = [];
    const first = this.firstGpu[node]!;
    for (let g = first; g < this.firstGpu[node + 1]! && found.length < gpuCount; g++)
      if (this.freeGpu[g]! >= gpuMilli) found.push(g - first);
    return found;
  }

  /** @throws IguanaError `IGU_GPU_PLACEMENT` when there is no room: then nothing was taken */
  take(demand: GpuDemand, { node, gpus }: Placement): void {
    const first = this.firstGpu[node]!;
    const room =
      demand.cpuMilli <= this.freeCpu[node]! &&
      demand.memoryMb <= this.freeMemory[node]! &&
      gpus.length === demand.gpuCount &&
      new Set(gpus).size === gpus.length &&
      gpus.every((g) => g >= 0 && first + g < this.firstGpu[node + 1]! && this.freeGpu[first + g]! >= demand.gpuMilli);
    if (!room) throw misplaced(this.nodes[node]?.id ?? String(node), 'has no room for the demand');
    this.add(demand, node, gpus, -1);
  }

  /** @throws IguanaError `IGU_GPU_PLACEMENT` when more is given back than was taken: then nothing was */
  give(demand: GpuDemand, { node, gpus }: Placement): void {
    const { cpuMilli, memoryMb, id } = this.nodes[node]!;
    const first = this.firstGpu[node]!;
    const known =
      this.freeCpu[node]! + demand.cpuMilli <= cpuMilli &&
      this.freeMemory[node]! + demand.memoryMb <= memoryMb &&
      gpus.every((g) => this.freeGpu[first + g]! + demand.gpuMilli <= WHOLE_GPU);
    if (!known) throw misplaced(id, 'is given back more than was taken');
    this.add(demand, node, gpus, 1);
  }

  private add({ cpuMilli, memoryMb, gpuMilli }: GpuDemand, node: number, gpus: readonly number[], sign: 1 | -1): void {
    this.freeCpu[node]! += sign * cpuMilli;
    this.freeMemory[node]! += sign * memoryMb;
    const first = this.firstGpu[node]!;
    for (const g of gpus) this.freeGpu[first + g]! += sign * gpuMilli;
    this.version[node]!++;
  }
}

function misplaced(node: string, what: string): IguanaError {
  return new IguanaError('IGU_GPU_PLACEMENT', { node, what });
}
