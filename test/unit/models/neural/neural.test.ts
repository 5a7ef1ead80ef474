import * as tf from '@tensorflow/tfjs-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Backend, chooseBackend } from '../../../../src/models/neural/backend.js';
import { Network, SHAPES } from '../../../../src/models/neural/network.js';
import { Neural } from '../../../../src/models/neural/neural.js';
import { NeuralTrainer } from '../../../../src/models/neural/neural-trainer.js';
import { ridge } from '../../../../src/models/neural/ridge.js';
import { SharedNetwork } from '../../../../src/models/neural/shared-network.js';
import { buildModel, train } from '../../../../src/models/neural/train.js';
import { AHEAD, INPUTS } from '../../../../src/models/neural/window.js';
import { WindowPool } from '../../../../src/models/neural/window-pool.js';
import { SeasonalNaive } from '../../../../src/models/seasonal-naive.js';
import { type Stateful, StateReader, StateWriter } from '../../../../src/state.js';
import { uniform } from '../../../support/random.js';

const seasons = [24, 168];

/** Hours of a sine by day, lower at weekends, with noise, at a level and size of its own. */
function weekly(length: number, seed: number, level = 100, size = 1): number[] {
  const next = uniform(seed);
  return Array.from({ length }, (_, i) => {
    const weekend = Math.floor(i / 24) % 7 >= 5 ? 0.5 : 1;
    return level + size * (40 * weekend * Math.sin((2 * Math.PI * i) / 24) + 12 * (next() - 0.5));
  });
}

const learn = (model: Neural, values: readonly number[]): Neural => {
  for (const value of values) model.learn(value);
  return model;
};

const saved = (one: Stateful): Buffer => {
  const writer = new StateWriter();
  one.save(writer);
  return writer.finish();
};

/** Weights that do something, without training. */
function someWeights(seed: number): Float32Array[] {
  const next = uniform(seed);
  return SHAPES.map(([, size]) => Float32Array.from({ length: size }, () => 0.3 * (next() - 0.5)));
}

function trainedShared(seed = 5): SharedNetwork {
  const shared = new SharedNetwork();
  shared.swap(someWeights(seed));
  return shared;
}

describe('backend', () => {
  it('is one that works, with the reason', async () => {
    const chosen = await chooseBackend();
    expect(['tensorflow', 'wasm', 'cpu']).toContain(chosen.name);
    if (chosen.name !== 'tensorflow') expect(chosen.why).toContain('@tensorflow/tfjs-node');
    expect(tf.getBackend()).toBe(chosen.name);
    expect(await chooseBackend(['cpu'])).toEqual({ name: 'cpu', why: 'it is installed and works' });
    await expect(chooseBackend([])).rejects.toThrow('no TensorFlow.js backend works');
  });
});

describe('network', () => {
  it.each(['wasm', 'cpu'] as const)('says what TensorFlow.js predicts on %s', async (name) => {
    await chooseBackend([name]);
    const weights = someWeights(3);
    const model = buildModel(1, weights);
    const network = new Network(weights);
    const next = uniform(9);
    for (let n = 0; n < 20; n++) {
      const inputs = Float64Array.from({ length: INPUTS }, () => 6 * (next() - 0.5));
      const predicted = (model.predict(tf.tensor2d(Float32Array.from(inputs), [1, INPUTS])) as tf.Tensor).dataSync();
      const said = network.run(inputs);
      expect(said.length).toBe(AHEAD);
      for (let h = 0; h < AHEAD; h++) expect(Math.abs(said[h]! - predicted[h]!)).toBeLessThan(1e-4);
    }
  });

  it('takes no weights of another shape and none that are not finite, and keeps the ones in use', () => {
    const shared = trainedShared();
    const before = shared.network;
    expect(() => shared.swap(someWeights(1).slice(1))).toThrow('IGU_STATE_INCOMPATIBLE');
    const broken = someWeights(1);
    broken[2]![7] = Number.NaN;
    expect(() => shared.swap(broken)).toThrow('IGU_STATE_INCOMPATIBLE');
    expect(shared.network).toBe(before);
    expect(shared.version).toBe(1);
  });

  it('comes back from its saved state', () => {
    const shared = trainedShared();
    const other = new SharedNetwork();
    other.restore(new StateReader(saved(shared)));
    const values = weekly(300, 4);
    const forecast = (of: SharedNetwork) => [...learn(new Neural({ seasons, shared: of }), values).forecast(60)];
    expect(forecast(other)).toEqual(forecast(shared));
    expect(saved(other).equals(saved(shared))).toBe(true);
    const empty = new SharedNetwork();
    other.restore(new StateReader(saved(empty)));
    expect(other.network).toBeUndefined();
  });
});

describe('forecaster', () => {
  it('forecasts seasonal naive and says so before any training', () => {
    const model = new Neural({ seasons: [24], shared: new SharedNetwork() });
    const naive = new SeasonalNaive({ seasons: [24] });
    expect(model.trained).toBe(false);
    for (const value of weekly(200, 1)) {
      model.learn(value);
      naive.learn(value);
      expect([...model.forecast(60)]).toEqual([...naive.forecast(60)]);
    }
  });

  it('uses weights from the moment they are swapped in', () => {
    const shared = new SharedNetwork();
    const model = learn(new Neural({ seasons, shared }), weekly(400, 1));
    const before = [...model.forecast(24)];
    shared.swap(someWeights(5));
    expect(model.trained).toBe(true);
    expect([...model.forecast(24)]).not.toEqual(before);
  });

  it('does not depend on level and size of the series', () => {
    const shared = trainedShared();
    const small = learn(new Neural({ seasons, shared }), weekly(400, 1, 0, 1)).forecast(60);
    const large = learn(new Neural({ seasons, shared }), weekly(400, 1, 5e6, 1000)).forecast(60);
    for (let h = 0; h < 60; h++) expect((large[h]! - 5e6) / 1000).toBeCloseTo(small[h]!, 2);
  });

  it('stays finite through gaps, constants, huge values and little history, and keeps a constant', () => {
    const shared = trainedShared();
    const model = new Neural({ seasons: [24], shared });
    expect([...model.forecast(3)]).toEqual([0, 0, 0]);
    for (let i = 0; i < 200; i++) {
      model.learn(i % 7 === 3 ? Number.NaN : 5);
      for (const value of model.forecast(70)) expect(value).toBeCloseTo(5, 6);
    }
    expect(model.seen).toBe(200);
    for (const value of [1e308, -1e308, 1e-320, 0, Number.POSITIVE_INFINITY]) {
      model.learn(value);
      expect(model.forecast(70).every(Number.isFinite)).toBe(true);
    }
  });

  it('goes on after save and restore as if nothing had happened', () => {
    const shared = trainedShared();
    const values = weekly(500, 2);
    const whole = learn(new Neural({ seasons, shared }), values);
    const first = learn(new Neural({ seasons, shared }), values.slice(0, 333));
    const restored = new Neural({ seasons, shared });
    const reader = new StateReader(saved(first));
    restored.restore(reader);
    expect(reader.done).toBe(true);
    expect([...restored.forecast(60)]).toEqual([...first.forecast(60)]);
    learn(restored, values.slice(333));
    expect([...restored.forecast(60)]).toEqual([...whole.forecast(60)]);
    expect(saved(restored).equals(saved(whole))).toBe(true);
  });
});

describe('ridge regression', () => {
  it('finds the minimum: the gradient of ‖XW − Y‖² + λn‖W‖² is zero', () => {
    const pool = new WindowPool(150);
    learn(new Neural({ seasons, shared: { pool, network: undefined } as never }), weekly(1400, 3));
    const windows = pool.windows();
    const rows = Array.from({ length: windows.count }, (_, i) => i);
    const x = (i: number, k: number) => windows.inputs[i * INPUTS + k]!;
    const lambdas = [1e-3, 1];
    ridge(windows, rows, lambdas).forEach((w, l) => {
      for (const h of [0, 11, 23]) {
        const residuals = rows.map(
          (i) =>
            Array.from({ length: INPUTS }, (_, k) => x(i, k) * w[k * AHEAD + h]!).reduce((a, b) => a + b, 0) -
            windows.targets[i * AHEAD + h]!,
        );
        for (let k = 0; k < INPUTS; k++) {
          const gradient = rows.reduce((sum, i) => sum + x(i, k) * residuals[i]!, 0);
          expect(gradient + lambdas[l]! * rows.length * w[k * AHEAD + h]!).toBeCloseTo(0, 3);
        }
      }
    });
  });
});

describe('window pool', () => {
  it('keeps a sample of old and new windows within its size, the same for the same seed', () => {
    const kept = (seed: number) => {
      const pool = new WindowPool(100, seed);
      const window = { inputs: new Float64Array(INPUTS), target: (_: number, value: number) => value };
      for (let i = 0; i < 2000; i++) {
        window.inputs[0] = i;
        pool.offer(window as never, () => i, i % 2 === 1);
      }
      const { count, inputs, targets, held } = pool.windows();
      expect([count, pool.offered, inputs.length, targets.length]).toEqual([100, 2000, 100 * INPUTS, 100 * AHEAD]);
      return Array.from({ length: 100 }, (_, i) => {
        expect(targets[i * AHEAD]).toBe(inputs[i * INPUTS]);
        expect(held[i]).toBe(inputs[i * INPUTS]! % 2);
        return inputs[i * INPUTS]!;
      });
    };
    const numbers = kept(1);
    expect(kept(1)).toEqual(numbers);
    expect(kept(2)).not.toEqual(numbers);
    // uniform over 0…1999: the mean of 100 has a standard deviation of 58
    const mean = numbers.reduce((a, b) => a + b, 0) / 100;
    expect(Math.abs(mean - 1000)).toBeLessThan(250);
  });
});

describe('training', () => {
  const shared = new SharedNetwork({ maxWindows: 1500 });
  const trainer = new NeuralTrainer(shared, { epochs: 25, seed: 3 });
  let backend: Backend;

  beforeAll(async () => {
    backend = await trainer.backend();
  });
  afterAll(() => trainer.close());

  it('runs in its own thread and beats seasonal naive on series it has not seen, at every part of the horizon', async () => {
    expect(await trainer.trainOnce()).toBeUndefined();
    for (let series = 0; series < 12; series++)
      learn(new Neural({ seasons, shared }), weekly(1200, 10 + series, 50 * series, 1 + series));
    const started = performance.now();
    const trained = await trainer.trainOnce();
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(trained).toMatchObject({ swapped: true });
    expect(trained!.error).toBeLessThan(0.85 * trained!.naiveError);
    expect(['tensorflow', 'wasm', 'cpu']).toContain(backend.name);
    // nothing new since: not again
    expect(await trainer.trainOnce()).toBeUndefined();

    const values = weekly(1400, 99, 7, 3);
    const model = new Neural({ seasons, shared: shared });
    const naive = new SeasonalNaive({ seasons });
    const errors = [0, 0, 0].map(() => ({ neural: 0, naive: 0 }));
    values.forEach((value, i) => {
      model.learn(value);
      naive.learn(value);
      if (i < 400 || i + 60 >= values.length) return;
      const ours = model.forecast(60);
      const theirs = naive.forecast(60);
      [1, 24, 60].forEach((h, k) => {
        errors[k]!.neural += Math.abs(ours[h - 1]! - values[i + h]!);
        errors[k]!.naive += Math.abs(theirs[h - 1]! - values[i + h]!);
      });
    });
    // noise is uniform ±6·3: naive carries it twice (6 on average), the best possible once (4.5)
    for (const { neural, naive: theirs } of errors) expect(neural).toBeLessThan(0.94 * theirs);
  });

  it('gives the same weights for the same seed, and goes on from those it is given', async () => {
    const windows = shared.pool.windows();
    const [one, two] = [
      await trainer.train(windows, { epochs: 2, seed: 7 }),
      await trainer.train(windows, { epochs: 2, seed: 7 }),
    ];
    expect(two).toEqual(one);
    const other = await trainer.train(windows, { epochs: 2, seed: 8 });
    expect(other.weights[1]).not.toEqual(one.weights[1]);
    const on = await trainer.train(windows, { epochs: 1, initial: one.weights });
    expect(on.error).toBeLessThanOrEqual(one.error);
  });

  it('does not swap in what is no better than seasonal naive', async () => {
    const noise = new SharedNetwork({ maxWindows: 300 });
    const next = uniform(1);
    // a random walk: the last value is the best forecast
    let value = 0;
    const model = new Neural({ seasons: [], shared: noise });
    for (let i = 0; i < 3000; i++) {
      value += next() - 0.5;
      model.learn(value);
    }
    const other = new NeuralTrainer(noise, { epochs: 3, learningRate: 1 });
    const trained = await other.trainOnce();
    await other.close();
    expect(trained?.swapped).toBe(false);
    expect(model.trained).toBe(false);
  });

  it('fails what is under way when it is stopped, and starts again when asked', async () => {
    const other = new NeuralTrainer(shared);
    await other.backend();
    const under = other.train(shared.pool.windows(), { epochs: 1000 });
    const failed = expect(under).rejects.toThrow('IGU_BACKEND');
    await new Promise<void>((resolve) => setImmediate(resolve));
    await other.close();
    await failed;
    expect((await other.backend()).name).toBe(backend.name);
    await other.close();
  });

  it('leaves no tensor behind', async () => {
    await chooseBackend(['wasm', 'cpu']);
    const few = new WindowPool(50);
    const model = new Neural({
      seasons: [24],
      shared: { pool: few, network: undefined } as unknown as SharedNetwork,
    });
    learn(model, weekly(480, 3));
    const before = tf.memory().numTensors;
    await train(few.windows(), { epochs: 2 });
    expect(tf.memory().numTensors).toBe(before);
  });
});
