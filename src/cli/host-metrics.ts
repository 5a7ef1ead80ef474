import os from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import si from 'systeminformation';
import type { Labels } from '../records.js';

/** One measured value before it is a sample of a series. */
export interface HostSample {
  name: string;
  labels: Labels;
  /** ms since 1970. */
  timestamp: number;
  value: number;
}

/** Longest a slow sensor may keep the others waiting, ms; what is not there by then is left out of this round. */
const SENSOR_TIMEOUT_MS = 800;

/**
 * This machine's metrics at one moment: CPU (total and per core, %), load, memory and swap (bytes and %), disk and network rates (bytes/s),
 * file systems (%), temperatures where there are any (°C), and this process itself. Unknown values are left out, never zero.
 * Rates need a previous call and are missing from the first. Cost: about 10 ms of CPU a call.
 */
export async function collectHostSamples(): Promise<HostSample[]> {
  const timestamp = Date.now();
  const host = os.hostname();
  const samples: HostSample[] = [];
  const add = (name: string, value: number | null | undefined, labels: Labels = {}): void => {
    if (typeof value === 'number' && Number.isFinite(value))
      samples.push({ name, labels: { host, ...labels }, timestamp, value });
  };

  const [load, memory, disk, network, temperature, files] = await Promise.all([
    inTime(si.currentLoad()),
    inTime(si.mem()),
    inTime(si.disksIO()),
    inTime(si.networkStats('*')),
    inTime(si.cpuTemperature()),
    inTime(fileSystems()),
  ]);

  add('cpu_usage', load?.currentLoad);
  load?.cpus.forEach((cpu, core) => {
    add('cpu_core_usage', cpu.load, { core: String(core) });
  });
  const [load1, load5, load15] = os.loadavg();
  add('load_average', load1, { window: '1m' });
  add('load_average', load5, { window: '5m' });
  add('load_average', load15, { window: '15m' });
  if (memory) {
    add('memory_used_bytes', memory.active);
    add('memory_usage', (100 * memory.active) / memory.total);
    if (memory.swaptotal > 0) add('swap_usage', (100 * memory.swapused) / memory.swaptotal);
  }
  if (disk && disk.ms > 0) {
    add('disk_read_operations_per_second', disk.rIO_sec);
    add('disk_write_operations_per_second', disk.wIO_sec);
  }
  for (const one of network ?? []) {
    if (one.operstate === 'down' || one.ms <= 0) continue;
    add('network_receive_bytes_per_second', one.rx_sec, { interface: one.iface });
    add('network_transmit_bytes_per_second', one.tx_sec, { interface: one.iface });
  }
  for (const one of files ?? []) add('filesystem_usage', one.use, { mount: one.mount });
  if (temperature && temperature.main !== null && temperature.main > 0)
    add('temperature_celsius', temperature.main, { sensor: 'cpu' });

  const own = process.memoryUsage();
  add('process_resident_memory_bytes', own.rss, { process: 'iguana' });
  add('process_heap_bytes', own.heapUsed, { process: 'iguana' });
  add('process_cpu_usage', ownCpu(), { process: 'iguana' });
  return samples;
}

let filesCache: { at: number; value: si.Systeminformation.FsSizeData[] } | undefined;

/** File systems fill slowly and cost a child process to read: once in 30 s is enough. */
async function fileSystems(): Promise<si.Systeminformation.FsSizeData[]> {
  if (!filesCache || Date.now() - filesCache.at > 30_000) filesCache = { at: Date.now(), value: await si.fsSize() };
  return filesCache.value;
}

let lastCpu: { usage: NodeJS.CpuUsage; at: number } | undefined;

function ownCpu(): number | undefined {
  const at = performance.now();
  const usage = process.cpuUsage();
  const before = lastCpu;
  lastCpu = { usage, at };
  if (!before) return undefined;
  const microseconds = usage.user - before.usage.user + usage.system - before.usage.system;
  return (100 * microseconds) / 1000 / Math.max(1, at - before.at);
}

async function inTime<T>(reading: Promise<T>): Promise<T | undefined> {
  const late = new AbortController();
  try {
    return await Promise.race([
      reading.catch(() => undefined),
      delay(SENSOR_TIMEOUT_MS, undefined, { signal: late.signal }),
    ]);
  } finally {
    late.abort();
  }
}
