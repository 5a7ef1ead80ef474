// How long does the allocator take to give GPUs of a large cluster? Usage: node bench/gpu-allocator.mjs [DATA] [--operations 12000]; DATA: the openb traces (default ../shared/data/gpu/openb); writes bench/results/gpu-allocator.md
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { GpuAllocator } from '../dist/src/gpu/allocator.js';
import { readDemands, readNodes } from '../dist/src/gpu/placement/openb.js';
import { absent, healthSignalNames, known } from '../dist/src/gpu/types.js';
import { seededRandom } from '../dist/src/stats/seeded-random.js';

const args = process.argv.slice(2);
const operationsAt = args.indexOf('--operations');
const operations = operationsAt < 0 ? 12000 : Number(args.splice(operationsAt, 2)[1]);
const folder = args[0] ?? '../shared/data/gpu/openb';
const nodesFile = `${folder}/openb_node_list_gpu_node.csv`;
if (!existsSync(nodesFile)) {
  console.error(`${nodesFile} is missing: give the folder with the openb traces as argument`);
  process.exit(2);
}
const random = seededRandom(42);
const nodes = readNodes(readFileSync(nodesFile, 'utf8'));
const demands = readDemands(readFileSync(`${folder}/openb_pod_list_gpuspec33.csv`, 'utf8')).filter(
  ({ gpuCount }) => gpuCount > 0,
);
/** MiB; of G2 and G3 nothing is published, so these are made up. */
const memory = { P100: 16384, T4: 15360, V100M16: 16384, V100M32: 32768, A10: 24576, G2: 24576, G3: 32768 };

const none = absent('not-reported');
const signals = Object.fromEntries(healthSignalNames.map((name) => [name, none]));
/** A GPU as discovery tells it, new objects each time; `used` MiB are in use. */
const gpuOf = (node, i, { used = 0, processes = [] } = {}) => ({
  id: `GPU-${node.id}-${i}`,
  vendor: 'nvidia',
  name: node.model,
  index: known(i),
  busId: known(`0000:${i}0:00.0`),
  serial: none,
  driver: known('570.10'),
  architecture: known('7.0'),
  memoryTotalMb: known(memory[node.model]),
  memoryUsedMb: known(used),
  memoryFreeMb: known(memory[node.model] - used),
  memoryReservedMb: none,
  utilization: known(Math.floor(random() * 100)),
  memoryUtilization: none,
  temperature: known(40 + Math.floor(random() * 40)),
  memoryTemperature: none,
  power: known(100 + Math.floor(random() * 100)),
  powerLimit: none,
  coreClock: none,
  memoryClock: none,
  fanPercent: none,
  computeMode: known('Default'),
  partitionMode: known('disabled'),
  partitions: [],
  processes,
  signals: { ...signals },
  health: { state: 'ok', causes: [] },
  seenAt: 0,
  stale: false,
});
const gpusOf = (node, state) => Array.from({ length: node.gpus }, (_, i) => gpuOf(node, i, state));

/** Whole GPUs, 2 to 8 of them, shares, MiB and models as the trace has them; every third share asks for any number of MiB. */
const requestOf = ({ gpuCount, gpuMilli, models }) => ({
  ...(gpuCount > 1 && { gpuCount }),
  ...(models && { model: models[0] }),
  ...(gpuMilli < 1000 &&
    (random() < 1 / 3 ? { memoryMb: 500 + Math.floor(random() * 15000) } : { computeShare: gpuMilli / 1000 })),
  leaseMs: null,
});

/** By what was done: milliseconds, and those that this process was computing in. */
const times = new Map();
const timed = (kind, run) => {
  const cpuBegan = process.cpuUsage();
  const began = performance.now();
  const answer = run();
  const took = performance.now() - began;
  const { user, system } = process.cpuUsage(cpuBegan);
  const name = typeof kind === 'function' ? kind(answer) : kind;
  if (!times.has(name)) times.set(name, { took: [], cpu: [] });
  times.get(name).took.push(took);
  times.get(name).cpu.push((user + system) / 1000);
  return answer;
};
const clock = { now: () => Date.now() };
const allocator = new GpuAllocator({ clock });
for (const node of nodes) timed('node told for the first time', () => allocator.setNode(node.id, gpusOf(node)));
const total = nodes.reduce((sum, { gpus }) => sum + gpus, 0);

// filled to nine tenths, then one goes for each that comes
const live = [];
let held = 0;
let denied = 0;
let told = 0;
for (let i = 0; i < operations; i++) {
  const request = requestOf(demands[Math.floor(random() * demands.length)]);
  const instance = `w${i}`;
  const stage = held < 0.9 * total ? 'filling' : 'nearly full';
  timed(`${stage}: canAllocate`, () => allocator.canAllocate(instance, request));
  const answer = timed(
    ({ granted }) => `${stage}: allocate, ${granted ? 'granted' : 'refused'}`,
    () => allocator.allocate(instance, request),
  );
  if (answer.granted) {
    const gpus = answer.allocation.holdings.reduce((sum, { shareMilli }) => sum + shareMilli / 1000, 0);
    live.push({ id: answer.allocation.id, gpus });
    held += gpus;
  } else denied++;
  if (held >= 0.9 * total && live.length > 0) {
    const at = Math.floor(random() * live.length);
    const [gone] = live.splice(at, 1);
    timed('release', () => allocator.release(gone.id));
    held -= gone.gpus;
  }
  // the inventory of three nodes comes between two requests
  for (let n = 0; n < 3; n++, told++) {
    const node = nodes[told % nodes.length];
    const changed = random() < 0.1;
    const processes = changed ? [{ pid: 4711, name: none, memoryMb: none, partition: none }] : [];
    const used = Math.floor(random() * 1000);
    timed(changed ? 'node told, a foreign process on it' : 'node told, other memory in use', () =>
      allocator.setNode(node.id, gpusOf(node, { processes, used })),
    );
  }
}
for (let i = 0; i < 200; i++) {
  const node = nodes[Math.floor(random() * nodes.length)];
  const request = requestOf(demands[Math.floor(random() * demands.length)]);
  allocator.removeNode(node.id);
  allocator.setNode(node.id, gpusOf(node));
  timed('canAllocate, a node has gone or come before', () => allocator.canAllocate(`x${i}`, request));
}

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
const lines = [
  '# Giving GPUs of a large cluster',
  '',
  `Node ${process.version}, ${cpus().length} × ${cpus()[0].model}, load ${loadavg()[0].toFixed(1)} at the end. \`node bench/gpu-allocator.mjs --operations ${operations}\`.`,
  '',
  `${nodes.length} nodes with ${total} GPUs of the openb trace; requests as its gpuspec33 has them (whole GPUs, up to 8, shares, models; every third share asks for a number of MiB instead). GPUs are`,
  `given until 90 % are held, then one goes for each that comes; ${denied} of ${operations} requests were refused, each with the reason of every GPU. Between two requests the inventory of three nodes comes anew.`,
  '',
  'CPU is what this process computed in that time, its garbage collector and compiler included: on a busy machine the clock also tells of what others did.',
  '',
  '| milliseconds of | times | p50 | p99 | longest | CPU p50 | CPU p99 |',
  '| --- | --- | --- | --- | --- | --- | --- |',
  ...[...times].map(([name, { took, cpu }]) => {
    const [sorted, computing] = [took, cpu].map((list) => list.sort((a, b) => a - b));
    const [half, most] = [0.5, 0.99].map((q) => quantile(sorted, q));
    const figures = [half, most, sorted.at(-1), quantile(computing, 0.5), quantile(computing, 0.99)];
    return `| ${name} | ${sorted.length} | ${figures.map((value) => value.toFixed(3)).join(' | ')} |`;
  }),
];
writeFileSync('bench/results/gpu-allocator.md', `${lines.join('\n')}\n`);
console.log(lines.join('\n'));
