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
 * A trained network as plain arrays: x·L + max(0, x·H + b)·O + c. The linear way carries what seasons and smoothing need (through 32 rectified units alone it would not fit), the hidden layer
 * what depends on the situation. Nothing of TensorFlow is needed to ask it. Cost: 6,144 multiplications an answer.
 * Errors: `IGU_STATE_INCOMPATIBLE` for weights of another shape. The linear way: Zeng et al. 2023, "Are Transformers Effective for Time Series Forecasting?".
 */
export class Network {
  private readonly hidden = new Float32Array(HIDDEN);
  private readonly out = new Float32Array(AHEAD);

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
  }

  /** What the network says of the inputs, for the steps ahead; the array is the network's own, valid until the next call. */
  run(inputs: Float32Array): Float32Array {
    const [linear, hidden, hiddenBias, last, lastBias] = this.weights as [
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
      Float32Array,
    ];
    this.out.set(lastBias);
    this.hidden.set(hiddenBias);
    addProduct(inputs, linear, this.out);
    addProduct(inputs, hidden, this.hidden);
    for (let i = 0; i < HIDDEN; i++) if (this.hidden[i]! < 0) this.hidden[i] = 0;
    addProduct(this.hidden, last, this.out);
    return this.out;
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

/** out ← out + x·matrix. */
function addProduct(x: Float32Array, matrix: Float32Array, out: Float32Array): void {
  const units = out.length;
  for (let i = 0; i < x.length; i++) {
    const value = x[i]!;
    if (value === 0) continue;
    const row = i * units;
    for (let o = 0; o < units; o++) out[o]! += value * matrix[row + o]!;
  }
}
