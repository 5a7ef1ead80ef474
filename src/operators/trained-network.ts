import { wallClock } from '../clock.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { keptValue } from '../kafka/kept-value.js';
import { sink as openSink } from '../kafka/sink.js';
import type { Backend } from '../models/neural/backend.js';
import { NeuralTrainer } from '../models/neural/neural-trainer.js';
import { SharedNetwork } from '../models/neural/shared-network.js';
import { StateReader, StateWriter } from '../state.js';

export interface TrainedNetworkOptions {
  readonly connection: ConnectionOptions;
  /** Look this often whether there is enough new to train on, ms. Default 20,000. */
  readonly trainEveryMs?: number;
  readonly onTrained?: (result: {
    readonly error: number;
    readonly naiveError: number;
    readonly swapped: boolean;
  }) => void;
  readonly onError?: (error: unknown) => void;
}

export interface TrainedNetwork {
  /** For the forecasters of all series. */
  readonly shared: SharedNetwork;
  /** Which TensorFlow.js backend trains. Errors: `IGU_BACKEND`. */
  backend(): Promise<Backend>;
  stop(): Promise<void>;
}

/**
 * The network over all series of this process: restored from its state topic, trained in a worker thread on a schedule, written back when a
 * training made it better.
 * Several processes train each their own; the one written last is what the next start begins with.
 */
export async function trainedNetwork(options: TrainedNetworkOptions): Promise<TrainedNetwork> {
  const { connection, onError } = options;
  const sink = openSink(kafkaClient(connection));
  await sink.connect();
  const kept = await keptValue(connection, sink, 'network');
  const shared = new SharedNetwork();
  try {
    if (kept.value) shared.restore(new StateReader(kept.value));
  } catch (error) {
    onError?.(error);
  }
  const trainer = new NeuralTrainer(shared);
  const round = async (): Promise<void> => {
    const result = await trainer.trainOnce();
    if (!result) return;
    options.onTrained?.(result);
    if (!result.swapped) return;
    const writer = new StateWriter();
    shared.save(writer);
    await kept.keep(writer.finish());
  };
  let stopping = false;
  let underWay: Promise<void> = Promise.resolve();
  const cancel = wallClock.every(options.trainEveryMs ?? 20_000, () => {
    underWay = round().catch((error) => {
      if (!stopping) onError?.(error);
    });
  });
  return {
    shared,
    backend: () => trainer.backend(),
    async stop() {
      stopping = true;
      cancel();
      await trainer.close();
      await underWay;
      await sink.close();
    },
  };
}
