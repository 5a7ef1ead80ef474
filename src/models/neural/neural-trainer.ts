import { Worker } from 'node:worker_threads';
import { IguanaError } from '../../errors.js';
import { neuralLimits } from '../../limits.js';
import { workerUrl } from '../../worker-url.js';
import type { Backend } from './backend.js';
import type { SharedNetwork } from './shared-network.js';
import type { Trained, TrainOptions } from './train.js';
import type { TrainingWindows } from './window-pool.js';

export interface ToTrainer {
  readonly id: number;
  readonly windows: TrainingWindows;
  readonly options: TrainOptions;
}

export type FromTrainer =
  | { readonly kind: 'backend'; readonly backend: Backend }
  | { readonly kind: 'unusable'; readonly what: string }
  | { readonly kind: 'trained'; readonly id: number; readonly result: Trained }
  | { readonly kind: 'failed'; readonly id: number; readonly what: string };

/** By how much the held-out error must be below seasonal naive's: the best of several attempts is a little better by chance alone. */
const LEAST_GAIN = 0.02;

interface Waiting {
  readonly resolve: (result: Trained) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Trains the shared network in a worker thread, so that nothing else waits. The thread starts with the first call and does not keep the
 * process alive by itself.
 * `trainOnce` is for the owner's schedule: `clock.every(…, () => trainer.trainOnce())`. Errors: `IGU_BACKEND` when no backend works or a
 * training fails.
 */
export class NeuralTrainer {
  private worker: Worker | undefined;
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 0;
  private chosen: Promise<Backend> | undefined;
  private settle: { resolve: (backend: Backend) => void; reject: (error: Error) => void } | undefined;
  private busy = false;
  private trainedAt = 0;

  constructor(
    private readonly shared: SharedNetwork,
    private readonly options: TrainOptions = {},
  ) {}

  /** Which backend trains, and why that one. Starts the thread. */
  backend(): Promise<Backend> {
    this.start();
    return this.chosen!;
  }

  /** Trains on windows; what comes of it is returned and not yet in use. */
  async train(windows: TrainingWindows, options: TrainOptions = this.options): Promise<Trained> {
    const worker = this.start();
    await this.chosen;
    const id = this.nextId++;
    const result = new Promise<Trained>((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    worker.postMessage({ id, windows, options } satisfies ToTrainer);
    worker.ref();
    try {
      return await result;
    } finally {
      if (this.waiting.size === 0) worker.unref();
    }
  }

  /**
   * When enough new windows came since the last time: trains on the pool, going on from the network in use, and swaps the result in if it
   * is better than seasonal naive on windows it has not seen. Returns what was trained; undefined when it was not yet time, or a training
   * is under way.
   */
  async trainOnce(): Promise<(Trained & { readonly swapped: boolean }) | undefined> {
    const { pool, network } = this.shared;
    const fresh = pool.offered - this.trainedAt;
    if (this.busy || pool.size < neuralLimits.minWindows || fresh < neuralLimits.minFreshWindows) return undefined;
    this.busy = true;
    try {
      this.trainedAt = pool.offered;
      const initial = network ? { initial: network.weights } : {};
      const trained = await this.train(pool.windows(), { ...this.options, ...initial });
      const swapped = trained.error < (1 - LEAST_GAIN) * trained.naiveError;
      if (swapped) this.shared.swap(trained.weights);
      return { ...trained, swapped };
    } finally {
      this.busy = false;
    }
  }

  /** Ends the thread; a training under way fails. */
  async close(): Promise<void> {
    const { worker } = this;
    if (!worker) return;
    this.fail('it was stopped');
    await worker.terminate();
  }

  private start(): Worker {
    if (this.worker) return this.worker;
    const worker = new Worker(workerUrl(import.meta.url, './neural-worker.js'));
    this.worker = worker;
    this.chosen = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    // whoever asks for it is told; nobody has to
    this.chosen.catch(() => undefined);
    const ended = (what: string): void => {
      if (this.worker === worker) this.fail(what);
    };
    worker.on('message', (message: FromTrainer) => this.worker === worker && this.take(message));
    worker.on('error', (error) => ended(error.message));
    worker.on('exit', () => ended('its thread ended'));
    return worker;
  }

  private take(message: FromTrainer): void {
    switch (message.kind) {
      case 'backend':
        this.settle?.resolve(message.backend);
        if (this.waiting.size === 0) this.worker?.unref();
        return;
      case 'unusable':
        this.settle?.reject(new IguanaError('IGU_BACKEND', { name: 'of any kind', what: message.what }));
        return;
      case 'trained':
        this.waiting.get(message.id)?.resolve(message.result);
        this.waiting.delete(message.id);
        return;
      case 'failed':
        this.waiting.get(message.id)?.reject(failure(message.what));
        this.waiting.delete(message.id);
    }
  }

  /** The thread is gone; the next call starts another. */
  private fail(what: string): void {
    this.worker = undefined;
    this.settle?.reject(failure(what));
    for (const { reject } of this.waiting.values()) reject(failure(what));
    this.waiting.clear();
  }
}

function failure(what: string): IguanaError {
  return new IguanaError('IGU_BACKEND', { name: 'for training', what });
}
