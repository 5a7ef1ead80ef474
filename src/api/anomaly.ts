import { matchesRule } from '../detectors/rule.js';
import { SeriesDetector } from '../detectors/series-detector.js';
import { IguanaError, messageOf } from '../errors.js';
import { type AnomalyRecord, hash64, makeSeries, type Series, type Severity } from '../records.js';

export interface DetectorOptions {
  readonly metric: string;
  /** Default the joint ones (z-score, MAD, moving average). `threshold` uses rules alone. */
  readonly method?: 'zscore' | 'z-score' | 'iqr' | 'mad' | 'isolation-forest' | 'moving-average' | 'threshold';
  /** In standard deviations of a normal distribution: 3 alerts as rarely as 3σ does. Default 4. */
  readonly sensitivity?: number;
  /** Service the metric belongs to, for `serviceName` of anomalies. Default the metric's name. */
  readonly service?: string;
}

export interface RuleOptions {
  readonly name: string;
  /** Metric name; `*` stands for any characters. */
  readonly pattern: string;
  /** A value above it is an anomaly. */
  readonly threshold: number;
  readonly severity: Severity;
}

/** An episode as a program sees it. */
export interface Anomaly {
  readonly id: string;
  readonly metricName: string;
  readonly serviceName: string;
  readonly detectedValue: number;
  readonly expectedValue: number;
  readonly confidence: number;
  readonly severity: Severity;
  readonly recommendation: string;
  readonly reason: string;
  readonly openedAt: number;
}

/** Handle of a detector; plain data. */
export interface DetectorHandle {
  readonly metric: string;
  readonly id: string;
}

interface Registered {
  readonly series: Series;
  readonly statistical: SeriesDetector | undefined;
  last: number;
}

/** Episodes kept open at most; the oldest is given up then. */
const MAX_ACTIVE = 10_000;

class AnomalyDetection {
  private readonly detectors = new Map<string, Registered>();
  private readonly rules: RuleOptions[] = [];
  private readonly active = new Map<string, Anomaly>();
  private readonly listeners = new Set<(anomaly: Anomaly) => void>();
  private readonly endListeners = new Set<(anomaly: Anomaly) => void>();
  private made = 0;
  private readonly counts = { samples: 0, detected: 0, resolved: 0, listenerErrors: 0 };

  createDetector(options: DetectorOptions): DetectorHandle {
    const { metric, method, sensitivity = 4, service } = options;
    const series = makeSeries(metric, service ? { service } : {});
    const name = method === 'zscore' ? 'z-score' : method;
    const statistical =
      name === 'threshold'
        ? undefined
        : new SeriesDetector(series, { openAt: scoreOfDeviations(sensitivity), ...(name ? { methods: [name] } : {}) });
    const id = `detector-${++this.made}`;
    this.detectors.set(id, { series, statistical, last: 0 });
    return { metric, id };
  }

  createRule(rule: RuleOptions): void {
    if (!Number.isFinite(rule.threshold))
      throw new IguanaError('IGU_USAGE', { what: `rule ${rule.name}: the threshold is not a finite number` });
    this.rules.push(rule);
  }

  /**
   * Judges a value, then learns it; true when an episode is open afterwards. `timestamp` in ms, default now. Errors:
   * `IGU_VALUE_NOT_FINITE`, `IGU_NOT_FOUND`.
   */
  detect(handle: DetectorHandle, value: number, timestamp = Date.now()): boolean {
    const detector = this.detectors.get(handle.id);
    if (!detector)
      throw new IguanaError('IGU_NOT_FOUND', {
        what: 'detector',
        name: handle.id,
        fix: 'create it with createDetector',
      });
    if (!Number.isFinite(value)) throw new IguanaError('IGU_VALUE_NOT_FINITE', { series: handle.metric, value });
    this.counts.samples++;
    const observed = detector.statistical?.observe(timestamp, value);
    if (observed?.event?.state === 'open') this.open(fromRecord(observed.event));
    else if (observed?.event?.state === 'resolved') this.resolve(observed.event.id);
    const broken = this.checkRules(handle, detector, value, timestamp, observed?.expected ?? detector.last);
    detector.last = value;
    return broken || observed?.active === true;
  }

  getActive(): Anomaly[] {
    return [...this.active.values()];
  }

  /** Calls back once an episode, when it opens. Returns what ends the subscription. */
  onDetect(listener: (anomaly: Anomaly) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Calls back once an episode, when it ends. Returns what ends the subscription. */
  onResolve(listener: (anomaly: Anomaly) => void): () => void {
    this.endListeners.add(listener);
    return () => this.endListeners.delete(listener);
  }

  /** Takes an episode off the active ones; false when it is not among them. */
  resolve(id: string): boolean {
    const ended = this.active.get(id);
    if (!ended) return false;
    this.active.delete(id);
    this.counts.resolved++;
    this.tell(this.endListeners, ended);
    return true;
  }

  stats(): { samples: number; detected: number; resolved: number; active: number; listenerErrors: number } {
    return { ...this.counts, active: this.active.size };
  }

  private checkRules(
    handle: DetectorHandle,
    { series }: Registered,
    value: number,
    timestamp: number,
    expected: number,
  ): boolean {
    let broken = false;
    for (const rule of this.rules) {
      if (!matchesRule(rule.pattern, series.name)) continue;
      const id = hash64(`${handle.id}/${rule.name}`);
      if (value <= rule.threshold) {
        this.resolve(id);
        continue;
      }
      broken = true;
      if (this.active.has(id)) continue;
      this.open({
        id,
        metricName: series.name,
        serviceName: series.entity,
        detectedValue: value,
        expectedValue: Math.min(expected, rule.threshold),
        confidence: 1,
        severity: rule.severity,
        recommendation: `bring ${series.name} below ${rule.threshold} again`,
        reason: `rule ${rule.name}: ${value} is above ${rule.threshold}`,
        openedAt: timestamp,
      });
    }
    return broken;
  }

  private open(anomaly: Anomaly): void {
    if (this.active.size >= MAX_ACTIVE) this.active.delete(this.active.keys().next().value!);
    this.active.set(anomaly.id, anomaly);
    this.counts.detected++;
    this.tell(this.listeners, anomaly);
  }

  private tell(listeners: Iterable<(anomaly: Anomaly) => void>, anomaly: Anomaly): void {
    for (const listener of listeners) {
      try {
        listener(anomaly);
      } catch (error) {
        // a listener that throws must not keep the others from being told
        this.counts.listenerErrors++;
        process.emitWarning(`anomaly listener: ${messageOf(error)}`);
      }
    }
  }
}

export const anomaly = new AnomalyDetection();

function fromRecord(record: AnomalyRecord): Anomaly {
  const { id, name, entity, value, expected, confidence, severity, recommendation, reason, openedAt } = record;
  return {
    id,
    metricName: name,
    serviceName: entity,
    detectedValue: value,
    expectedValue: expected,
    confidence,
    severity,
    recommendation,
    reason,
    openedAt,
  };
}

/** −log10 of the two-sided tail of a normal distribution beyond z, by the asymptotic series (relative error below 2 % for z ≥ 2). */
function scoreOfDeviations(z: number): number {
  const density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  const tail = (2 * density * z) / (z * z + 1 - 2 / (z * z + 2));
  return Math.max(1, -Math.log10(tail));
}
