// What does Iguana see of this machine's GPUs? Looks, then watches for a few seconds; with a command, gives it one GPU by the allocator, starts it with the environment of the grant and watches until
// it has ended. Prints JSON; exits 1 without a GPU. Usage: npm run build && node scripts/gpu-check.mjs [--seconds 5] [COMMAND [ARG…]]
import { spawn } from 'node:child_process';
import { performance } from 'node:perf_hooks';
import { wallClock } from '../dist/src/clock.js';
import { GpuAllocator } from '../dist/src/gpu/allocator.js';
import { GpuDiscovery } from '../dist/src/gpu/discovery.js';
import { gpuSamples } from '../dist/src/gpu/inventory.js';
import { GpuMonitor } from '../dist/src/gpu/monitor.js';
import { ToolRunner } from '../dist/src/gpu/tools/run-tool.js';

const args = process.argv.slice(2);
const seconds = args[0] === '--seconds' ? Number(args.splice(0, 2)[1]) : 5;
const [command, ...more] = args;
const MOST_MS = 60_000;

const monitor = new GpuMonitor(new GpuDiscovery(new ToolRunner().run, wallClock), wallClock, { everyMs: 1_000 });
const began = performance.now();
const first = await monitor.start();
const discoveryMs = performance.now() - began;
const plain = ({ value, absent }) => value ?? absent;
const looks = [];
monitor.onLook(({ gpus, takenAt }, changes) => {
  for (const { id, utilization, memoryUsedMb, temperature, power, coreClock, processes, health } of gpus)
    looks.push({
      afterMs: takenAt - first.takenAt,
      gpu: id,
      utilization: plain(utilization),
      memoryUsedMb: plain(memoryUsedMb),
      temperature: plain(temperature),
      power: plain(power),
      coreClock: plain(coreClock),
      processes: processes?.map(({ pid, name, memoryMb }) => ({ pid, name: plain(name), memoryMb: plain(memoryMb) })),
      health: health.state,
      changes: changes.map(({ what }) => what),
    });
});

const cpuBefore = process.cpuUsage();
const watched = performance.now();
const told = { discoveryMs };
if (command && first.gpus.length > 0) {
  const allocator = new GpuAllocator({ clock: wallClock });
  allocator.setNode('here', first.gpus);
  told.grant = allocator.allocate('gpu-check', { gpuCount: 1 });
  told.another = allocator.allocate('another', { gpuCount: first.gpus.length });
  const child = spawn(command, more, {
    env: { ...process.env, ...told.grant.environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (piece) => {
    output += piece;
  });
  const ending = setTimeout(() => child.kill('SIGKILL'), MOST_MS);
  const code = await new Promise((resolve) => child.once('close', (exit, signal) => resolve(exit ?? signal)));
  clearTimeout(ending);
  allocator.release(told.grant.allocation.id);
  told.program = { pid: child.pid, code, output, heldAfterwards: allocator.ledger.size };
}
await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
const cpu = process.cpuUsage(cpuBefore);
const ownCpuPercent = (cpu.user + cpu.system) / 10 / (performance.now() - watched);
const last = monitor.inventory;
await monitor.stop();
console.log(JSON.stringify({ ...told, ownCpuPercent, looks, inventory: last, samples: gpuSamples(last) }, null, 2));
process.exitCode = last.gpus.length > 0 ? 0 : 1;
