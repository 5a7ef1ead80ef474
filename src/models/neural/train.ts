import * as tf from '@tensorflow/tfjs-core';
import {
  initializers,
  input,
  type LayersModel,
  type LayerVariable,
  layers,
  model,
  type SymbolicTensor,
} from '@tensorflow/tfjs-layers';
import { HIDDEN, type Weights } from './network.js';
import { ridge } from './ridge.js';
import { AHEAD, INPUTS } from './window.js';
import type { TrainingWindows } from './window-pool.js';

export interface TrainOptions {
  /** Most passes over the windows. Default 40; fewer when the held-out windows stop getting better. */
  readonly epochs?: number;
  /** Windows of one step. Default 64. */
  readonly batch?: number;
  /** Of Adam. Default 0.0005. */
  readonly learningRate?: number;
  /** The same seed and windows give the same weights on the same backend. Default 1. */
  readonly seed?: number;
  /** To go on from; default: from scratch, where the network says what seasonal naive says. */
  readonly initial?: Weights;
}

export interface Trained {
  readonly weights: Weights;
  /** Mean absolute error on the held-out windows, in units of each window's scale; beside it seasonal naive's. */
  readonly error: number;
  readonly naiveError: number;
  readonly epochs: number;
}

/** Passes without a better held-out error before training stops. */
const PATIENCE = 6;
/** Penalties of ridge regression that are tried; the held-out windows choose. */
const PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1];

/** The network as TensorFlow.js builds it: a linear way and a hidden layer, added. Without weights it says nothing but zero. */
export function buildModel(seed: number, initial?: Weights): LayersModel {
  const inputs = input({ shape: [INPUTS] });
  const linear = layers.dense({ units: AHEAD, useBias: false, kernelInitializer: 'zeros' });
  const hidden = layers.dense({
    units: HIDDEN,
    activation: 'relu',
    kernelInitializer: initializers.heNormal({ seed }),
  });
  const last = layers.dense({ units: AHEAD, kernelInitializer: 'zeros' });
  const outputs = layers
    .add()
    .apply([
      linear.apply(inputs) as SymbolicTensor,
      last.apply(hidden.apply(inputs)) as SymbolicTensor,
    ]) as SymbolicTensor;
  const built = model({ inputs, outputs });
  if (initial) setWeights(built, initial);
  return built;
}

function setWeights(built: LayersModel, weights: Weights): void {
  parametersOf(built).forEach((one, i) => {
    const tensor = tf.tensor(weights[i]!, one.shape as number[]);
    one.write(tensor);
    tensor.dispose();
  });
}

/** The arrays of the network in the order of `SHAPES`, whichever order the library keeps its layers in. */
function parametersOf(built: LayersModel): LayerVariable[] {
  const dense = built.layers.filter((layer) => layer.getClassName() === 'Dense');
  const hidden = dense.find((layer) => layer.outputShape[1] === HIDDEN);
  const linear = dense.find((layer) => layer !== hidden && layer.weights.length === 1);
  const last = dense.find((layer) => layer !== hidden && layer.weights.length === 2);
  return [linear, hidden, last].flatMap((layer) => layer?.weights ?? []);
}

/**
 * Trains the network: ridge regression for the linear way, then Adam on the mean absolute error for all of it; keeps the weights that did
 * best on the held-out windows. Needs a backend (`chooseBackend`). Cost: about 30 ms a pass over 1,000 windows on WebAssembly. Adam: Kingma
 * & Ba 2015.
 */
export async function train(windows: TrainingWindows, options: TrainOptions = {}): Promise<Trained> {
  const { epochs = 40, batch = 64, learningRate = 0.0005, seed = 1, initial } = options;
  const held: number[] = [];
  const used: number[] = [];
  for (let i = 0; i < windows.count; i++) (windows.held[i] ? held : used).push(i);
  const built = buildModel(seed);
  const optimizer = tf.train.adam(learningRate);
  const heldOut = tensors(windows, held);
  const heldOutError = async (): Promise<number> => {
    const error = tf.tidy(() => tf.mean(tf.abs(tf.sub(built.apply(heldOut.x) as tf.Tensor, heldOut.y))));
    const [value] = await error.data();
    error.dispose();
    return value!;
  };

  // it says zero now, so its error is that of seasonal naive
  const naiveError = await heldOutError();
  let best = { weights: await weightsOf(built), error: naiveError };
  const keepIfBetter = async (): Promise<boolean> => {
    const error = await heldOutError();
    if (!(error < best.error)) return false;
    best = { weights: await weightsOf(built), error };
    return true;
  };
  const [, ...rest] = best.weights;
  const starts: Weights[] = ridge(windows, used, PENALTIES).map((linear) => [linear, ...rest]);
  if (initial) starts.push(initial);
  for (const start of starts) {
    setWeights(built, start);
    await keepIfBetter();
  }
  setWeights(built, best.weights);

  const shuffle = shuffler(seed);
  let epoch = 0;
  for (let since = 0; epoch < epochs && since < PATIENCE; epoch++) {
    shuffle(used);
    for (let from = 0; from < used.length; from += batch) {
      const { x, y } = tensors(windows, used.slice(from, from + batch));
      optimizer.minimize(() => tf.mean<tf.Scalar>(tf.abs(tf.sub(built.apply(x, { training: true }) as tf.Tensor, y))));
      tf.dispose([x, y]);
    }
    since = (await keepIfBetter()) ? 0 : since + 1;
  }
  tf.dispose([heldOut.x, heldOut.y]);
  optimizer.dispose();
  built.dispose();
  return { ...best, naiveError, epochs: epoch };
}

function tensors(windows: TrainingWindows, rows: readonly number[]): { x: tf.Tensor2D; y: tf.Tensor2D } {
  const x = new Float32Array(rows.length * INPUTS);
  const y = new Float32Array(rows.length * AHEAD);
  rows.forEach((row, i) => {
    x.set(windows.inputs.subarray(row * INPUTS, (row + 1) * INPUTS), i * INPUTS);
    y.set(windows.targets.subarray(row * AHEAD, (row + 1) * AHEAD), i * AHEAD);
  });
  return { x: tf.tensor2d(x, [rows.length, INPUTS]), y: tf.tensor2d(y, [rows.length, AHEAD]) };
}

async function weightsOf(built: LayersModel): Promise<Float32Array[]> {
  return Promise.all(parametersOf(built).map(async (one) => Float32Array.from(await one.read().data())));
}

/** Fisher–Yates by a linear congruential generator (Numerical Recipes' constants). */
function shuffler(seed: number): (list: number[]) => void {
  let state = seed >>> 0;
  return (list) => {
    for (let i = list.length - 1; i > 0; i--) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const j = Math.floor((state / 4294967296) * (i + 1));
      [list[i], list[j]] = [list[j]!, list[i]!];
    }
  };
}
