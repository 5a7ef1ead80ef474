import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { GpuService } from '../gpu/gpu-service.js';
import type { Connections } from './connections.js';
import type { FunctionApi } from './function-api.js';
import { functionPrometheus } from './function-prometheus.js';
import { gpuPrometheus } from './gpu-prometheus.js';
import type { LiveEvents } from './live-events.js';
import type { LiveModel } from './live-model.js';

/** The Prometheus metrics of one process, read off the live model when scraped: nothing is counted twice and idle costs nothing. */
export function dashboardMetrics(
  model: LiveModel,
  events: LiveEvents,
  connections: Connections,
  functions?: FunctionApi,
  gpus?: GpuService,
): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const gauge = (
    name: string,
    help: string,
    labelNames: string[],
    collect: (set: (labels: Record<string, string>, value: number) => void) => void,
  ) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        this.reset();
        collect((labels, value) => this.set(labels, value));
      },
    });
  gauge('iguana_series', 'Series the live page knows.', [], (set) => set({}, model.seriesList().length));
  gauge('iguana_series_not_shown', 'Series left out of the live page by its bound.', [], (set) =>
    set({}, model.notShown),
  );
  gauge('iguana_records', 'Records seen by the live page since the start, by kind.', ['kind'], (set) => {
    for (const [kind, count] of Object.entries(model.counts)) set({ kind }, count);
  });
  gauge('iguana_pipeline_rate', 'Records a second read by a pipeline.', ['pipeline'], (set) => {
    for (const p of model.pipelines()) set({ pipeline: p.name }, p.rate);
  });
  gauge('iguana_pipeline_lag', 'Records a pipeline has not read yet.', ['pipeline'], (set) => {
    for (const p of model.pipelines()) set({ pipeline: p.name }, p.lag);
  });
  gauge('iguana_pipeline_behind', '1 while the lag of a pipeline grows, else 0.', ['pipeline'], (set) => {
    for (const p of model.pipelines()) set({ pipeline: p.name }, p.verdict === 'behind' ? 1 : 0);
  });
  gauge('iguana_anomalies_open', 'Anomaly episodes open now, by severity.', ['severity'], (set) => {
    const open = { info: 0, warning: 0, critical: 0 };
    for (const a of model.anomalies()) if (a.state !== 'resolved') open[a.severity]++;
    for (const [severity, count] of Object.entries(open)) set({ severity }, count);
  });
  gauge('iguana_desired_instances', 'Instances a policy last asked for.', ['policy', 'entity'], (set) => {
    for (const d of model.desiredInstances()) set({ policy: d.policy, entity: d.entity }, d.desired);
  });
  gauge('iguana_page_clients', 'Live pages open.', [], (set) => set({}, events.size));
  gauge('iguana_page_ticks_left_out', 'Ticks left out because a page reads too slowly.', [], (set) =>
    set({}, events.counts.coalesced),
  );
  gauge('iguana_http_connections', 'Connections of the HTTP port that are open.', [], (set) =>
    set({}, connections.size),
  );
  gauge('iguana_http_connections_ended', 'Connections ended because too many were open, by how.', ['how'], (set) => {
    for (const [how, count] of Object.entries(connections.counts)) set({ how }, count);
  });
  if (functions) functionPrometheus(registry, functions);
  if (gpus) gpuPrometheus(registry, gpus);
  return registry;
}
