import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { FunctionMetrics } from '../functions/function-metrics.js';
import type { FunctionApi, TriggerStatus } from './function-api.js';

type Value = readonly [labels: Record<string, string>, value: number];

/** What of all functions is told when a scrape asks. */
type Read = (name: string, metrics: FunctionMetrics) => readonly Value[];

type Durations = readonly { readonly name: string; readonly metrics: Pick<FunctionMetrics, 'durations'> }[];

/** Durations as they are counted already, in place of a second count. */
class ReadHistogram extends Histogram {
  constructor(
    private readonly shown: { readonly name: string; readonly help: string },
    registers: Registry[],
    private readonly read: () => Durations,
  ) {
    super({ ...shown, labelNames: ['function'], registers });
  }

  /** What the registry asks for, here and through `get`. */
  async getForPromString() {
    const values = this.read().flatMap(({ name, metrics: { durations } }) => {
      const value = (suffix: string, of: number, labels: Record<string, string | number> = {}) => ({
        metricName: `${this.shown.name}_${suffix}`,
        labels: { function: name, ...labels },
        value: of,
      });
      return [
        ...durations.atMost.map(([boundMs, calls]) => value('bucket', calls, { le: boundMs / 1000 })),
        value('bucket', durations.count, { le: '+Inf' }),
        value('sum', durations.sumMs / 1000),
        value('count', durations.count),
      ];
    });
    return { ...this.shown, type: 'histogram', aggregator: 'sum', values };
  }
}

/** Adds the metrics of functions to a registry; like the others they are read when scraped. */
export function functionPrometheus(registry: Registry, functions: FunctionApi): void {
  const all = () => functions.list().map(({ name }) => ({ name, metrics: functions.metrics(name) }));
  const values = (read: Read) => all().flatMap(({ name, metrics }) => read(name, metrics));
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: string[], read: () => readonly Value[]) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const [labels, value] of read()) this.set(labels, value);
      },
    });
  const counter = (name: string, help: string, labelNames: string[], read: Read) =>
    new Counter({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const [labels, value] of values(read)) this.inc(labels, value);
      },
    });

  counter(
    'iguana_function_invocations_total',
    'Calls of a function that ended, by outcome: success, or the code of the error.',
    ['function', 'outcome'],
    (name, { successfulInvocations, failedInvocations }) => [
      [{ function: name, outcome: 'success' }, successfulInvocations],
      ...Object.entries(failedInvocations).map(([outcome, n]): Value => [{ function: name, outcome }, n]),
    ],
  );
  const help = 'Duration of calls of a function in its handler, of those that failed too.';
  new ReadHistogram({ name: 'iguana_function_duration_seconds', help }, registers, all);
  counter(
    'iguana_function_cold_starts_total',
    'Calls that had to wait for a new instance, by why there was none.',
    ['function', 'cause'],
    (name, { coldStartsByCause }) =>
      Object.entries(coldStartsByCause).map(([cause, n]): Value => [{ function: name, cause }, n]),
  );
  counter(
    'iguana_function_cold_start_seconds_total',
    'Time that calls waited for new instances.',
    ['function'],
    (name, { coldStarts, averageColdStartMs }) => [[{ function: name }, (coldStarts * averageColdStartMs) / 1000]],
  );
  counter(
    'iguana_function_throttles_total',
    'Calls refused because too many waited.',
    ['function'],
    (name, { throttles }) => [[{ function: name }, throttles]],
  );
  counter('iguana_function_gas_total', 'Gas used by calls (WebAssembly).', ['function'], (name, { gasUsed }) => [
    [{ function: name }, gasUsed],
  ]);
  gauge('iguana_function_instances', 'Instances of a function that are up, by state.', ['function', 'state'], () =>
    values((name, { instances, idleInstances }) => [
      [{ function: name, state: 'idle' }, idleInstances],
      [{ function: name, state: 'busy' }, instances - idleInstances],
    ]),
  );
  gauge('iguana_function_concurrency', 'Calls of a function that run now.', ['function'], () =>
    values((name, { concurrency }) => [[{ function: name }, concurrency]]),
  );
  gauge('iguana_function_waiting', 'Calls of a function that wait for an instance.', ['function'], () =>
    values((name, { waiting }) => [[{ function: name }, waiting]]),
  );
  gauge('iguana_function_memory_bytes', 'Memory of the instances of a function.', ['function'], () =>
    values((name, { memoryBytes }) => [[{ function: name }, memoryBytes]]),
  );

  const triggers = (of: (status: TriggerStatus) => number | undefined) => (): Value[] =>
    functions.list().flatMap(({ name }) =>
      functions.stats(name).triggers.flatMap((status): Value[] => {
        const value = of(status);
        const { type, source } = status;
        return value === undefined ? [] : [[{ function: name, trigger: type, source }, value]];
      }),
    );
  const ofTrigger = ['function', 'trigger', 'source'];
  const counted =
    (of: (counts: Readonly<Record<string, number>>) => Readonly<Record<string, number | undefined>>) =>
    (name: string): Value[] =>
      functions
        .stats(name)
        .triggers.flatMap(({ type, source, counts = {} }) =>
          Object.entries(of(counts)).flatMap(([outcome, n]): Value[] =>
            n === undefined ? [] : [[{ function: name, trigger: type, source, outcome }, n]],
          ),
        );
  const byOutcome = [...ofTrigger, 'outcome'];
  counter(
    'iguana_function_trigger_records_total',
    'Records of a stream or queue trigger by outcome: done, given_up (to dead letters, or dropped), or filtered.',
    byOutcome,
    counted(({ done, givenUp, filtered }) => ({ done, given_up: givenUp, filtered })),
  );
  counter(
    'iguana_function_trigger_calls_total',
    'Calls of a stream or queue trigger by outcome: success or failure.',
    byOutcome,
    counted(({ calls, failedCalls }) =>
      calls === undefined || failedCalls === undefined ? {} : { success: calls - failedCalls, failure: failedCalls },
    ),
  );
  counter(
    'iguana_function_timer_runs_total',
    'Runs of a timer by outcome: started, failed (after all tries), missed or overlapped (left out).',
    byOutcome,
    counted(({ runs, failures, missed, overlapped }) => ({ started: runs, failed: failures, missed, overlapped })),
  );
  gauge(
    'iguana_function_trigger_lag',
    'Records that a stream or queue trigger has not handled yet.',
    ofTrigger,
    triggers(({ lag }) => lag),
  );
  gauge(
    'iguana_function_trigger_oldest_age_seconds',
    'Age of the oldest record that a stream or queue trigger has not handled yet.',
    ofTrigger,
    triggers(({ oldestAgeMs }) => (oldestAgeMs === undefined ? undefined : oldestAgeMs / 1000)),
  );
  gauge(
    'iguana_function_trigger_behind',
    '1 while the lag of a trigger grows, else 0.',
    ofTrigger,
    triggers(({ verdict }) => (verdict === undefined ? undefined : verdict === 'behind' ? 1 : 0)),
  );
}
