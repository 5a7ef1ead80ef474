import { wallClock } from '../../src/clock.js';
import type { FunctionApi, TriggerStatus } from '../../src/dashboard/function-api.js';
import { type UsageRecord, UsageSums } from '../../src/functions/billing.js';
import { functionSchema } from '../../src/functions/definition.js';
import { FunctionService } from '../../src/functions/function-service.js';
import { instanceFactories } from '../../src/functions/instance-factories.js';

export interface TestFunctions extends FunctionApi {
  /** How the triggers of a function stand, as a host of them would say. */
  readonly triggers: Map<string, readonly TriggerStatus[]>;
  readonly paused: Set<string>;
  define(name: string, code: string, more?: object): Promise<void>;
  stop(): Promise<void>;
}

/** JavaScript functions of one process without topics. */
export function testFunctions(): TestFunctions {
  const factories = instanceFactories({ warmWorkers: 1 });
  const usage: UsageRecord[] = [];
  const service = new FunctionService({
    clock: wallClock,
    factory: (deployment, env) => factories.of(deployment, env),
    onUsage: (record) => usage.push(record),
  });
  const triggers = new Map<string, readonly TriggerStatus[]>();
  const paused = new Set<string>();
  return {
    triggers,
    paused,
    list: () => service.list(),
    onChange: (listener) => service.onChange(listener),
    deploy: (deployment) => service.deploy(deployment),
    delete: (name) => service.delete(name),
    invoke: (name, event, options) => service.invoke(name, event, options),
    setAlias: (name, alias, weights) => service.setAlias(name, alias, weights),
    deleteAlias: (name, alias) => service.deleteAlias(name, alias),
    prewarm: (name, instances) => service.prewarm(name, instances),
    pause: (name) => void paused.add(name),
    resume: (name) => void paused.delete(name),
    metrics: (name) => service.metrics(name),
    note: (name, invocationId, line) => service.note(name, invocationId, line),
    logs: (name) => service.logs(name),
    billing: (name, { start = 0, end = Number.POSITIVE_INFINITY } = {}) => {
      const sums = new UsageSums();
      for (const one of usage)
        if (one.function === name && one.startedAt >= start && one.startedAt < end) sums.add(one);
      return sums.bill();
    },
    stats: (name) => ({
      paused: paused.has(name),
      keepAlive: service.keepAlive(name),
      triggers: triggers.get(name) ?? [],
    }),
    define: async (name, code, more = {}) => {
      const runtime = 'javascript';
      const definition = functionSchema.parse({ name, runtime, memoryMb: 32, code: { inline: code }, ...more });
      await service.deploy({ definition, code: Buffer.from(code) });
    },
    stop: async () => {
      await service.close();
      await factories.close();
    },
  };
}
