// What does watching 16 GPUs and 200 processes cost this process beyond the tools themselves? Usage: node bench/gpu-monitor.mjs [--seconds 30]; writes bench/results/gpu-monitor.md.
// The tool is a shell script that prints prepared answers. Own CPU is that of this process (starting the tool included), the tools' is not in it.
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { wallClock } from '../dist/src/clock.js';
import { GpuDiscovery } from '../dist/src/gpu/discovery.js';
import { gpuSamples } from '../dist/src/gpu/inventory.js';
import { GpuMonitor } from '../dist/src/gpu/monitor.js';
import { ToolRunner } from '../dist/src/gpu/tools/run-tool.js';

const at = process.argv.indexOf('--seconds');
const seconds = at < 0 ? 30 : Number(process.argv[at + 1]);
const GPUS = 16;
const PROCESSES = 200;

const columns = {
  uuid: (i) => `GPU-00000000-0000-4000-8000-0000000000${String(i + 10)}`,
  name: () => 'NVIDIA H100 80GB HBM3',
  index: String,
  'pci.bus_id': (i) => `00000000:${(i + 16).toString(16)}:00.0`,
  serial: (i) => `13200${i}`,
  driver_version: () => '570.10',
  compute_cap: () => '9.0',
  'memory.total [MiB]': () => '81559 MiB',
  'memory.reserved [MiB]': () => '559 MiB',
  'memory.used [MiB]': () => '41000 MiB',
  'memory.free [MiB]': () => '40000 MiB',
  'utilization.gpu [%]': (i) => `${i} %`,
  'utilization.memory [%]': () => '12 %',
  'temperature.gpu': () => '61',
  'temperature.memory': () => '70',
  'power.draw [W]': () => '512.25 W',
  'enforced.power.limit [W]': () => '700.00 W',
  'clocks.current.sm [MHz]': () => '1980 MHz',
  'clocks.current.memory [MHz]': () => '2619 MHz',
  'fan.speed [%]': () => '[N/A]',
  compute_mode: () => 'Default',
  'mig.mode.current': () => 'Disabled',
  'ecc.errors.uncorrected.volatile.total': () => '0',
  'ecc.errors.uncorrected.aggregate.total': () => '0',
  'remapped_rows.pending': () => 'No',
  'remapped_rows.failure': () => 'No',
  'retired_pages.pending': () => '[N/A]',
  'clocks_event_reasons.active': () => '0x0000000000000004',
  gpu_recovery_action: () => 'None',
};
const directory = mkdtempSync(join(tmpdir(), 'iguana-gpu-'));
const names = Object.keys(columns);
const rows = Array.from({ length: GPUS }, (_, i) => names.map((name) => columns[name](i)).join(', '));
writeFileSync(join(directory, 'rows'), `${names.join(', ')}\n${rows.join('\n')}\n`);
writeFileSync(join(directory, 'help'), names.map((name) => `"${name.replace(/ \[.*/, '')}"\nText.\n`).join('\n'));
writeFileSync(
  join(directory, 'apps'),
  `gpu_uuid, pid, used_gpu_memory [MiB], process_name\n${Array.from({ length: PROCESSES }, (_, i) => `${columns.uuid(i % GPUS)}, ${1000 + i}, 512 MiB, /usr/bin/python3 train.py --rank=${i}`).join('\n')}\n`,
);
const script = `#!/bin/sh
case "$1" in
  --help-query-gpu) exec cat ${directory}/help;;
  --query-gpu=*) exec cat ${directory}/rows;;
  --query-compute-apps=*) exec cat ${directory}/apps;;
esac
exit 2
`;
writeFileSync(join(directory, 'nvidia-smi'), script);
chmodSync(join(directory, 'nvidia-smi'), 0o755);
process.env.PATH = `${directory}:${process.env.PATH}`;

const cpuMs = (since) => {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1000;
};
const runner = new ToolRunner();

// own work of a discovery: a new one each time, as a command that runs once does; the first also loads and compiles code
const discoveries = [];
for (let i = 0; i < 6; i++) {
  const before = process.cpuUsage();
  await new GpuDiscovery(runner.run, wallClock, { kernelLog: false }).look();
  discoveries.push(cpuMs(before));
}

// own work of a look without starting processes: the answers come from memory
const answers = new Map();
const recorded = async (command, args) => {
  const key = JSON.stringify([command, args]);
  const known = answers.get(key) ?? (await runner.run(command, args));
  answers.set(key, known);
  return known;
};
const parsing = new GpuDiscovery(recorded, wallClock, { kernelLog: false });
await parsing.look();
for (let i = 0; i < 50; i++) gpuSamples(await parsing.look(false));
const looks = 200;
const before = process.cpuUsage();
for (let i = 0; i < looks; i++) gpuSamples(await parsing.look(false));
const perGpu = cpuMs(before) / looks / GPUS;

/** How long the event loop was held up within five seconds, ms: p99 and longest. */
const heldUp = async () => {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  await new Promise((resolve) => setTimeout(resolve, 5000));
  delay.disable();
  return [delay.percentile(99) / 1e6, delay.max / 1e6];
};
const monitor = new GpuMonitor(new GpuDiscovery(runner.run, wallClock, { kernelLog: false }), wallClock, {
  everyMs: 1000,
});
let seen = 0;
let samples = 0;
monitor.onLook((inventory) => {
  seen++;
  samples = gpuSamples(inventory).length;
});
await monitor.start();
// what a process that only waits costs, in the same run
const idleBefore = process.cpuUsage();
await monitor.stop();
await new Promise((resolve) => setTimeout(resolve, 3000));
const idlePercent = cpuMs(idleBefore) / 30;
await monitor.start();
seen = 0;
const watchBefore = process.cpuUsage();
const watchFrom = performance.now();
await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const percent = (100 * cpuMs(watchBefore)) / (performance.now() - watchFrom);
const watched = seen;
// apart, for looking at the event loop every millisecond costs more than what is measured
const watching = await heldUp();
const inventory = monitor.inventory;
await monitor.stop();
// a busy machine holds up a process that does nothing, too
const waiting = await heldUp();
rmSync(directory, { recursive: true });

const processes = inventory.gpus.reduce((sum, { processes: own }) => sum + (own?.length ?? 0), 0);
if (inventory.gpus.length !== GPUS || processes !== PROCESSES) {
  console.error(`${inventory.gpus.length} GPUs and ${processes} processes were seen: ${inventory.problems.join('; ')}`);
  process.exit(1);
}
const ms = (value) => `${value.toFixed(value < 1 ? 3 : 1)} ms`;
const report = `# Watching GPUs

\`node bench/gpu-monitor.mjs --seconds ${seconds}\` · ${cpus()[0]?.model ?? 'CPU'} × ${cpus().length}, load ${loadavg()[0].toFixed(1)} · Node ${process.version} · ${GPUS} GPUs, ${PROCESSES} processes, a look a second, ${watched} looks, ${samples} samples a look.

| what | measured | bound |
| --- | --- | --- |
| own CPU while watching, of a core (starting the tool included; a second of waiting costs ${idlePercent.toFixed(2)} %) | ${percent.toFixed(2)} % | 1 % |
| own work a GPU and look (reading answers, health, samples) | ${ms(perGpu)} | 10 ms |
| own work of a discovery, the first of a process | ${ms(discoveries[0])} | 100 ms |
| own work of a discovery, later (median of ${discoveries.length - 1}) | ${ms(discoveries.slice(1).sort((a, b) => a - b)[Math.floor((discoveries.length - 1) / 2)])} | 100 ms |
| event loop held up, p99 / longest (while nothing is done: ${waiting.map(ms).join(' / ')}) | ${watching.map(ms).join(' / ')} | 10 ms |
`;
writeFileSync('bench/results/gpu-monitor.md', report);
console.log(report);
