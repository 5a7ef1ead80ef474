import { wallClock } from '../clock.js';
import { ensureTopics } from '../kafka/admin.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { readPartition } from '../kafka/partition-reader.js';
import { sink as openSink } from '../kafka/sink.js';
import { stateTopic } from '../kafka/state-store.js';
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

const KEY = 'network';

/**
 * The network over all series of this process: restored from its state topic, trained in a worker thread on a schedule, written back when a training made it better.
 * Several processes train each their own; the one written last is what the next start begins with.
 */
export async function trainedNetwork(options: TrainedNetworkOptions): Promise<TrainedNetwork> {
  const { connection, onError } = options;
  const wanted = stateTopic(KEY, 1);
  await ensureTopics(connection, [wanted]);
  const shared = new SharedNetwork();
  const kafka = kafkaClient(connection);
  let newest: Buffer | undefined;
  await readPartition(kafka, wanted.topic, 0, ({ value }) => {
    if (value) newest = value;
  });
  try {
    if (newest) shared.restore(new StateReader(newest));
  } catch (error) {
    onError?.(error);
  }
  const sink = openSink(kafka);
  await sink.connect();
  const trainer = new NeuralTrainer(shared);
  const round = async (): Promise<void> => {
    const result = await trainer.trainOnce();
    if (!result) return;
    options.onTrained?.(result);
    if (!result.swapped) return;
    const writer = new StateWriter();
    shared.save(writer);
    await sink.write(wanted.topic, [{ key: KEY, value: writer.finish(), partition: 0 }]);
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
