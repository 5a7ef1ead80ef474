/**
 * Every API the broker serves: number, versions, request and response as data. The versions are the non-flexible ones that kafkajs,
 * librdkafka, kafka-python and Java's classic clients agree on. One list, because a protocol table is read as a table.
 */
import { array, type Field, type Fields, field, nullableArray } from './schema.js';

export interface Api {
  readonly key: number;
  readonly min: number;
  readonly max: number;
  /** Lowest version said to clients where it differs: librdkafka sends old formats when Produce does not begin at 0 (KAFKA-18659). */
  readonly advertisedMin?: number;
  readonly request: Fields;
  readonly response: Fields;
}

const throttle = (from: number): Field => field('throttleTimeMs', 'int32', from);
const error = field('errorCode', 'int16');
const byTopic = (partition: Fields): Field =>
  field('topics', array([field('name', 'string'), field('partitions', array(partition))]));
const results = (itemName: string, items: Fields): Field => field(itemName, array(items));
const numbersByTopic = (name = 'topics', from = 0): Field =>
  field(name, array([field('name', 'string'), field('partitions', array('int32'))]), from);
const indexedError: Fields = [field('index', 'int32'), error];

export const apis = {
  Produce: {
    key: 0,
    min: 3,
    max: 7,
    advertisedMin: 0,
    request: [
      field('transactionalId', 'string?', 3),
      field('acks', 'int16'),
      field('timeoutMs', 'int32'),
      byTopic([field('index', 'int32'), field('records', 'bytes?')]),
    ],
    response: [
      byTopic([
        ...indexedError,
        field('baseOffset', 'int64'),
        field('logAppendTime', 'int64', 2),
        field('logStartOffset', 'int64', 5),
      ]),
      throttle(1),
    ],
  },
  Fetch: {
    key: 1,
    min: 4,
    max: 11,
    request: [
      field('replicaId', 'int32'),
      field('maxWaitMs', 'int32'),
      field('minBytes', 'int32'),
      field('maxBytes', 'int32', 3),
      field('isolationLevel', 'int8', 4),
      field('sessionId', 'int32', 7),
      field('sessionEpoch', 'int32', 7),
      byTopic([
        field('index', 'int32'),
        field('currentLeaderEpoch', 'int32', 9),
        field('fetchOffset', 'int64'),
        field('logStartOffset', 'int64', 5),
        field('maxBytes', 'int32'),
      ]),
      numbersByTopic('forgotten', 7),
      field('rackId', 'string', 11),
    ],
    response: [
      throttle(1),
      field('errorCode', 'int16', 7),
      field('sessionId', 'int32', 7),
      byTopic([
        ...indexedError,
        field('highWatermark', 'int64'),
        field('lastStableOffset', 'int64', 4),
        field('logStartOffset', 'int64', 5),
        field('abortedTransactions', nullableArray([field('producerId', 'int64'), field('firstOffset', 'int64')]), 4),
        field('preferredReadReplica', 'int32', 11),
        field('records', 'bytes?'),
      ]),
    ],
  },
  ListOffsets: {
    key: 2,
    min: 1,
    max: 5,
    request: [
      field('replicaId', 'int32'),
      field('isolationLevel', 'int8', 2),
      byTopic([field('index', 'int32'), field('currentLeaderEpoch', 'int32', 4), field('timestamp', 'int64')]),
    ],
    response: [
      throttle(2),
      byTopic([
        ...indexedError,
        field('timestamp', 'int64'),
        field('offset', 'int64'),
        field('leaderEpoch', 'int32', 4),
      ]),
    ],
  },
  Metadata: {
    key: 3,
    min: 0,
    max: 7,
    request: [field('topics', nullableArray('string')), field('allowAutoTopicCreation', 'bool', 4)],
    response: [
      throttle(3),
      results('brokers', [
        field('nodeId', 'int32'),
        field('host', 'string'),
        field('port', 'int32'),
        field('rack', 'string?', 1),
      ]),
      field('clusterId', 'string?', 2),
      field('controllerId', 'int32', 1),
      results('topics', [
        error,
        field('name', 'string'),
        field('isInternal', 'bool', 1),
        field(
          'partitions',
          array([
            error,
            field('index', 'int32'),
            field('leaderId', 'int32'),
            field('leaderEpoch', 'int32', 7),
            field('replicas', array('int32')),
            field('isr', array('int32')),
            field('offline', array('int32'), 5),
          ]),
        ),
      ]),
    ],
  },
  OffsetCommit: {
    key: 8,
    min: 2,
    max: 7,
    request: [
      field('groupId', 'string'),
      field('generationId', 'int32'),
      field('memberId', 'string'),
      field('groupInstanceId', 'string?', 7),
      field('retentionTimeMs', 'int64', 2, 4),
      byTopic([
        field('index', 'int32'),
        field('offset', 'int64'),
        field('leaderEpoch', 'int32', 6),
        field('metadata', 'string?'),
      ]),
    ],
    response: [throttle(3), byTopic(indexedError)],
  },
  OffsetFetch: {
    key: 9,
    min: 1,
    max: 5,
    request: [
      field('groupId', 'string'),
      field('topics', nullableArray([field('name', 'string'), field('partitions', array('int32'))])),
    ],
    response: [
      throttle(3),
      byTopic([
        field('index', 'int32'),
        field('offset', 'int64'),
        field('leaderEpoch', 'int32', 5),
        field('metadata', 'string?'),
        error,
      ]),
      field('errorCode', 'int16', 2),
    ],
  },
  FindCoordinator: {
    key: 10,
    min: 0,
    max: 2,
    request: [field('key', 'string'), field('keyType', 'int8', 1)],
    response: [
      throttle(1),
      error,
      field('errorMessage', 'string?', 1),
      field('nodeId', 'int32'),
      field('host', 'string'),
      field('port', 'int32'),
    ],
  },
  JoinGroup: {
    key: 11,
    min: 0,
    max: 5,
    request: [
      field('groupId', 'string'),
      field('sessionTimeoutMs', 'int32'),
      field('rebalanceTimeoutMs', 'int32', 1),
      field('memberId', 'string'),
      field('groupInstanceId', 'string?', 5),
      field('protocolType', 'string'),
      field('protocols', array([field('name', 'string'), field('metadata', 'bytes')])),
    ],
    response: [
      throttle(2),
      error,
      field('generationId', 'int32'),
      field('protocolName', 'string'),
      field('leader', 'string'),
      field('memberId', 'string'),
      results('members', [
        field('memberId', 'string'),
        field('groupInstanceId', 'string?', 5),
        field('metadata', 'bytes'),
      ]),
    ],
  },
  Heartbeat: {
    key: 12,
    min: 0,
    max: 3,
    request: [
      field('groupId', 'string'),
      field('generationId', 'int32'),
      field('memberId', 'string'),
      field('groupInstanceId', 'string?', 3),
    ],
    response: [throttle(1), error],
  },
  LeaveGroup: {
    key: 13,
    min: 0,
    max: 3,
    request: [
      field('groupId', 'string'),
      field('memberId', 'string', 0, 2),
      field('members', array([field('memberId', 'string'), field('groupInstanceId', 'string?')]), 3),
    ],
    response: [
      throttle(1),
      error,
      field('members', array([field('memberId', 'string'), field('groupInstanceId', 'string?'), error]), 3),
    ],
  },
  SyncGroup: {
    key: 14,
    min: 0,
    max: 3,
    request: [
      field('groupId', 'string'),
      field('generationId', 'int32'),
      field('memberId', 'string'),
      field('groupInstanceId', 'string?', 3),
      field('assignments', array([field('memberId', 'string'), field('assignment', 'bytes')])),
    ],
    response: [throttle(1), error, field('assignment', 'bytes')],
  },
  DescribeGroups: {
    key: 15,
    min: 0,
    max: 4,
    request: [field('groups', array('string')), field('includeAuthorizedOperations', 'bool', 3)],
    response: [
      throttle(1),
      results('groups', [
        error,
        field('groupId', 'string'),
        field('state', 'string'),
        field('protocolType', 'string'),
        field('protocol', 'string'),
        results('members', [
          field('memberId', 'string'),
          field('groupInstanceId', 'string?', 4),
          field('clientId', 'string'),
          field('clientHost', 'string'),
          field('metadata', 'bytes'),
          field('assignment', 'bytes'),
        ]),
        field('authorizedOperations', 'int32', 3),
      ]),
    ],
  },
  ListGroups: {
    key: 16,
    min: 0,
    max: 2,
    request: [],
    response: [throttle(1), error, results('groups', [field('groupId', 'string'), field('protocolType', 'string')])],
  },
  ApiVersions: {
    key: 18,
    min: 0,
    max: 2,
    request: [],
    response: [
      error,
      results('apiKeys', [field('key', 'int16'), field('min', 'int16'), field('max', 'int16')]),
      throttle(1),
    ],
  },
  CreateTopics: {
    key: 19,
    min: 0,
    max: 4,
    request: [
      results('topics', [
        field('name', 'string'),
        field('partitionCount', 'int32'),
        field('replicationFactor', 'int16'),
        field('assignments', array([field('index', 'int32'), field('brokerIds', array('int32'))])),
        field('configs', array([field('name', 'string'), field('value', 'string?')])),
      ]),
      field('timeoutMs', 'int32'),
      field('validateOnly', 'bool', 1),
    ],
    response: [throttle(2), results('topics', [field('name', 'string'), error, field('errorMessage', 'string?', 1)])],
  },
  DeleteTopics: {
    key: 20,
    min: 0,
    max: 3,
    request: [field('names', array('string')), field('timeoutMs', 'int32')],
    response: [throttle(1), results('responses', [field('name', 'string'), error])],
  },
  DeleteRecords: {
    key: 21,
    min: 0,
    max: 1,
    request: [byTopic([field('index', 'int32'), field('offset', 'int64')]), field('timeoutMs', 'int32')],
    response: [throttle(0), byTopic([field('index', 'int32'), field('lowWatermark', 'int64'), error])],
  },
  InitProducerId: {
    key: 22,
    min: 0,
    max: 1,
    request: [field('transactionalId', 'string?'), field('transactionTimeoutMs', 'int32')],
    response: [throttle(0), error, field('producerId', 'int64'), field('producerEpoch', 'int16')],
  },
  AddPartitionsToTxn: {
    key: 24,
    min: 0,
    max: 1,
    request: [
      field('transactionalId', 'string'),
      field('producerId', 'int64'),
      field('producerEpoch', 'int16'),
      numbersByTopic(),
    ],
    response: [throttle(0), byTopic(indexedError)],
  },
  AddOffsetsToTxn: {
    key: 25,
    min: 0,
    max: 1,
    request: [
      field('transactionalId', 'string'),
      field('producerId', 'int64'),
      field('producerEpoch', 'int16'),
      field('groupId', 'string'),
    ],
    response: [throttle(0), error],
  },
  EndTxn: {
    key: 26,
    min: 0,
    max: 1,
    request: [
      field('transactionalId', 'string'),
      field('producerId', 'int64'),
      field('producerEpoch', 'int16'),
      field('committed', 'bool'),
    ],
    response: [throttle(0), error],
  },
  TxnOffsetCommit: {
    key: 28,
    min: 0,
    max: 2,
    request: [
      field('transactionalId', 'string'),
      field('groupId', 'string'),
      field('producerId', 'int64'),
      field('producerEpoch', 'int16'),
      byTopic([
        field('index', 'int32'),
        field('offset', 'int64'),
        field('leaderEpoch', 'int32', 2),
        field('metadata', 'string?'),
      ]),
    ],
    response: [throttle(0), byTopic(indexedError)],
  },
  DescribeConfigs: {
    key: 32,
    min: 0,
    max: 2,
    request: [
      results('resources', [
        field('type', 'int8'),
        field('name', 'string'),
        field('configNames', nullableArray('string')),
      ]),
      field('includeSynonyms', 'bool', 1),
    ],
    response: [
      throttle(0),
      results('results', [
        error,
        field('errorMessage', 'string?'),
        field('type', 'int8'),
        field('name', 'string'),
        results('configs', [
          field('name', 'string'),
          field('value', 'string?'),
          field('readOnly', 'bool'),
          field('isDefault', 'bool', 0, 0),
          field('source', 'int8', 1),
          field('isSensitive', 'bool'),
          field('synonyms', array([field('name', 'string'), field('value', 'string?'), field('source', 'int8')]), 1),
        ]),
      ]),
    ],
  },
  AlterConfigs: {
    key: 33,
    min: 0,
    max: 1,
    request: [
      results('resources', [
        field('type', 'int8'),
        field('name', 'string'),
        field('configs', array([field('name', 'string'), field('value', 'string?')])),
      ]),
      field('validateOnly', 'bool'),
    ],
    response: [
      throttle(0),
      results('responses', [error, field('errorMessage', 'string?'), field('type', 'int8'), field('name', 'string')]),
    ],
  },
  CreatePartitions: {
    key: 37,
    min: 0,
    max: 1,
    request: [
      results('topics', [
        field('name', 'string'),
        field('count', 'int32'),
        field('assignments', nullableArray([field('brokerIds', array('int32'))])),
      ]),
      field('timeoutMs', 'int32'),
      field('validateOnly', 'bool'),
    ],
    response: [throttle(0), results('results', [field('name', 'string'), error, field('errorMessage', 'string?')])],
  },
  DeleteGroups: {
    key: 42,
    min: 0,
    max: 1,
    request: [field('groups', array('string'))],
    response: [throttle(0), results('results', [field('groupId', 'string'), error])],
  },
  IncrementalAlterConfigs: {
    key: 44,
    min: 0,
    max: 0,
    request: [
      results('resources', [
        field('type', 'int8'),
        field('name', 'string'),
        field('configs', array([field('name', 'string'), field('operation', 'int8'), field('value', 'string?')])),
      ]),
      field('validateOnly', 'bool'),
    ],
    response: [
      throttle(0),
      results('responses', [error, field('errorMessage', 'string?'), field('type', 'int8'), field('name', 'string')]),
    ],
  },
} as const satisfies Record<string, Api>;

export type ApiName = keyof typeof apis;

export const apiByKey: ReadonlyMap<number, { name: ApiName; api: Api }> = new Map(
  Object.entries(apis).map(([name, api]) => [api.key, { name: name as ApiName, api }]),
);
