/**
 * What the broker answers to each API: one function each, a table of them, since a handler is a translation of a few lines between the protocol
 * and topics, groups or transactions. Longer than a screen for that reason only.
 */
import type { Clock } from '../clock.js';
import { brokerLimits } from '../limits.js';
import type { Groups, JoinRequest } from './groups.js';
import type { PartitionLog } from './log/log.js';
import { batchSizeAt, readBatchHeader } from './log/record-batch.js';
import { type ApiName, apis } from './protocol/apis.js';
import { errorCodes, type KafkaError } from './protocol/error-codes.js';
import type { Struct } from './protocol/schema.js';
import { configDefaults, type Topics } from './topics.js';
import type { Transactions } from './transactions.js';

export interface BrokerState {
  readonly clock: Clock;
  readonly topics: Topics;
  readonly groups: Groups;
  readonly transactions: Transactions;
  /** Host null: each client is told the address that its connection came in at. */
  readonly address: { readonly host: string | null; readonly port: number };
  readonly clusterId: string;
  readonly defaultPartitions: number;
  readonly autoCreateTopics: boolean;
  /** Calls `wake` once when something is appended to one of the logs; the returned function takes that back. */
  onAppend(logs: readonly PartitionLog[], wake: () => void): () => void;
  appended(log: PartitionLog): void;
}

export interface RequestContext {
  readonly version: number;
  readonly clientId: string;
  readonly clientHost: string;
  /** This machine's address as the client sees it. */
  readonly localAddress: string;
  /** The client's connection: what waits on its behalf is in `onClose` only while it waits. */
  readonly connection: { open: boolean; readonly onClose: Set<() => void> };
}

/** null: no answer is sent (acks 0). */
type Handler = (state: BrokerState, request: Struct, context: RequestContext) => Struct | null | Promise<Struct | null>;

const NODE_ID = 0;
const code = (name: KafkaError): number => errorCodes[name];

interface TopicOf<P> {
  name: string;
  partitions: P[];
}

/** Answers each partition of each topic of a request. */
function eachPartition<P>(request: Struct, answer: (topic: string, partition: P) => Struct): Struct[] {
  return (request.topics as TopicOf<P>[]).map(({ name, partitions }) => ({
    name,
    partitions: partitions.map((partition) => answer(name, partition)),
  }));
}

/** Checks topic and partition names of clients once for all handlers: index → log. */
function indexed<P extends { index: number }>(
  state: BrokerState,
  request: Struct,
  answer: (log: PartitionLog, topic: string, partition: P) => Struct,
): Struct[] {
  return eachPartition<P>(request, (topic, partition) => {
    const log = state.topics.partition(topic, partition.index);
    const result = log
      ? answer(log, topic, partition)
      : { errorCode: code('UNKNOWN_TOPIC_OR_PARTITION'), baseOffset: -1n, offset: -1n };
    return { index: partition.index, ...result };
  });
}

export const handlers: Record<ApiName, Handler> = {
  ApiVersions: () => ({
    errorCode: code('NONE'),
    apiKeys: Object.values(apis).map((api) => ({
      key: api.key,
      min: 'advertisedMin' in api ? api.advertisedMin : api.min,
      max: api.max,
    })),
  }),

  Metadata(state, request, context) {
    const asked = request.topics as string[] | null;
    const names =
      asked === null || (context.version === 0 && asked.length === 0) ? state.topics.all().map((t) => t.name) : asked;
    const mayCreate = state.autoCreateTopics && (request.allowAutoTopicCreation ?? true) === true;
    const self = [NODE_ID];
    const topics = names.map((name) => {
      let error: KafkaError = 'UNKNOWN_TOPIC_OR_PARTITION';
      if (!state.topics.get(name) && mayCreate && asked !== null)
        error = state.topics.create(name, state.defaultPartitions);
      const topic = state.topics.get(name);
      if (!topic) return { errorCode: code(error), name, partitions: [] };
      const partitions = topic.partitions.map((_, index) => ({
        errorCode: 0,
        index,
        leaderId: NODE_ID,
        replicas: self,
        isr: self,
      }));
      return { errorCode: 0, name, partitions };
    });
    const { host, port } = addressFor(state, context);
    return { brokers: [{ nodeId: NODE_ID, host, port }], clusterId: state.clusterId, controllerId: NODE_ID, topics };
  },

  Produce(state, request) {
    const acks = request.acks as number;
    const transactionalId = request.transactionalId as string | null;
    const known = acks === 0 || acks === 1 || acks === -1;
    const topics = indexed<{ index: number; records: Buffer | null }>(
      state,
      request,
      (log, topic, { index, records }) => {
        if (!known) return { errorCode: code('INVALID_REQUIRED_ACKS'), baseOffset: -1n };
        if (transactionalId !== null && records && batchSizeAt(records, 0) > 0) {
          const { producerId, producerEpoch } = readBatchHeader(records, 0);
          const allowed = state.transactions.checkProduce(transactionalId, producerId, producerEpoch, topic, index);
          if (allowed !== 'NONE') return { errorCode: code(allowed), baseOffset: -1n };
        }
        const { error, baseOffset } = log.append(records ?? Buffer.alloc(0), state.clock.now());
        if (!error) state.appended(log);
        return { errorCode: code(error ?? 'NONE'), baseOffset, logAppendTime: -1n, logStartOffset: log.startOffset };
      },
    );
    return acks === 0 ? null : { topics };
  },

  async Fetch(state, request, { connection }) {
    const deadline = state.clock.now() + Math.min(request.maxWaitMs as number, brokerLimits.maxFetchWaitMs);
    const wanted = request.topics as TopicOf<{ index: number }>[];
    const logs = wanted.flatMap((t) =>
      t.partitions.map((p) => state.topics.partition(t.name, p.index)).filter((log) => log !== undefined),
    );
    for (;;) {
      const answer = fetchOnce(state, request);
      const wait = deadline - state.clock.now();
      if (answer.bytes >= (request.minBytes as number) || answer.failed || wait <= 0 || !connection.open)
        return { sessionId: 0, topics: answer.topics };
      await new Promise<void>((resolve) => {
        const done = (): void => {
          forget();
          cancel();
          connection.onClose.delete(done);
          resolve();
        };
        const forget = state.onAppend(logs, done);
        const cancel = state.clock.after(wait, done);
        connection.onClose.add(done);
      });
    }
  },

  ListOffsets(state, request) {
    const committedOnly = request.isolationLevel === 1;
    return {
      topics: indexed<{ index: number; timestamp: bigint }>(state, request, (log, _topic, { timestamp }) => {
        if (timestamp === -1n) return { timestamp: -1n, offset: committedOnly ? log.lastStableOffset : log.endOffset };
        if (timestamp === -2n) return { timestamp: -1n, offset: log.startOffset };
        const found = timestamp === -3n ? log.maxTimestamp() : log.offsetForTime(Number(timestamp));
        return { timestamp: found?.timestamp ?? -1n, offset: found?.offset ?? -1n };
      }),
    };
  },

  CreateTopics(state, request) {
    type Wanted = {
      name: string;
      partitionCount: number;
      replicationFactor: number;
      assignments: unknown[];
      configs: ConfigEntry[];
    };
    return {
      topics: (request.topics as Wanted[]).map(({ name, partitionCount, replicationFactor, assignments, configs }) => {
        const count = assignments.length || (partitionCount === -1 ? state.defaultPartitions : partitionCount);
        if (replicationFactor > 1)
          return failure(name, 'INVALID_REPLICATION_FACTOR', 'this broker is alone: the replication factor can be 1');
        if (request.validateOnly)
          return { name, errorCode: code(state.topics.get(name) ? 'TOPIC_ALREADY_EXISTS' : 'NONE') };
        const error = state.topics.create(name, count, configsOf(configs));
        return error === 'NONE' ? { name, errorCode: 0 } : failure(name, error, `topic ${name}: ${error}`);
      }),
    };
  },

  DeleteTopics(state, request) {
    return {
      responses: (request.names as string[]).map((name) => {
        const error = state.topics.delete(name);
        if (error === 'NONE') state.groups.forgetTopic(name);
        return { name, errorCode: code(error) };
      }),
    };
  },

  CreatePartitions(state, request) {
    return {
      results: (request.topics as { name: string; count: number }[]).map(({ name, count }) => {
        const known = state.topics.get(name);
        const error = request.validateOnly
          ? known
            ? 'NONE'
            : 'UNKNOWN_TOPIC_OR_PARTITION'
          : state.topics.grow(name, count);
        return error === 'NONE'
          ? { name, errorCode: 0 }
          : failure(
              name,
              error,
              `topic ${name} has ${known?.partitions.length ?? 0} partitions, ${count} were asked for`,
            );
      }),
    };
  },

  DeleteRecords(state, request) {
    return {
      topics: indexed<{ index: number; offset: bigint }>(state, request, (log, _topic, { offset }) =>
        offset > log.endOffset
          ? { lowWatermark: -1n, errorCode: code('OFFSET_OUT_OF_RANGE') }
          : { lowWatermark: log.deleteBefore(offset), errorCode: 0 },
      ),
    };
  },

  DescribeConfigs(state, request) {
    type Wanted = { type: number; name: string; configNames: string[] | null };
    return {
      results: (request.resources as Wanted[]).map(({ type, name, configNames }) => {
        const topic = type === TOPIC_RESOURCE ? state.topics.get(name) : undefined;
        if (type === TOPIC_RESOURCE && !topic)
          return { ...failure(name, 'UNKNOWN_TOPIC_OR_PARTITION', `no topic ${name}`), type, configs: [] };
        const all =
          type === TOPIC_RESOURCE
            ? { ...configDefaults, ...Object.fromEntries(topic!.configs) }
            : { 'num.partitions': String(state.defaultPartitions) };
        const shown = Object.entries(all).filter(
          ([key]) => !configNames || configNames.length === 0 || configNames.includes(key),
        );
        const configs = shown.map(([key, value]) => {
          const isDefault = !topic?.configs.has(key);
          // sources: 1 the topic's own, 4 the broker's file, 5 default
          return {
            name: key,
            value,
            readOnly: type !== TOPIC_RESOURCE,
            isDefault,
            source: isDefault ? 5 : 1,
            isSensitive: false,
            synonyms: [],
          };
        });
        return { errorCode: 0, errorMessage: null, type, name, configs };
      }),
    };
  },

  AlterConfigs(state, request) {
    return {
      responses: (request.resources as { type: number; name: string; configs: ConfigEntry[] }[]).map((resource) =>
        alter(state, resource, request.validateOnly === true, () => configsOf(resource.configs)),
      ),
    };
  },

  IncrementalAlterConfigs(state, request) {
    type Change = ConfigEntry & { operation: number };
    return {
      responses: (request.resources as { type: number; name: string; configs: Change[] }[]).map((resource) =>
        alter(state, resource, request.validateOnly === true, (present) => {
          const next = new Map(present);
          for (const { name, operation, value } of resource.configs) {
            if (operation === 0 && value !== null) next.set(name, value);
            else if (operation === 1) next.delete(name);
            else return undefined; // appending to and subtracting from lists
          }
          return next;
        }),
      ),
    };
  },

  FindCoordinator(state, _request, context) {
    const { host, port } = addressFor(state, context);
    return { errorCode: 0, errorMessage: null, nodeId: NODE_ID, host, port };
  },

  async JoinGroup(state, request, { version, clientId, clientHost }) {
    const session = request.sessionTimeoutMs as number;
    const join = {
      ...request,
      protocols: (request.protocols as { name: string; metadata: Buffer }[]).map((p) => ({
        name: p.name,
        metadata: Buffer.from(p.metadata),
      })),
      clientId,
      clientHost,
      rebalanceTimeoutMs: (request.rebalanceTimeoutMs as number | undefined) ?? session,
      requireMemberId: version >= 4,
    };
    const { errorCode, ...response } = await state.groups.join(join as unknown as JoinRequest);
    return { errorCode: code(errorCode), ...response };
  },

  async SyncGroup(state, request) {
    const { groupId, generationId, memberId, assignments } = request as {
      groupId: string;
      generationId: number;
      memberId: string;
      assignments: { memberId: string; assignment: Buffer }[];
    };
    const { errorCode, assignment } = await state.groups.sync(groupId, generationId, memberId, assignments);
    return { errorCode: code(errorCode), assignment };
  },

  Heartbeat(state, request) {
    const { groupId, generationId, memberId } = request as { groupId: string; generationId: number; memberId: string };
    return { errorCode: code(state.groups.heartbeat(groupId, generationId, memberId)) };
  },

  LeaveGroup(state, request) {
    const groupId = request.groupId as string;
    const members = request.members as { memberId: string; groupInstanceId: string | null }[] | undefined;
    if (!members) return { errorCode: code(state.groups.leave(groupId, request.memberId as string)) };
    return {
      errorCode: 0,
      members: members.map((m) => ({ ...m, errorCode: code(state.groups.leave(groupId, m.memberId)) })),
    };
  },

  DescribeGroups(state, request) {
    return {
      groups: (request.groups as string[]).map((groupId) => ({
        errorCode: 0,
        groupId,
        ...state.groups.describe(groupId),
        authorizedOperations: -2_147_483_648,
      })),
    };
  },

  ListGroups: (state) => ({ errorCode: 0, groups: state.groups.list() }),

  DeleteGroups(state, request) {
    return {
      results: (request.groups as string[]).map((groupId) => ({
        groupId,
        errorCode: code(state.groups.delete(groupId)),
      })),
    };
  },

  OffsetCommit(state, request) {
    const { groupId, generationId, memberId } = request as { groupId: string; generationId: number; memberId: string };
    const verdict = state.groups.checkCommit(groupId, generationId, memberId);
    return {
      topics: indexed<{ index: number; offset: bigint; metadata: string | null }>(
        state,
        request,
        (_log, topic, { index, offset, metadata }) => {
          if (verdict === 'NONE') state.groups.commit(groupId, topic, index, { offset, metadata });
          return { errorCode: code(verdict) };
        },
      ),
    };
  },

  OffsetFetch(state, request) {
    const groupId = request.groupId as string;
    const wanted = request.topics as TopicOf<number>[] | null;
    const answer = (topic: string, index: number): Struct => {
      const committed = state.groups.committed(groupId, topic, index);
      return {
        index,
        offset: committed?.offset ?? -1n,
        leaderEpoch: -1,
        metadata: committed?.metadata ?? '',
        errorCode: 0,
      };
    };
    if (wanted) return { topics: eachPartition<number>(request, answer), errorCode: 0 };
    const byTopic = new Map<string, Struct[]>();
    for (const { topic, partition } of state.groups.allCommitted(groupId)) {
      const list = byTopic.get(topic) ?? [];
      list.push(answer(topic, partition));
      byTopic.set(topic, list);
    }
    return { topics: [...byTopic].map(([name, partitions]) => ({ name, partitions })), errorCode: 0 };
  },

  InitProducerId(state, request) {
    const { errorCode, ...ids } = state.transactions.initProducer(
      request.transactionalId as string | null,
      request.transactionTimeoutMs as number,
    );
    return { errorCode: code(errorCode), ...ids };
  },

  AddPartitionsToTxn(state, request) {
    const { transactionalId, producerId, producerEpoch } = transactionOf(request);
    return {
      topics: eachPartition<number>(request, (topic, index) => ({
        index,
        errorCode: code(state.transactions.addPartition(transactionalId, producerId, producerEpoch, topic, index)),
      })),
    };
  },

  AddOffsetsToTxn(state, request) {
    const { transactionalId, producerId, producerEpoch } = transactionOf(request);
    return {
      errorCode: code(
        state.transactions.addGroup(transactionalId, producerId, producerEpoch, request.groupId as string),
      ),
    };
  },

  TxnOffsetCommit(state, request) {
    const { transactionalId, producerId, producerEpoch } = transactionOf(request);
    const groupId = request.groupId as string;
    return {
      topics: indexed<{ index: number; offset: bigint; metadata: string | null }>(
        state,
        request,
        (_log, topic, { index, offset, metadata }) => ({
          errorCode: code(
            state.transactions.addOffset(transactionalId, producerId, producerEpoch, groupId, topic, index, {
              offset,
              metadata,
            }),
          ),
        }),
      ),
    };
  },

  EndTxn(state, request) {
    const { transactionalId, producerId, producerEpoch } = transactionOf(request);
    const error = state.transactions.endTransaction(
      transactionalId,
      producerId,
      producerEpoch,
      request.committed as boolean,
    );
    return { errorCode: code(error) };
  },
};

function addressFor({ address }: BrokerState, context: RequestContext): { host: string; port: number } {
  return { host: address.host ?? context.localAddress, port: address.port };
}

const TOPIC_RESOURCE = 2;

interface ConfigEntry {
  name: string;
  value: string | null;
}

function configsOf(entries: readonly ConfigEntry[]): Map<string, string> {
  return new Map(entries.flatMap(({ name, value }) => (value === null ? [] : [[name, value] as const])));
}

function failure(name: string, error: KafkaError, errorMessage: string): Struct {
  return { name, errorCode: code(error), errorMessage };
}

function alter(
  state: BrokerState,
  { type, name }: { type: number; name: string },
  validateOnly: boolean,
  change: (present: ReadonlyMap<string, string>) => Map<string, string> | undefined,
): Struct {
  if (type !== TOPIC_RESOURCE) return { ...failure(name, 'INVALID_REQUEST', 'only topics can be configured'), type };
  const topic = state.topics.get(name);
  const next = change(topic?.configs ?? new Map());
  if (!next) return { ...failure(name, 'INVALID_CONFIG', 'only setting and deleting is possible'), type };
  const error = topic && validateOnly ? 'NONE' : state.topics.configure(name, next, state.clock.now());
  return error === 'NONE'
    ? { errorCode: 0, errorMessage: null, type, name }
    : { ...failure(name, error, `${name}: ${error}`), type };
}

function transactionOf(request: Struct): { transactionalId: string; producerId: bigint; producerEpoch: number } {
  return request as { transactionalId: string; producerId: bigint; producerEpoch: number };
}

function fetchOnce(state: BrokerState, request: Struct): { topics: Struct[]; bytes: number; failed: boolean } {
  const committedOnly = request.isolationLevel === 1;
  let budget = Math.min(request.maxBytes as number, brokerLimits.maxFetchBytes);
  let bytes = 0;
  let failed = false;
  const topics = eachPartition<{ index: number; fetchOffset: bigint; maxBytes: number }>(
    request,
    (topic, { index, fetchOffset, maxBytes }) => {
      const log = state.topics.partition(topic, index);
      const none = {
        index,
        highWatermark: -1n,
        lastStableOffset: -1n,
        logStartOffset: -1n,
        abortedTransactions: [],
        preferredReadReplica: -1,
        records: Buffer.alloc(0),
      };
      if (!log) {
        failed = true;
        return { ...none, errorCode: code('UNKNOWN_TOPIC_OR_PARTITION') };
      }
      const marks = {
        highWatermark: log.endOffset,
        lastStableOffset: log.lastStableOffset,
        logStartOffset: log.startOffset,
      };
      // once something is there, a full budget leaves the other partitions to the next fetch
      const read =
        budget <= 0 && bytes > 0
          ? { bytes: none.records, abortedTransactions: [] }
          : log.read(fetchOffset, Math.min(maxBytes, Math.max(budget, 0)), committedOnly);
      if (!read) {
        failed = true;
        return { ...none, ...marks, errorCode: code('OFFSET_OUT_OF_RANGE') };
      }
      bytes += read.bytes.length;
      budget -= read.bytes.length;
      return {
        ...none,
        ...marks,
        errorCode: 0,
        abortedTransactions: committedOnly ? read.abortedTransactions : null,
        records: read.bytes,
      };
    },
  );
  return { topics, bytes, failed };
}
