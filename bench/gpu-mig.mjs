// How many MIG requests does each way to choose a place accept? Usage: node bench/gpu-mig.mjs [--seeds 5] [--requests 40000]; writes bench/results/gpu-mig.md
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { expectedRequests, MigOutlook } from '../dist/src/gpu/mig/mig-outlook.js';
import { migModelOf } from '../dist/src/gpu/mig/mig-profiles.js';
import { migTableOf } from '../dist/src/gpu/mig/mig-table.js';
import { seededRandom } from '../dist/src/stats/seeded-random.js';

const option = (name, otherwise) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? otherwise : Number(process.argv[at + 1]);
};
const seeds = Array.from({ length: option('seeds', 5) }, (_, i) => 42 + i);
const requests = option('requests', 40_000);
const GPUS = 100;
const model = migModelOf('NVIDIA A100-SXM4-40GB', 'base');
const table = migTableOf(model);
const names = model.profiles.map(({ name }) => name);
const placesOf = new Map(
  names.map((name) => [name, table.placements.flatMap(({ profile }, p) => (profile.name === name ? [p] : []))]),
);
/** Popularity of 1g, 2g, 3g, 4g, 7g. */
const mixes = {
  uniform: [1, 1, 1, 1, 1],
  mixed: [4, 3, 2, 1, 1],
  skewed: [1, 1, 6, 1, 2],
  'small-heavy': [12, 5, 1, 0.5, 0.5],
};
const popcount = (bits) => {
  let count = 0;
  for (let rest = bits; rest; rest &= rest - 1) count++;
  return count;
};
/** Each gives for a demand: what a layout loses when it is put at a place; the least one is taken, of equals the first GPU. */
const policies = {
  'first-fit': () => () => 0,
  'best-fit': () => (layout) => 8 - popcount(table.occupied[layout]),
  'expected blocked next': (mix) => {
    const total = mix.reduce((sum, one) => sum + one, 0);
    const blocked = table.layouts.map((_, layout) =>
      names.reduce(
        (sum, name, i) => sum + (placesOf.get(name).every((p) => table.with(layout, p) < 0) ? mix[i] / total : 0),
        0,
      ),
    );
    return (layout, p) =>
      blocked[table.with(layout, p)] - blocked[layout] + 1e-6 * (8 - popcount(table.occupied[layout]));
  },
  outlook: (mix, load) => {
    const popularity = Object.fromEntries(names.map((name, i) => [name, mix[i]]));
    const outlook = new MigOutlook(table, expectedRequests(table, popularity, GPUS, load));
    return Object.assign((layout, p) => outlook.costOf(layout, p), {
      move: (layouts, name) => outlook.bestMove(layouts, name),
      look: (layouts) => outlook.look(layouts),
    });
  },
};

function best(layouts, name, cost, except = -1) {
  let found;
  let least = Number.POSITIVE_INFINITY;
  for (let gpu = 0; gpu < layouts.length; gpu++) {
    if (gpu === except) continue;
    for (const p of placesOf.get(name)) {
      if (table.with(layouts[gpu], p) < 0) continue;
      const value = cost(layouts[gpu], p);
      if (value < least) {
        least = value;
        found = { gpu, p, value };
      }
    }
  }
  return found;
}

/** One instance elsewhere so that the demand fits: the pair that costs least. */
function anyMove(layouts, name, cost) {
  let chosen;
  for (let gpu = 0; gpu < layouts.length; gpu++) {
    for (const old of table.placementsOf(layouts[gpu])) {
      const rest = table.without(layouts[gpu], old);
      const fits = placesOf.get(name).filter((p) => table.with(rest, p) >= 0);
      if (fits.length === 0) continue;
      const p = fits.reduce((a, b) => (cost(rest, b) < cost(rest, a) ? b : a));
      const before = layouts[gpu];
      layouts[gpu] = table.with(rest, p);
      const to = best(layouts, table.placements[old].profile.name, cost);
      layouts[gpu] = before;
      if (!to) continue;
      const value = cost(rest, p) + to.value - cost(rest, old);
      if (!chosen || value < chosen.value)
        chosen = { gpu, instance: old, placement: p, toGpu: to.gpu, toPlacement: to.p, value };
    }
  }
  return chosen;
}

function simulate(mix, load, cost, seed, withMove) {
  const random = seededRandom(seed);
  const layouts = new Array(GPUS).fill(0);
  const total = mix.reduce((sum, one) => sum + one, 0);
  const slices = mix.reduce((sum, one, i) => sum + one * model.profiles[i].memory, 0) / total;
  const rate = (load * GPUS * 8) / slices;
  const running = [];
  let now = 0;
  let accepted = 0;
  let offered = 0;
  let moves = 0;
  const warm = requests / 5;
  for (let r = 0; r < requests; r++) {
    now -= Math.log(1 - random()) / rate;
    let draw = random() * total;
    let kind = 0;
    while (draw >= mix[kind] && kind < mix.length - 1) draw -= mix[kind++];
    const stay = -Math.log(1 - random());
    for (let i = running.length - 1; i >= 0; i--) {
      if (running[i].end > now) continue;
      const { gpu, p } = running[i];
      layouts[gpu] = table.without(layouts[gpu], p);
      running[i] = running[running.length - 1];
      running.pop();
    }
    if (r >= warm) offered++;
    cost.look?.(layouts);
    const place = best(layouts, names[kind], cost);
    if (!place && withMove) {
      const moved = (cost.move ?? anyMove)(layouts, names[kind], cost);
      if (moved) {
        const job = running.find((one) => one.gpu === moved.gpu && one.p === moved.instance);
        layouts[moved.gpu] = table.with(table.without(layouts[moved.gpu], moved.instance), moved.placement);
        layouts[moved.toGpu] = table.with(layouts[moved.toGpu], moved.toPlacement);
        job.gpu = moved.toGpu;
        job.p = moved.toPlacement;
        running.push({ gpu: moved.gpu, p: moved.placement, end: now + stay });
        if (r >= warm) {
          accepted++;
          moves++;
        }
        continue;
      }
    }
    if (!place) continue;
    layouts[place.gpu] = table.with(layouts[place.gpu], place.p);
    if (layouts[place.gpu] < 0) throw new Error('illegal layout');
    running.push({ gpu: place.gpu, p: place.p, end: now + stay });
    if (r >= warm) accepted++;
  }
  return { acceptance: (100 * accepted) / offered, moves: (100 * moves) / offered };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values) =>
  Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / Math.max(1, values.length - 1));
const lines = [
  '# Placement of MIG instances',
  '',
  `Node ${process.version}, ${cpus().length} × ${cpus()[0].model}, load ${loadavg()[0].toFixed(1)} at the start. \`node bench/gpu-mig.mjs --seeds ${seeds.length} --requests ${requests}\`.`,
  '',
  `Accepted requests, per cent, on ${GPUS} A100 with the five base profiles; Poisson arrivals, exponential stays, mean of ${seeds.length} seeds, the first fifth of ${requests} requests not counted; ± standard deviation of`,
  'the difference to best-fit, seed by seed. `outlook` is what Iguana does (src/gpu/mig/mig-outlook.ts); `expected blocked next` looks at the next request and one GPU only. Load: memory slices asked for, as a part of what there is. A refused request is gone. "With a move": when nothing fits, one running instance may be moved to another',
  'place; moves in per cent of the requests; `outlook` does so only when that is expected to cost no more than 4 later requests. Mixes (1g 2g 3g 4g 7g): uniform 1 1 1 1 1, mixed 4 3 2 1 1, skewed 1 1 6 1 2, small-heavy 12 5 1 0.5 0.5.',
  '',
  '| mix | load | move | first-fit | best-fit | expected blocked next | outlook | outlook − best-fit | moves: best-fit / outlook |',
  '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
];
for (const [mixName, mix] of Object.entries(mixes)) {
  for (const load of [0.85, 1, 1.3]) {
    for (const withMove of [false, true]) {
      const results = Object.fromEntries(
        Object.entries(policies).map(([name, make]) => {
          const cost = make(mix, load);
          return [name, seeds.map((seed) => simulate(mix, load, cost, seed, withMove))];
        }),
      );
      const of = (name) => results[name].map(({ acceptance }) => acceptance);
      const gain = of('outlook').map((value, i) => value - of('best-fit')[i]);
      const moves = (name) => mean(results[name].map((one) => one.moves)).toFixed(1);
      lines.push(
        `| ${mixName} | ${load} | ${withMove ? 'one' : 'none'} | ${Object.keys(policies)
          .map((name) => mean(of(name)).toFixed(2))
          .join(
            ' | ',
          )} | ${mean(gain) >= 0 ? '+' : ''}${mean(gain).toFixed(2)} ± ${deviation(gain).toFixed(2)} | ${withMove ? `${moves('best-fit')} / ${moves('outlook')}` : ''} |`,
      );
      console.log(lines.at(-1));
    }
  }
}
writeFileSync('bench/results/gpu-mig.md', `${lines.join('\n')}\n`);
