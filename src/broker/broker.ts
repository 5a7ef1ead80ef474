import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { type Clock, wallClock } from '../clock.js';
import { IguanaError, messageOf } from '../errors.js';
import { brokerLimits } from '../limits.js';
import { lockDirectory } from './directory-lock.js';
import { Groups } from './groups.js';
import type { BrokerState } from './handlers.js';
import type { PartitionLog } from './log/log.js';
import { createProtocolServer } from './server.js';
import { Topics } from './topics.js';
import { Transactions } from './transactions.js';

export interface BrokerOptions {
  /** Interface to listen on. Default 127.0.0.1. */
  readonly host?: string;
  /** Address told to clients. Default `host`; where that is all interfaces, the one a client's connection came in at. */
  readonly advertisedHost?: string;
  /** Default 9092; 0 takes any free one. */
  readonly port?: number;
  /** Directory for topics, offsets and transactions; null (default) keeps all in memory. */
  readonly dataDir?: string | null;
  /** Partitions of topics created on first use. Default 4. */
  readonly defaultPartitions?: number;
  /** Default true. */
  readonly autoCreateTopics?: boolean;
}

export interface RunningBroker {
  readonly host: string;
  readonly port: number;
  stop(): Promise<void>;
}

/**
 * Starts a Kafka protocol broker in the calling thread.
 * Errors: `IGU_PORT_TAKEN`; `IGU_LISTEN` for an address that cannot be used; `IGU_DATA_DIR` when the directory cannot be written or another broker uses it.
 */
export async function startBroker(options: BrokerOptions & { readonly clock?: Clock } = {}): Promise<RunningBroker> {
  const { host = '127.0.0.1', port = 9092, dataDir = null, clock = wallClock } = options;
  const file = (name: string): string | null => (dataDir === null ? null : path.join(dataDir, name));
  const waiting = new Map<PartitionLog, Set<() => void>>();
  const appended = (log: PartitionLog): void => {
    for (const wake of [...(waiting.get(log) ?? [])]) wake();
  };
  const unlock = dataDir === null ? () => undefined : inDirectory(dataDir, () => lockDirectory(dataDir));
  let opened: Pick<BrokerState, 'topics' | 'groups' | 'transactions' | 'clusterId'>;
  try {
    opened = inDirectory(dataDir, () => {
      const topics = new Topics(dataDir);
      const groups = new Groups(clock, file('offsets.journal'));
      const transactions = new Transactions(clock, topics, groups, appended, file('transactions.journal'));
      return { topics, groups, transactions, clusterId: clusterIdOf(file('cluster-id')) };
    });
  } catch (error) {
    unlock();
    throw error;
  }
  const { topics, groups, transactions } = opened;
  const address = { host: options.advertisedHost ?? (isWildcard(host) ? null : host), port };
  const state: BrokerState = {
    clock,
    ...opened,
    address,
    defaultPartitions: options.defaultPartitions ?? 4,
    autoCreateTopics: options.autoCreateTopics ?? true,
    onAppend(logs, wake) {
      const forget = (): void => {
        for (const log of logs) waiting.get(log)?.delete(once);
      };
      const once = (): void => {
        forget();
        wake();
      };
      for (const log of logs) {
        const set = waiting.get(log) ?? new Set();
        set.add(once);
        waiting.set(log, set);
      }
      return forget;
    },
    appended,
  };
  const server = createProtocolServer(state);
  const sockets = new Set<{ destroy(): void }>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const closeState = (): void => {
    transactions.close();
    groups.close();
    topics.close();
    unlock();
  };
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (cause) {
    closeState();
    if ((cause as NodeJS.ErrnoException).code === 'EADDRINUSE')
      throw new IguanaError('IGU_PORT_TAKEN', { port, host }, { cause });
    throw new IguanaError('IGU_LISTEN', { host, port, what: messageOf(cause) }, { cause });
  }
  address.port = (server.address() as AddressInfo).port;
  const stopCleaning = clock.every(brokerLimits.cleanEveryMs, () => topics.clean(clock.now()));
  return {
    host,
    port: address.port,
    async stop() {
      stopCleaning();
      const ended = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await ended;
      closeState();
    },
  };
}

function clusterIdOf(file: string | null): string {
  if (file && existsSync(file)) return readFileSync(file, 'utf8');
  const id = randomBytes(16).toString('base64url');
  if (file) writeFileSync(file, id);
  return id;
}

/** Runs what needs the data directory; what goes wrong there is the user's to mend. */
function inDirectory<T>(directory: string | null, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    throw new IguanaError('IGU_DATA_DIR', { path: directory ?? '', what: messageOf(cause) }, { cause });
  }
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}
