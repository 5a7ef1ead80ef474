// What does keeping GPUs ready from forecasts save in waiting, and what does it cost idle? Usage: node bench/gpu-preallocation.mjs [DATA]; DATA: the openb traces (default ../shared/data/gpu/openb); writes bench/results/gpu-preallocation.md
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { PreallocationPolicy } from '../dist/src/gpu/preallocation.js';
import { seededRandom } from '../dist/src/stats/seeded-random.js';

const file = `${process.argv[2] ?? '../shared/data/gpu/openb'}/openb_pod_list_default.csv`;
if (!existsSync(file)) {
  console.error(`${file} is missing: give the folder with the openb traces as argument`);
  process.exit(2);
}
const MINUTE = 60_000;
const DAY = 86_400_000;
const LEAD = 4 * MINUTE;
/** Figures are from here on. */
const COUNTED = 2 * DAY;
const [header, ...rows] = readFileSync(file, 'utf8').trim().split('\n');
const columns = header.split(',');
const jobs = rows
  .map((row) => row.split(','))
  .map((cells) => {
    const of = (name) => Number(cells[columns.indexOf(name)]);
    return {
      at: of('creation_time') * 1000,
      stay: (of('deletion_time') - of('creation_time')) * 1000,
      gpus: of('num_gpu'),
    };
  })
  .filter(({ gpus, stay, at }) => gpus > 0 && stay > 0 && Number.isFinite(stay) && at > 115 * DAY)
  .sort((a, b) => a.at - b.at);
const from = Math.floor(jobs[0].at / DAY) * DAY;
const trace = jobs.map((job) => ({ ...job, at: job.at - from }));
const hours = new Array(24).fill(0);
for (const { at } of trace) hours[Math.floor(at / 3_600_000) % 24] += 1 / trace.length;

/** Jobs drawn from the trace, so many a day with its daily pattern; `bursts` a day of 20 to 60 jobs within five minutes, at one hour a day or at any. */
function made({ seed, days, perDay, daily, bursts, regular }) {
  const random = seededRandom(seed);
  const list = [];
  const add = (at) => {
    const { stay, gpus } = trace[Math.floor(random() * trace.length)];
    list.push({ at, stay: Math.min(stay, DAY), gpus });
  };
  for (let minute = 0; minute < days * 1440; minute++) {
    const share = daily ? hours[Math.floor(minute / 60) % 24] * 24 : 1;
    const mean = (perDay / 1440) * share;
    for (let p = Math.exp(-mean), sum = p, k = 1, draw = random(); draw > sum && k < 1000; k++) {
      add((minute + random()) * MINUTE);
      p *= mean / k;
      sum += p;
    }
    const due = regular ? minute % 1440 === 10 * 60 : random() < bursts / 1440;
    if (bursts > 0 && due)
      for (let n = 20 + Math.floor(random() * 41); n > 0; n--) add((minute + 5 * random()) * MINUTE);
  }
  return list.sort((a, b) => a.at - b.at);
}

/** What came at this time of the day on the days before, older ones fading, and how it scattered: a forecast that anyone could make. */
function forecaster() {
  const BIN = 5 * MINUTE;
  const bins = DAY / BIN;
  const mean = new Float64Array(bins);
  const square = new Float64Array(bins);
  let weight = 0;
  const today = new Float64Array(bins);
  let day = 0;
  return {
    tell(at, gpus) {
      this.roll(at);
      today[Math.floor((at % DAY) / BIN)] += gpus;
    },
    roll(now) {
      while (Math.floor(now / DAY) > day) {
        day++;
        weight = 0.8 * weight + 1;
        for (let b = 0; b < bins; b++) {
          mean[b] += (today[b] - mean[b]) / weight;
          square[b] += (today[b] ** 2 - square[b]) / weight;
          today[b] = 0;
        }
      }
    },
    forecast(now, horizonMs) {
      this.roll(now);
      if (weight === 0) return undefined;
      // Neighbours within half an hour smooth; a regular burst is still seen in its own bin.
      const at = Math.floor((now % DAY) / BIN);
      let near = 0;
      let spread = 0;
      for (let b = -6; b <= 6; b++) {
        const bin = (at + b + bins) % bins;
        near += mean[bin] / 13;
        spread += square[bin] / 13;
      }
      const next = (at + 1) % bins;
      const own = (mean[at] + mean[next]) / 2;
      const value = (Math.max(own > 3 * near + 3 ? own : near, 0) * horizonMs) / BIN;
      const deviation = Math.sqrt(Math.max(value, (spread - near ** 2) * (horizonMs / BIN)));
      return { horizonMs, value, upper: value + 1.2816 * deviation, level: 0.9 };
    },
  };
}

/** GPUs come `LEAD` after they were asked for; one that a job gives back can be kept. */
function simulate(list, options) {
  const fixed = options?.fixed;
  const policy = options && new PreallocationPolicy({ ...options, leadMs: LEAD, reviewMs: MINUTE });
  const forecasts = forecaster();
  let ready = 0;
  let target = 0;
  let waited = 0;
  let idle = 0;
  let used = 0;
  let countedIdle = 0;
  let countedUsed = 0;
  let late = 0;
  let served = 0;
  let idleSince = 0;
  let asked = 0;
  let usedNow = 0;
  const ordered = [];
  const waiting = [];
  const ends = [];
  const push = (heap, item) => {
    let low = 0;
    let high = heap.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (heap[middle].at > item.at) low = middle + 1;
      else high = middle;
    }
    heap.splice(low, 0, item);
  };
  let clock = 0;
  let running = 0;
  const advance = (to) => {
    const counted = Math.max(0, to - Math.max(clock, COUNTED));
    idle += ready * (to - clock);
    used += running * (to - clock);
    countedIdle += ready * counted;
    countedUsed += running * counted;
    clock = to;
  };
  /** A GPU is here: to who waits longest, else kept if wanted. */
  const arrive = () => {
    const first = waiting[0];
    if (first) {
      if (clock >= COUNTED) waited += clock - first.since;
      if (clock > first.since) late++;
      first.missing--;
      running++;
      if (first.missing === 0) {
        waiting.shift();
        push(ends, { at: clock + first.stay, gpus: first.gpus });
      }
    } else if (ready + ordered.length < target) ready++;
  };
  const last = list.at(-1).at;
  let next = 0;
  let review = 0;
  for (;;) {
    const at = Math.min(
      next < list.length ? list[next].at : Number.POSITIVE_INFINITY,
      ordered.length > 0 ? ordered[0] : Number.POSITIVE_INFINITY,
      ends.length > 0 ? ends.at(-1).at : Number.POSITIVE_INFINITY,
      policy && review <= last ? review : Number.POSITIVE_INFINITY,
    );
    if (at > last && next >= list.length && waiting.length === 0) break;
    advance(at);
    if (ordered.length > 0 && ordered[0] === at) {
      ordered.shift();
      arrive();
    } else if (ends.length > 0 && ends.at(-1).at === at) {
      const { gpus } = ends.pop();
      running -= gpus;
      for (let g = 0; g < gpus; g++) arrive();
    } else if (next < list.length && list[next].at === at) {
      const job = list[next++];
      forecasts.tell(at, job.gpus);
      asked += job.gpus;
      served += job.gpus;
      const request = { ...job, since: at, missing: job.gpus };
      waiting.push(request);
      while (ready > 0 && request.missing > 0 && waiting[0] === request) {
        ready--;
        arrive();
      }
      // What is on its way serves who waits; the rest, and what keeps the stock, is asked for.
      const needed = waiting.reduce((sum, { missing }) => sum + missing, 0) + target;
      for (let n = needed - ready - ordered.length; n > 0; n--) ordered.push(at + LEAD);
    } else {
      review += MINUTE;
      policy.observe(asked, used - usedNow, idle - idleSince);
      asked = 0;
      usedNow = used;
      idleSince = idle;
      target = fixed ?? policy.decide(at, forecasts.forecast(at, LEAD + MINUTE)).target;
      const backlog = waiting.reduce((sum, { missing }) => sum + missing, 0);
      ready = Math.min(ready, target);
      for (let n = target + backlog - ready - ordered.length; n > 0; n--) ordered.push(at + LEAD);
      // Orders that nobody wants any more are withdrawn, the newest first.
      while (ordered.length > 0 && ready + ordered.length > target + backlog) ordered.pop();
    }
  }
  return {
    waited: waited / 3_600_000,
    idle: countedIdle / 3_600_000,
    used: countedUsed / 3_600_000,
    late,
    served,
  };
}

const worlds = {
  'trace as it is': { list: () => trace, seeds: [0] },
  'daily pattern, 2,000 a day': { list: (seed) => made({ seed, days: 14, perDay: 2000, daily: true, bursts: 0 }) },
  'daily pattern and a burst each day at ten': {
    list: (seed) => made({ seed, days: 14, perDay: 2000, daily: true, bursts: 1, regular: true }),
  },
  'unpredictable: rare, at any time': { list: (seed) => made({ seed, days: 28, perDay: 10, daily: false, bursts: 0 }) },
  'unpredictable: bursts at any time': { list: (seed) => made({ seed, days: 28, perDay: 2, daily: false, bursts: 2 }) },
};
const waits = [2, 5, 10, 20, 40, 100];
const lines = [
  '# GPUs kept ready from forecasts',
  '',
  `Node ${process.version}, ${cpus().length} × ${cpus()[0].model}, load ${loadavg()[0].toFixed(1)} at the start. \`node bench/gpu-preallocation.mjs\`.`,
  '',
  'Jobs that ask for GPUs: those of the openb trace (its last 35 days), or drawn from them (length, GPUs, daily pattern; three seeds). A GPU that was not reserved takes 4 minutes to get; a reserved one is there. The',
  'policy (src/gpu/preallocation.ts) looks each minute; the forecast is what came at this time of the day before; the first two days, when it learns, are not counted. Waiting: GPU-hours waited, against asking when',
  'needed. Idle: reserved GPU-hours that nobody used, as a part of those used. Cost: an hour of waiting counts as many idle GPU-hours as the first column says; above 100 % would be a loss. 5 is the default. `always n`: the',
  'largest stock of one size, whatever the forecast, that stays within 5 % idle: what the forecast has to beat.',
  '',
  '| demand | weight of waiting | GPU-hours used | waited on demand, h | waited, h | waiting cut | idle | cost against on demand |',
  '| --- | --- | --- | --- | --- | --- | --- | --- |',
];
const percent = (part, digits = 1) => `${(100 * part).toFixed(digits)} %`;
for (const [name, { list, seeds = [1, 2, 3] }] of Object.entries(worlds)) {
  const demands = seeds.map(list);
  const before = demands.reduce((sum, demand) => sum + simulate(demand, undefined).waited, 0);
  const measure = (options) => {
    const sum = { used: 0, waited: 0, idle: 0 };
    for (const demand of demands) {
      const one = simulate(demand, options);
      sum.used += one.used;
      sum.waited += one.waited;
      sum.idle += one.idle;
    }
    return sum;
  };
  const tell = (label, { used, waited, idle }, weight) => {
    const cost = weight === undefined ? '' : percent((weight * waited + idle) / (weight * before));
    lines.push(
      `| ${name} | ${label} | ${used.toFixed(0)} | ${before.toFixed(1)} | ${waited.toFixed(1)} | ${percent(1 - waited / before)} | ${percent(idle / used, 2)} | ${cost} |`,
    );
    console.log(lines.at(-1));
  };
  for (const waiting of waits) tell(waiting, measure({ waiting }), waiting);
  // The largest stock of always the same size within the same idle time: what needs no forecast.
  let best;
  for (let fixed = 1; fixed <= 64; fixed++) {
    const one = measure({ fixed });
    if (one.idle > 0.05 * one.used) break;
    best = { fixed, one };
  }
  if (best) tell(`always ${best.fixed}`, best.one);
  else lines.push(`| ${name} | always 1 | | | | | above 5 % | |`);
}
writeFileSync('bench/results/gpu-preallocation.md', `${lines.join('\n')}\n`);
