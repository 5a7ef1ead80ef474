import { type GpuDemand, type Placement, shapeOf } from './demand.js';
import type { PlacementState } from './placement-state.js';

/** Where one demand would go in one node, and how good that is. */
export interface NodeScore {
  score: number;
  /** Position of the GPU for a share of one; −1: the first that have room. */
  gpu: number;
}

/** How a policy values nodes: the higher the better. It must depend on the node and the demand alone, save for what `changed` tells. */
export interface NodeScorer {
  /** Called for nodes that have room. Writes into `out`. */
  score(node: number, demand: GpuDemand, out: NodeScore): void;
  /** Something was placed on the node or taken off it. */
  changed?(node: number): void;
}

interface Scores {
  readonly demand: GpuDemand;
  readonly allowed: Uint8Array | undefined;
  /** Of the node when its score was computed, plus 1; 0: never. */
  readonly version: Float64Array;
  readonly score: Float64Array;
  readonly gpu: Int16Array;
}

/** Shapes whose scores are kept; the least recently used goes first. One costs 18 bytes a node. */
const MAX_SHAPES = 2_048;

/**
 * Chooses for each demand the node with the highest score, of several alike the last one: a rule that is not random, since with random ties fragmentation gradient descent
 * falls below best-fit. Scores are kept for each shape of demand until the node changes.
 * Cost: O(nodes) a demand, and a score for each node that changed since the last demand of that shape.
 */
export class Placer {
  private readonly kept = new Map<string, Scores>();
  private readonly out: NodeScore = { score: 0, gpu: -1 };

  constructor(
    readonly state: PlacementState,
    private readonly scorer: NodeScorer,
  ) {}

  /** Undefined when no node has room. Nothing is taken. */
  choose(demand: GpuDemand): Placement | undefined {
    const scores = this.scoresOf(demand);
    const { state } = this;
    const { version, score, gpu } = scores;
    let best = -1;
    let highest = Number.NEGATIVE_INFINITY;
    for (let node = 0; node < score.length; node++) {
      if (version[node] !== state.version[node]! + 1) this.compute(scores, node);
      const value = score[node]!;
      if (value >= highest && value !== Number.NEGATIVE_INFINITY) {
        highest = value;
        best = node;
      }
    }
    if (best < 0) return undefined;
    return { node: best, gpus: gpu[best]! >= 0 ? [gpu[best]!] : state.firstFit(best, demand) };
  }

  /** Chooses and takes. */
  place(demand: GpuDemand): Placement | undefined {
    const placement = this.choose(demand);
    if (placement) this.take(demand, placement);
    return placement;
  }

  take(demand: GpuDemand, placement: Placement): void {
    this.state.take(demand, placement);
    this.scorer.changed?.(placement.node);
  }

  give(demand: GpuDemand, placement: Placement): void {
    this.state.give(demand, placement);
    this.scorer.changed?.(placement.node);
  }

  private compute({ demand, allowed, version, score, gpu }: Scores, node: number): void {
    version[node] = this.state.version[node]! + 1;
    if (!this.state.fits(node, demand, allowed)) {
      score[node] = Number.NEGATIVE_INFINITY;
      return;
    }
    this.out.gpu = -1;
    this.scorer.score(node, demand, this.out);
    score[node] = this.out.score;
    gpu[node] = this.out.gpu;
  }

  private scoresOf(demand: GpuDemand): Scores {
    const key = shapeOf(demand);
    let scores = this.kept.get(key);
    if (scores) this.kept.delete(key);
    else {
      const nodes = this.state.nodes.length;
      scores = {
        demand,
        allowed: this.state.allowed(demand),
        version: new Float64Array(nodes),
        score: new Float64Array(nodes),
        gpu: new Int16Array(nodes),
      };
      if (this.kept.size >= MAX_SHAPES) this.kept.delete(this.kept.keys().next().value as string);
    }
    this.kept.set(key, scores);
    return scores;
  }
}
