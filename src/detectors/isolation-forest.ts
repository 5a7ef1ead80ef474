import type { StateReader, StateWriter } from '../state.js';
import { Ring } from '../stats/ring.js';
import type { Detector } from './detector.js';

const TREES = 24;
const SAMPLE = 64;
const WINDOW = 256;
const READY = 32;
/** One tree is grown anew after this many values: the forest turns over in TREES times as many. */
const REGROW_EVERY = 16;
const HEIGHT = Math.ceil(Math.log2(SAMPLE));
const NODES = 2 ** (HEIGHT + 1);
const EULER = 0.5772156649;

/**
 * Isolation forest over (value, change): how few random cuts separate a point from a sample of the last 256, as 2^(−mean path / c(n)); 0.5 is ordinary, 1 isolated at once.
 * One tree is grown anew every 16 values, so learning never refits the forest at once. Seeded: the same input gives the same trees.
 * Cost: 24 paths of at most 6 a score. Source: Liu, Ting & Zhou 2008.
 */
export class IsolationForest implements Detector {
  readonly name = 'isolation-forest';
  private readonly values = new Ring(WINDOW);
  private readonly features = new Uint8Array(TREES * NODES);
  private readonly cuts = new Float64Array(TREES * NODES).fill(Number.NaN);
  /** Points in a leaf; 0 for a node that does not exist. */
  private readonly sizes = new Float64Array(TREES * NODES);
  private grown = 0;
  private seen = 0;
  private state = 0x2545f491;

  get ready(): boolean {
    return this.grown > 0;
  }

  get expected(): number {
    return this.values.size === 0 ? 0 : this.values.at(0);
  }

  get scale(): number {
    let sum = 0;
    const n = Math.min(this.values.size - 1, 60);
    for (let i = 0; i < n; i++) sum += Math.abs(this.values.at(i) - this.values.at(i + 1));
    return n > 0 ? sum / n : 0;
  }

  score(value: number): number {
    if (!this.ready) return 0;
    const change = value - this.values.at(0);
    const trees = Math.min(this.grown, TREES);
    let length = 0;
    for (let t = 0; t < trees; t++) length += this.path(t, value, change);
    return 2 ** (-length / trees / averagePath(SAMPLE));
  }

  learn(value: number): void {
    this.values.push(value);
    this.seen++;
    if (this.values.size <= READY) return;
    if (this.grown === 0) for (let t = 0; t < TREES; t++) this.grow(this.grown++ % TREES);
    else if (this.seen % REGROW_EVERY === 0) this.grow(this.grown++ % TREES);
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen).u32(this.grown).u32(this.state).bytes(this.features).f64s(this.cuts).f64s(this.sizes);
    this.values.save(writer);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    this.grown = reader.u32();
    this.state = reader.u32();
    this.features.set(reader.bytes());
    this.cuts.set(reader.f64s());
    this.sizes.set(reader.f64s());
    this.values.restore(reader);
  }

  private path(tree: number, value: number, change: number): number {
    const base = tree * NODES;
    let node = 1;
    for (let depth = 0; ; depth++) {
      const cut = this.cuts[base + node]!;
      if (Number.isNaN(cut)) return depth + averagePath(this.sizes[base + node]!);
      const x = this.features[base + node] === 0 ? value : change;
      node = 2 * node + (x < cut ? 0 : 1);
    }
  }

  private grow(tree: number): void {
    const points: [number, number][] = [];
    const available = this.values.size - 1;
    for (let i = 0; i < Math.min(SAMPLE, available); i++) {
      const at = Math.floor(this.random() * available);
      points.push([this.values.at(at), this.values.at(at) - this.values.at(at + 1)]);
    }
    const base = tree * NODES;
    this.cuts.fill(Number.NaN, base, base + NODES);
    this.sizes.fill(0, base, base + NODES);
    this.split(base, 1, points, 0);
  }

  private split(base: number, node: number, points: readonly [number, number][], depth: number): void {
    this.sizes[base + node] = points.length;
    if (depth >= HEIGHT || points.length <= 1) return;
    const feature = this.random() < 0.5 ? 0 : 1;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (const point of points) {
      low = Math.min(low, point[feature]);
      high = Math.max(high, point[feature]);
    }
    if (!(low < high)) return;
    const cut = low + this.random() * (high - low);
    this.features[base + node] = feature;
    this.cuts[base + node] = cut;
    this.split(
      base,
      2 * node,
      points.filter((p) => p[feature] < cut),
      depth + 1,
    );
    this.split(
      base,
      2 * node + 1,
      points.filter((p) => !(p[feature] < cut)),
      depth + 1,
    );
  }

  /** xorshift32 */
  private random(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state / 4_294_967_296;
  }
}

/** Mean path of an unsuccessful search in a binary tree of n points. */
function averagePath(n: number): number {
  if (n <= 1) return 0;
  if (n === 2) return 1;
  return 2 * (Math.log(n - 1) + EULER) - (2 * (n - 1)) / n;
}
