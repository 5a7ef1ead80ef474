import { type ConnectionOptions, kafkaClient } from './client.js';
import { patiently } from './patiently.js';

export interface WantedTopic {
  readonly topic: string;
  readonly partitions: number;
  /** Settings, e.g. `cleanup.policy`. */
  readonly configs?: Readonly<Record<string, string>>;
  /** One that is there with fewer partitions gets more (default false): for records whose partition is fixed. */
  readonly grows?: boolean;
}

/** Creates the topics that are not there; those that are stay as they are, but for the partitions of those that grow. Returns the number of partitions of each. */
export async function ensureTopics(
  connection: ConnectionOptions,
  wanted: readonly WantedTopic[],
): Promise<Map<string, number>> {
  return withAdmin(connection, async (admin) => {
    const existing = new Set(await admin.listTopics());
    const missing = wanted.filter((w) => !existing.has(w.topic));
    if (missing.length > 0) {
      const topics = missing.map(({ topic, partitions, configs = {} }) => ({
        topic,
        numPartitions: partitions,
        configEntries: Object.entries(configs).map(([name, value]) => ({ name, value })),
      }));
      // made once: those that are there already are no error
      await patiently(() => admin.createTopics({ waitForLeaders: true, topics }));
    }
    // another process may have made the same partitions meanwhile, and a broker may not know of them yet: it is looked again
    return patiently(() => grown(admin, wanted), {
      passes: (error) => error instanceof NotKnownYet || (error as { type?: string }).type === 'INVALID_PARTITIONS',
    });
  });
}

/** Partitions that were made are not told of. */
class NotKnownYet extends Error {}

async function grown(admin: Admin, wanted: readonly WantedTopic[]): Promise<Map<string, number>> {
  const names = wanted.map((w) => w.topic);
  const tooSmall = (found: ReadonlyMap<string, number>) =>
    wanted.filter((w) => w.grows && (found.get(w.topic) ?? w.partitions) < w.partitions);
  const found = await partitionsOf(admin, names);
  const small = tooSmall(found);
  if (small.length === 0) return found;
  const topicPartitions = small.map(({ topic, partitions }) => ({ topic, count: partitions }));
  await patiently(() => admin.createPartitions({ topicPartitions }));
  const after = await partitionsOf(admin, names);
  if (tooSmall(after).length > 0) throw new NotKnownYet(`more partitions of ${small.map((w) => w.topic).join(', ')}`);
  return after;
}

/** Topic → number of partitions, for all topics of the cluster. */
export async function describeTopics(connection: ConnectionOptions): Promise<Map<string, number>> {
  return withAdmin(connection, async (admin) => partitionsOf(admin, await admin.listTopics()));
}

type Admin = ReturnType<ReturnType<typeof kafkaClient>['admin']>;

async function partitionsOf(admin: Admin, topics: string[]): Promise<Map<string, number>> {
  if (topics.length === 0) return new Map();
  const metadata = await patiently(() => admin.fetchTopicMetadata({ topics }));
  return new Map(metadata.topics.map((t) => [t.name, t.partitions.length]));
}

async function withAdmin<T>(connection: ConnectionOptions, use: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafkaClient(connection).admin();
  await admin.connect();
  try {
    return await use(admin);
  } finally {
    await admin.disconnect();
  }
}
