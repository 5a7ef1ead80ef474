/**
 * How many calls of functions find no instance, and what does it cost to have one ready? Two weeks of a generated population, replayed through the classes that
 * decide it in production: `HybridHistogram` (the ATC 2020 policy), `IdleHazard`, the known times of timers, and forecasts of each function's rate by
 * `SeriesForecaster`; beside them fixed times. A part of it is replayed once more through `FunctionService` itself on a virtual clock.
 * `node bench/functions-prewarm.mjs [apps] [seed]`, default 2,000 apps; writes bench/results/functions-prewarm.md.
 */
import { writeFileSync } from 'node:fs';
import { cpus, platform, release } from 'node:os';
import { VirtualClock } from '../dist/src/clock.js';
import { functionSchema } from '../dist/src/functions/definition.js';
import { FunctionService } from '../dist/src/functions/function-service.js';
import { IdleHazard } from '../dist/src/functions/idle-hazard.js';
import { HybridHistogram } from '../dist/src/functions/keep-alive.js';
import { SeriesForecaster } from '../dist/src/models/series-forecaster.js';
import { arimaIdleTimes } from '../dist/src/operators/idle-forecaster.js';
import { callsOf, makeApps } from './functions/population.mjs';

const count = Number(process.argv[2] ?? 2_000);
const seed = Number(process.argv[3] ?? 1);
const DAYS = 14;
const END = DAYS * 1440;
const MIN = 60_000;
/** The autoscaler's stable window: what was called within it is kept, whatever the policy says. */
const STABLE = 1;
/** An instance is ready so long before a timer, and is gone so long after it (the stable window), minutes. */
const TIMER_LEAD = 10_000 / MIN;
/** Step of the rates that are forecast, minutes; the running system's is one. */
const STEP = 15;
const MIN_CONFIDENCE = 0.05;
const WORTH = 240;

/** Of a policy's windows: whether a call after so many idle minutes finds an instance, and for how many of them one was idle. */
function byWindows(policy, gap, floor, extra) {
  if (gap < floor) return [true, gap];
  const spans = policy.windows(gap * MIN).warm.map(({ fromMs, toMs }) => [fromMs / MIN, toMs / MIN]);
  let warm = spans.some(([from, to]) => gap >= from && gap < to);
  if (extra) {
    for (const span of extra) spans.push(span);
    warm ||= extra.some(([from, to]) => gap >= from && gap < to);
  }
  spans.push([0, floor]);
  spans.sort((a, b) => a[0] - b[0]);
  let idle = 0;
  let until = 0;
  for (const [from, to] of spans) {
    const begin = Math.max(from, until);
    const end = Math.min(to, gap);
    if (end > begin) idle += end - begin;
    until = Math.max(until, end);
  }
  return [warm, idle];
}

const fixed = (minutes) => () => ({
  first: false,
  gap: (gap) => [gap < minutes, Math.min(gap, minutes)],
  learn: () => undefined,
});
const windows =
  (make, floor = 0) =>
  () => {
    const policy = make();
    return {
      first: false,
      gap: (gap) => byWindows(policy, gap, floor),
      learn: (gap) => policy.learn(gap * MIN),
    };
  };
/** What Iguana does of an app: `timers`: known times, `forecasts`: rates ahead. */
const iguana = (worth, { timers = false, forecasts = false } = {}) => {
  return (app, rates) => {
    if (timers && app.kind === 'timer') {
      const around = STABLE + TIMER_LEAD;
      return {
        first: true,
        gap: (gap) => [true, Math.min(gap, around)],
        last: (gap) => Math.min(gap, STABLE),
        learn: () => undefined,
      };
    }
    const policy = new IdleHazard({ coldStartWorthMinutes: worth });
    return {
      first: false,
      gap: (gap, from) => byWindows(policy, gap, STABLE, forecasts ? rates?.spans(from, gap, worth) : undefined),
      learn: (gap) => policy.learn(gap * MIN),
    };
  };
};

const policies = {
  'fixed 5 min': fixed(5),
  'fixed 10 min': fixed(10),
  'fixed 1 h': fixed(60),
  'fixed 4 h': fixed(240),
  'ATC 2020 hybrid, no time series': windows(() => new HybridHistogram({ maxOutOfBounds: 2 })),
  'ATC 2020 hybrid': windows(() => new HybridHistogram({ series: arimaIdleTimes })),
  'Iguana: idle hazard alone': iguana(WORTH),
  'Iguana: and timers': iguana(WORTH, { timers: true }),
  'Iguana: and forecasts': iguana(WORTH, { timers: true, forecasts: true }),
};
const curve = [15, 30, 60, 120, 240, 480, 1_440];
for (const worth of curve) policies[`curve ${worth}`] = iguana(worth, { timers: true, forecasts: true });

/** Rates of an app forecast a step ahead; the forecaster knows nothing of the steps that come. */
function forecastRates(times) {
  const steps = END / STEP;
  const calls = new Float64Array(steps);
  for (const at of times) calls[Math.min(steps - 1, Math.floor(at / STEP))]++;
  const forecaster = new SeriesForecaster({ model: 'seasonal-decomposition', stepMs: STEP * MIN });
  const perMinute = new Float64Array(steps + 1);
  for (let step = 0; step < steps; step++) {
    forecaster.learn(step * STEP * MIN, calls[step] / STEP);
    forecaster.finish();
    const [point] = forecaster.forecast([1], [80]);
    if (point && point.confidence >= MIN_CONFIDENCE) perMinute[step + 1] = point.value;
  }
  return {
    spans(from, gap, worth) {
      const spans = [];
      for (let step = Math.floor(from / STEP); step * STEP < from + gap; step++) {
        if (perMinute[step] * worth >= 1) spans.push([Math.max(0, step * STEP - from), (step + 1) * STEP - from]);
      }
      return spans;
    },
  };
}

const apps = makeApps(count, seed);
const totals = Object.fromEntries(
  Object.keys(policies).map((name) => [name, { cold: 0, idle: 0, memory: 0, shares: [] }]),
);
let calls = 0;
let called = 0;
const began = performance.now();
for (const app of apps) {
  const times = [...callsOf(app, DAYS)];
  if (times.length === 0) continue;
  calls += times.length;
  called++;
  const rates = app.kind === 'timer' ? undefined : forecastRates(times);
  for (const [name, make] of Object.entries(policies)) {
    const policy = make(app, rates);
    let cold = policy.first ? 0 : 1;
    let idle = 0;
    let end = times[0] + app.duration;
    for (let i = 1; i < times.length; i++) {
      const gap = times[i] - end;
      if (gap > 0) {
        const [warm, idled] = policy.gap(gap, end);
        if (!warm) cold++;
        idle += idled;
        policy.learn(gap);
      }
      end = Math.max(end, times[i] + app.duration);
    }
    if (end < END) idle += policy.last?.(END - end) ?? policy.gap(END - end, end)[1];
    const total = totals[name];
    total.cold += cold;
    total.idle += idle;
    total.memory += idle * app.memoryMb;
    total.shares.push(cold / times.length);
  }
}
const seconds = (performance.now() - began) / 1000;

/** The same through `FunctionService`: what it counts as cold starts, and the idle minutes of its instances. */
async function throughService(chosen, days, optimised) {
  const clock = new VirtualClock(0);
  const TICK = 5_000;
  /** Idle instances are counted this often: asking is dear. */
  const SAMPLE = 60_000;
  const service = new FunctionService({
    clock,
    factory: () => ({
      start: async () => ({
        invoke: () =>
          new Promise((resolve) => {
            clock.after(700, () =>
              resolve({ output: 0, durationMs: 700, memoryUsedMb: 1, logs: [], logsTruncated: false }),
            );
          }),
        usable: true,
        memoryBytes: () => 1,
        close: async () => undefined,
      }),
    }),
  });
  for (const { name } of chosen) {
    const definition = functionSchema.parse({ name, runtime: 'javascript', code: { inline: '-' }, concurrency: 1_000 });
    await service.deploy({ definition, code: Buffer.from('-') });
    if (optimised) service.enableColdStartOptimization(name);
  }
  const events = chosen
    .flatMap((app) => [...callsOf(app, days)].map((at) => ({ at: Math.round(at * MIN), name: app.name })))
    .sort((a, b) => a.at - b.at);
  let idle = 0;
  let next = 0;
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  for (let now = 0; now < days * 1440 * MIN; now += TICK) {
    for (; next < events.length && events[next].at < now + TICK; next++) {
      clock.advance(Math.max(0, events[next].at - clock.now()));
      await settle();
      void service.invoke(events[next].name, { trigger: 'call', input: 0 });
      await settle();
    }
    clock.advance(now + TICK - clock.now());
    await settle();
    await service.tick();
    if (now % SAMPLE !== 0) continue;
    for (const { name } of chosen) idle += (service.metrics(name).idleInstances * SAMPLE) / MIN;
  }
  const cold = chosen.reduce((sum, { name }) => sum + service.metrics(name).coldStarts, 0);
  clock.advance(1_000);
  await settle();
  await service.close();
  return { cold, idle };
}

function replayed(chosen, days, make) {
  let cold = 0;
  let idle = 0;
  for (const app of chosen) {
    const policy = make(app);
    let end;
    for (const at of callsOf(app, days)) {
      if (end === undefined) cold++;
      else if (at > end) {
        const [warm, idled] = policy.gap(at - end, end);
        if (!warm) cold++;
        idle += idled;
        policy.learn(at - end);
      }
      end = Math.max(end ?? 0, at + 0.7 / 60);
    }
    if (end !== undefined && end < days * 1440) idle += policy.gap(days * 1440 - end, end)[1];
  }
  return { cold, idle };
}

const CHECK_DAYS = 3;
const checkApps = apps.filter(({ rate }) => rate > 3 && rate < 300).slice(0, 20);
const checks = [];
for (const [title, optimised, make] of [
  ['fixed 5 min (the default)', false, fixed(5)],
  ['idle hazard', true, iguana(WORTH)],
]) {
  const service = await throughService(checkApps, CHECK_DAYS, optimised);
  checks.push({ title, service, replay: replayed(checkApps, CHECK_DAYS, make) });
}

const base = totals['fixed 5 min'];
const percent = (share) => `${(100 * share).toFixed(share < 0.01 ? 3 : 1)} %`;
const quantile = (shares, q) =>
  [...shares].sort((a, b) => a - b)[Math.min(shares.length - 1, Math.floor(q * shares.length))];
const row = (...cells) => `| ${cells.join(' | ')} |`;
const line = (name, title = name) => {
  const { cold, memory, shares } = totals[name];
  return row(
    title,
    cold,
    percent(cold / calls),
    (base.cold / cold).toFixed(1),
    (memory / base.memory).toFixed(2),
    `${percent(quantile(shares, 0.5))} / ${percent(quantile(shares, 0.75))}`,
    percent(shares.filter((share) => share === 1).length / shares.length),
  );
};
const head = [
  row(
    'policy',
    'cold starts',
    'of all calls',
    'fewer than fixed 5 min, times',
    'idle memory-time, fixed 5 min = 1',
    'cold share of an app, p50 / p75',
    'apps always cold',
  ),
  row('---', '---:', '---:', '---:', '---:', '---:', '---:'),
];
const text = `# Cold starts against idle memory

Fourteen days of ${called} functions that were called (of ${count}), ${calls.toLocaleString('en')} calls, seed ${seed}. Generated, not a trace: calls a day log-normal over eight orders of
magnitude as ATC 2020 publishes them (45 % at most once an hour, 81 % at most once a minute), a third each periodic, Poisson and in bursts. Chosen here, since the
paper does not give it: half of the periodic ones are timers whose cron is known, half are clients with 2 % jitter; half of the Poisson ones follow the day; functions that
are called more often than every 20 s are simulated at that rate; memory has a median of 170 MB and 90 % below 400 MB.

${[
  ...head,
  ...Object.keys(policies)
    .filter((name) => !name.startsWith('curve'))
    .map((name) => line(name)),
].join('\n')}

"Iguana" keeps an instance while the chance that the next minute brings a call is worth the minute, at one cold start = ${WORTH} idle minutes
(\`src/functions/idle-hazard.ts\`), and for the autoscaler's stable window of a minute after each call; with timers it has an instance ready ${(TIMER_LEAD * 60).toFixed(0)} s before a known time and no
other; with forecasts also where a forecast of the rate (seasonal decomposition, ${STEP} min steps, confidence of at least ${MIN_CONFIDENCE}) says that a call is that likely.
The first call of a function is cold under every policy, except of a timer.

## The curve

What one cold start may cost in idle minutes, with timers and forecasts:

${[...head, ...curve.map((worth) => line(`curve ${worth}`, `${worth} min`))].join('\n')}

## Through the service itself

${checkApps.length} of the functions (3 to 300 calls a day), ${CHECK_DAYS} days, through \`FunctionService\` with its pools and autoscaler on a virtual clock, a tick every 5 s; beside it the replay
of the same calls. They differ by the tick, and by the minute for which the autoscaler holds what it has seen.

| policy | cold starts: service | replay | idle minutes: service | replay |
| --- | ---: | ---: | ---: | ---: |
${checks.map(({ title, service, replay }) => row(title, service.cold, replay.cold, Math.round(service.idle), Math.round(replay.idle))).join('\n')}

Node ${process.version}, ${cpus().length} × ${cpus()[0].model.trim()}, ${platform()} ${release()}, ${new Date().toISOString().slice(0, 10)}. The replay took ${seconds.toFixed(0)} s.
\`node bench/functions-prewarm.mjs ${count} ${seed}\`
`;
writeFileSync(new URL('./results/functions-prewarm.md', import.meta.url), text);
process.stdout.write(text);
