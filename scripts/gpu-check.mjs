// What does Iguana see of this machine's GPUs? Discovery, then monitoring for a few seconds; prints JSON. Usage: npm run build && node scripts/gpu-check.mjs [--seconds 5]
import { wallClock } from '../dist/src/clock.js';
import { GpuDiscovery } from '../dist/src/gpu/discovery.js';
import { gpuSamples } from '../dist/src/gpu/inventory.js';
import { GpuMonitor } from '../dist/src/gpu/monitor.js';
import { ToolRunner } from '../dist/src/gpu/tools/run-tool.js';

const at = process.argv.indexOf('--seconds');
const seconds = at < 0 ? 5 : Number(process.argv[at + 1]);
const monitor = new GpuMonitor(new GpuDiscovery(new ToolRunner().run, wallClock), wallClock, { everyMs: 1000 });
const changes = [];
let looks = 0;
monitor.onLook((inventory, changed) => {
  looks++;
  changes.push(...changed.map(({ kind, what }) => ({ at: inventory.takenAt, kind, what })));
});
const started = performance.now();
const first = await monitor.start();
const discoveryMs = performance.now() - started;
const cpuBefore = process.cpuUsage();
const monitoringFrom = performance.now();
await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
await monitor.stop();
const { user, system } = process.cpuUsage(cpuBefore);
const ownCpuPercent = (100 * (user + system)) / 1000 / (performance.now() - monitoringFrom);
const inventory = monitor.inventory;
console.log(
  JSON.stringify(
    { discoveryMs, looks, ownCpuPercent, summary: first.summary, changes, inventory, samples: gpuSamples(inventory) },
    null,
    2,
  ),
);
process.exitCode = inventory.gpus.length > 0 ? 0 : 1;
