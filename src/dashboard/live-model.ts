import type { PipelineStatus } from '../kafka/pipeline-status.js';
import { dashboardLimits } from '../limits.js';
import {
  type AnomalyRecord,
  type DecisionRecord,
  type ForecastRecord,
  type Labels,
  makeSeries,
  type Series,
} from '../records.js';
import type { ShownFunction } from './function-rows.js';
import type { ShownGpus } from './gpu-rows.js';
import { SeriesHistory } from './series-history.js';

/** What the page shows of a pipeline. */
export type ShownPipeline = Pick<PipelineStatus, 'name' | 'rate' | 'lag' | 'verdict'>;

/** What the banner says, for the head of the page. */
export interface PageInfo {
  readonly version?: string;
  readonly broker?: string;
  readonly backend?: string;
  readonly dataDir?: string;
}

/** A line of the list of series. */
export interface SeriesSummary {
  readonly id: string;
  readonly name: string;
  readonly labels: Labels;
  readonly entity: string;
  readonly generated: boolean;
  readonly timestamp: number | null;
  readonly value: number | null;
  readonly spark: readonly number[];
  readonly openAnomalies: number;
}

/** Everything the chart of one series shows. `forecasts` are oldest first, the last one is current. */
export interface SeriesView extends SeriesSummary {
  readonly samples: readonly (readonly [number, number])[];
  readonly forecasts: readonly ForecastRecord[];
  readonly anomalies: readonly AnomalyRecord[];
}

/** The instances a policy last asked for; read by autoscalers such as KEDA's metrics-api scaler. */
export interface DesiredInstances {
  readonly policy: string;
  readonly entity: string;
  readonly current: number;
  readonly desired: number;
  readonly timestamp: number;
  readonly reason: string;
  readonly dryRun: boolean;
}

/** What one tick sends to one page: only what came after `version`. */
export interface Change {
  readonly version: number;
  /** Series that are new since then. */
  readonly series: readonly SeriesSummary[];
  /** `[id, timestamp, value, openAnomalies]` of known series that changed: a thirtieth of a summary. */
  readonly values: readonly (readonly [string, number | null, number | null, number])[];
  readonly chart: Pick<SeriesView, 'id' | 'samples' | 'forecasts' | 'anomalies'> | null;
  readonly anomalies: readonly AnomalyRecord[];
  readonly decisions: readonly DecisionRecord[];
  readonly pipelines: readonly ShownPipeline[];
  /** Null where this process has no functions. */
  readonly functions: readonly ShownFunction[] | null;
  /** All of it when something changed; never where this process knows of no GPUs. */
  readonly gpus?: ShownGpus;
  readonly info: PageInfo;
  readonly notShown: number;
}

interface Shown {
  readonly series: Series;
  readonly history: SeriesHistory;
  forecasts: ForecastRecord[];
  readonly since: number;
  version: number;
  forecastVersion: number;
}

const SPARK_POINTS = 40;

/**
 * What the live page shows, held in memory and bounded by `dashboardLimits`. It knows no Kafka: the start command feeds it.
 * Every change takes the next version number, so that a page asks for "what came after version v" and a slow page loses nothing but time.
 * Cost: `sample` is O(1) (two map look-ups are the caller's only price); `changesAfter` is O(series shown).
 */
export class LiveModel {
  private readonly shown = new Map<string, Shown>();
  private readonly episodes = new Map<string, { record: AnomalyRecord; version: number }>();
  private readonly made: { record: DecisionRecord; version: number }[] = [];
  private readonly desired = new Map<string, DesiredInstances>();
  private readonly statuses = new Map<string, ShownPipeline>();
  private rows: readonly ShownFunction[] | null = null;
  private shownGpus: { readonly value: ShownGpus; readonly text: string; readonly version: number } | undefined;
  private pageInfo: PageInfo = {};
  private now = 0;
  private readonly refused = new Set<string>();

  /** How much came in since the start, for the metrics. */
  readonly counts = { samples: 0, lateSamples: 0, forecasts: 0, anomalies: 0, decisions: 0 };

  get version(): number {
    return this.now;
  }

  /** Series left out because `maxSeries` are shown already (counted up to a hundred times that). */
  get notShown(): number {
    return this.refused.size;
  }

  sample(series: Series, timestamp: number, value: number): void {
    this.counts.samples++;
    const shown = this.show(series);
    if (!shown) return;
    if (shown.history.push(timestamp, value)) shown.version = ++this.now;
    else this.counts.lateSamples++;
  }

  /** Takes a forecast; of the older ones, those are kept that start far enough apart to be told from each other. */
  forecast(record: ForecastRecord): void {
    this.counts.forecasts++;
    const canonical = record.series;
    const shown = this.find(canonical) ?? this.show(seriesOf(record));
    if (!shown) return;
    const kept = shown.forecasts;
    const current = kept.at(-1);
    if (current && record.madeAt < current.madeAt) return;
    const before = kept.at(-2);
    const apart = (record.points.at(-1)?.horizonMs ?? 0) / 4;
    const replaces =
      current && (current.madeAt === record.madeAt || (before && current.madeAt - before.madeAt < apart));
    if (replaces) kept.pop();
    kept.push(record);
    if (kept.length > dashboardLimits.maxForecasts) kept.shift();
    shown.version = shown.forecastVersion = ++this.now;
  }

  /** Takes an episode's newest record; one that ends keeps the reason it was opened for. */
  anomaly(record: AnomalyRecord): void {
    this.counts.anomalies++;
    const opened = this.episodes.get(record.id)?.record;
    const reason = record.state === 'resolved' && opened ? reasonOfEnd(opened, record) : record.reason;
    this.episodes.delete(record.id);
    this.episodes.set(record.id, { record: { ...record, reason }, version: ++this.now });
    if (this.episodes.size > dashboardLimits.maxAnomalies) this.forgetEpisode();
    const shown = this.find(record.series);
    if (shown) shown.version = this.now;
  }

  decision(record: DecisionRecord): void {
    this.counts.decisions++;
    const known = this.made.findIndex((d) => d.record.id === record.id);
    if (known >= 0) this.made.splice(known, 1);
    this.made.push({ record, version: ++this.now });
    if (this.made.length > dashboardLimits.maxDecisions) this.made.shift();
    const { policy, entity, current, desired, timestamp, reason, dryRun } = record;
    const key = `${policy}\n${entity}`;
    this.desired.delete(key);
    this.desired.set(key, { policy, entity, current, desired, timestamp, reason, dryRun });
    if (this.desired.size > dashboardLimits.maxDesired) this.desired.delete(this.desired.keys().next().value!);
  }

  pipeline(status: ShownPipeline): void {
    if (!this.statuses.has(status.name) && this.statuses.size >= dashboardLimits.maxPipelines) return;
    this.statuses.set(status.name, status);
    this.now++;
  }

  functions(rows: readonly ShownFunction[]): void {
    this.rows = rows;
    this.now++;
  }

  gpus(value: ShownGpus): void {
    const text = JSON.stringify(value);
    if (text !== this.shownGpus?.text) this.shownGpus = { value, text, version: ++this.now };
  }

  info(part: PageInfo): void {
    this.pageInfo = { ...this.pageInfo, ...part };
    this.now++;
  }

  /** The series whose chart opens first: requests of a generated service, else anything generated, else the first. */
  defaultSeries(): string | undefined {
    const all = [...this.shown.values()].map((s) => s.series);
    const generated = all.filter((s) => isGenerated(s.labels));
    return (generated.find((s) => /request/i.test(s.name)) ?? generated[0] ?? all[0])?.id;
  }

  seriesList(): SeriesSummary[] {
    const open = this.openBySeries();
    return [...this.shown.values()].map((s) => summaryOf(s, open));
  }

  /** By id or canonical name. */
  series(name: string): SeriesView | undefined {
    const shown = this.find(name);
    if (!shown) return undefined;
    return {
      ...summaryOf(shown, this.openBySeries()),
      samples: shown.history.since(),
      forecasts: shown.forecasts,
      anomalies: this.anomaliesOf(shown.series),
    };
  }

  /** Newest first. */
  anomalies(): AnomalyRecord[] {
    return [...this.episodes.values()].map((e) => e.record).reverse();
  }

  /** Newest first. */
  decisions(): DecisionRecord[] {
    return this.made.map((d) => d.record).reverse();
  }

  pipelines(): ShownPipeline[] {
    return [...this.statuses.values()];
  }

  desiredInstances(policy?: string): DesiredInstances[] {
    return [...this.desired.values()].filter((d) => policy === undefined || d.policy === policy);
  }

  pageInformation(): PageInfo {
    return this.pageInfo;
  }

  /** What came after `version`; for the charted series, samples later than `sampleTime`. */
  changesAfter(version: number, charted?: string, sampleTime?: number): Change {
    const open = this.openBySeries();
    const changed = [...this.shown.values()].filter((s) => s.version > version);
    const fresh = changed.filter((s) => s.since > version);
    const known = changed.filter((s) => s.since <= version);
    const shown = charted === undefined ? undefined : this.find(charted);
    return {
      version: this.now,
      series: fresh.map((s) => summaryOf(s, open)),
      values: known.map(({ series, history: { last } }) => [
        series.id,
        last?.timestamp ?? null,
        last?.value ?? null,
        open.get(series.id) ?? 0,
      ]),
      chart:
        (shown && {
          id: shown.series.id,
          samples: shown.history.since(sampleTime),
          forecasts: shown.forecastVersion > version ? shown.forecasts : [],
          anomalies: this.anomaliesOf(shown.series),
        }) ||
        null,
      anomalies: [...this.episodes.values()].filter((e) => e.version > version).map((e) => e.record),
      decisions: this.made.filter((d) => d.version > version).map((d) => d.record),
      pipelines: this.pipelines(),
      functions: this.rows,
      ...(this.shownGpus && this.shownGpus.version > version && { gpus: this.shownGpus.value }),
      info: this.pageInfo,
      notShown: this.notShown,
    };
  }

  private show(series: Series): Shown | undefined {
    const known = this.shown.get(series.id);
    if (known) return known;
    if (this.shown.size >= dashboardLimits.maxSeries) {
      if (this.refused.size < dashboardLimits.maxSeries * 100) this.refused.add(series.id);
      return undefined;
    }
    const since = ++this.now;
    const shown: Shown = {
      series,
      history: new SeriesHistory(dashboardLimits.maxHistory),
      forecasts: [],
      since,
      version: since,
      forecastVersion: 0,
    };
    this.shown.set(series.id, shown);
    this.idByCanonical.set(series.canonical, series.id);
    return shown;
  }

  private readonly idByCanonical = new Map<string, string>();

  private find(name: string): Shown | undefined {
    return this.shown.get(name) ?? this.shown.get(this.idByCanonical.get(name) ?? '');
  }

  private anomaliesOf(series: Series): AnomalyRecord[] {
    return this.anomalies().filter((a) => a.series === series.id || a.series === series.canonical);
  }

  private openBySeries(): Map<string, number> {
    const open = new Map<string, number>();
    for (const { record } of this.episodes.values()) {
      const id = this.find(record.series)?.series.id;
      if (record.state !== 'resolved' && id) open.set(id, (open.get(id) ?? 0) + 1);
    }
    return open;
  }

  private forgetEpisode(): void {
    for (const [id, { record }] of this.episodes) {
      if (record.state === 'resolved') {
        this.episodes.delete(id);
        return;
      }
    }
    this.episodes.delete(this.episodes.keys().next().value!);
  }
}

function reasonOfEnd(before: AnomalyRecord, end: AnomalyRecord): string {
  return before.state === 'resolved' ? before.reason : `${before.reason}; ${end.reason}`;
}

function isGenerated(labels: Labels): boolean {
  return Boolean(labels.generated) && labels.generated !== 'false';
}

function summaryOf({ series, history }: Shown, open: ReadonlyMap<string, number>): SeriesSummary {
  const last = history.last;
  return {
    id: series.id,
    name: series.name,
    labels: series.labels,
    entity: series.entity,
    generated: isGenerated(series.labels),
    timestamp: last?.timestamp ?? null,
    value: last?.value ?? null,
    spark: history.tail(SPARK_POINTS),
    openAnomalies: open.get(series.id) ?? 0,
  };
}

function seriesOf(record: ForecastRecord): Series {
  return makeSeries(record.name, record.labels, record.entity);
}
