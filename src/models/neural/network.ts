import { IguanaError } from '../../errors.js';
import type { StateReader, StateWriter } from '../../state.js';
import { AHEAD, INPUTS } from './window.js';

/** Units of the hidden layer. */
export const HIDDEN = 32;

/** Arrays of the network in order, each a matrix with a row per input, or a bias. */
export const SHAPES = [
  ['linear', INPUTS * AHEAD],
  ['hidden', INPUTS * HIDDEN],
  ['hidden bias', HIDDEN],
  ['out', HIDDEN * AHEAD],
  ['out bias', AHEAD],
] as const;

/** One array for each of `SHAPES`. */
export type Weights = readonly Float32Array[];

/**
 * A trained network as plain arrays: x·L + max(0, x·H + b)·O + c. The linear way carries what seasons and smoothing need (through 32
 * rectified units alone it would not fit), the hidden layer what depends on the situation. Nothing of TensorFlow is needed to ask it. Cost:
 * 6,144 multiplications an answer.
 * Errors: `IGU_STATE_INCOMPATIBLE` for weights of another shape. The linear way: Zeng et al. 2023, "Are Transformers Effective for Time
 * Series Forecasting?".
 */
export class Network {
  /** The arrays again, in the order in which `run` reads them. */
  private readonly linear: Float64Array;
  private readonly hidden: Float64Array;
  private readonly last: Float64Array;
  private readonly middle = new Float64Array(HIDDEN);
  private readonly out = new Float64Array(AHEAD);

  constructor(readonly weights: Weights) {
    const why =
      weights.length !== SHAPES.length
        ? `it has ${weights.length} arrays, not ${SHAPES.length}`
        : SHAPES.flatMap(([name, size], i) => {
            const one = weights[i]!;
            if (one.length !== size) return [`${name} has ${one.length} numbers, not ${size}`];
            return one.every(Number.isFinite) ? [] : [`${name} is not finite`];
          })[0];
    if (why) throw new IguanaError('IGU_STATE_INCOMPATIBLE', { what: 'the network', why });
    this.linear = inStrips(weights[0]!, AHEAD);
    this.hidden = inStrips(weights[1]!, HIDDEN);
    this.last = inStrips(weights[3]!, AHEAD);
  }

  /** What the network says of the inputs, for the steps ahead; the array is the network's own, valid until the next call. */
  run(inputs: Float64Array): Float64Array {
    const { middle, out } = this;
    middle.set(this.weights[2]!);
    out.set(this.weights[4]!);
    addProduct(inputs, this.linear, out);
    addProduct(inputs, this.hidden, middle);
    for (let i = 0; i < HIDDEN; i++) if (middle[i]! < 0) middle[i] = 0;
    addProduct(middle, this.last, out);
    return out;
  }

  save(writer: StateWriter): void {
    writer.u32(this.weights.length);
    for (const one of this.weights) writer.f64s(one);
  }

  static read(reader: StateReader): Network {
    const count = reader.u32();
    if (count !== SHAPES.length)
      throw new IguanaError('IGU_STATE_INCOMPATIBLE', { what: 'the network', why: `it has ${count} arrays` });
    return new Network(Array.from({ length: count }, () => Float32Array.from(reader.f64s())));
  }
}

/** Columns of a matrix that are summed at a time. */
const STRIP = 4;

/** A matrix cut into strips of four columns, one after the other, so that four sums stay in registers while the inputs pass. */
function inStrips(matrix: Float32Array, columns: number): Float64Array {
  const rows = matrix.length / columns;
  return Float64Array.from(matrix, (_, i) => {
    const strip = Math.floor(i / (rows * STRIP));
    const within = i - strip * rows * STRIP;
    return matrix[Math.floor(within / STRIP) * columns + strip * STRIP + (within % STRIP)]!;
  });
}

/** out ← out + x·matrix, the matrix in strips. */
function addProduct(x: Float64Array, strips: Float64Array, out: Float64Array): void {
  let at = 0;
  for (let o = 0; o < out.length; o += STRIP) {
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    for (let i = 0; i < x.length; i++, at += STRIP) {
      const value = x[i]!;
      a += value * strips[at]!;
      b += value * strips[at + 1]!;
      c += value * strips[at + 2]!;
      d += value * strips[at + 3]!;
    }
    out[o]! += a;
    out[o + 1]! += b;
    out[o + 2]! += c;
    out[o + 3]! += d;
  }
}
