import type { AnomalyRecord, DecisionRecord, ForecastRecord } from '../records.js';
import { paint } from './terminal.js';

/** One line a thing worth reading: time, kind, what it is about, what happened, why. */
export function anomalyLine(record: AnomalyRecord): string | undefined {
  if (record.state === 'update') return undefined;
  const style = record.state === 'resolved' ? 'green' : record.severity === 'critical' ? 'red' : 'yellow';
  const what =
    record.state === 'resolved'
      ? `resolved after ${duration((record.resolvedAt ?? record.updatedAt) - record.openedAt)}`
      : `${record.severity} ${record.type}: ${number(record.value)}, expected ${number(record.expected)} (${number(record.lower)} to ${number(record.upper)})`;
  const why =
    record.state === 'resolved'
      ? record.reason
      : `${record.reason}${record.recommendation ? `; ${record.recommendation}` : ''}`;
  return line(record.updatedAt, paint(style, 'anomaly '), title(record), what, why);
}

export function decisionLine(record: DecisionRecord): string {
  const change =
    record.desired === record.current ? `stays at ${record.current}` : `${record.current} -> ${record.desired}`;
  return line(
    record.timestamp,
    paint('cyan', 'scale   '),
    record.entity,
    `${change}${record.dryRun ? ' (dry run)' : ''}`,
    record.reason,
  );
}

/** The furthest point of a forecast, for the first forecast of a series and now and then afterwards. */
export function forecastLine(record: ForecastRecord): string | undefined {
  const point = record.points.at(-1);
  if (!point) return undefined;
  const interval = point.intervals.at(-1);
  const band = interval ? ` (${interval.level} %: ${number(interval.lower)} to ${number(interval.upper)})` : '';
  const why = point.confidence > 0 ? `confidence ${point.confidence.toFixed(2)}` : 'no better than last season yet';
  return line(
    record.madeAt,
    paint('green', 'forecast'),
    title(record),
    `${number(point.value)}${band} in ${duration(point.horizonMs)}`,
    why,
  );
}

export function noteLine(atMs: number, what: string, why: string): string {
  return line(atMs, paint('dim', 'note    '), 'iguana', what, why);
}

/** A number with three significant digits, thousands shortened: 1.23k, 45.6M. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return '?';
  const size = Math.abs(value);
  for (const [limit, unit] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e4, 'k'],
  ] as const) {
    if (size >= limit) return `${Number((value / (unit === 'k' ? 1e3 : limit)).toPrecision(3))}${unit}`;
  }
  return String(size >= 1000 ? Math.round(value) : Number(value.toPrecision(3)));
}

export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  return `${Number((minutes / 60).toPrecision(3))} h`;
}

function title(record: { name: string; entity: string; labels: Readonly<Record<string, string>> }): string {
  const shown = Object.entries(record.labels).filter(
    ([key, value]) => value !== record.entity && key !== 'generated' && key !== 'host',
  );
  const rest = shown.length ? `{${shown.map(([key, value]) => `${key}=${value}`).join(',')}}` : '';
  return `${record.entity} ${record.name}${rest}${record.labels.generated ? ' (generated)' : ''}`;
}

function line(atMs: number, kind: string, about: string, what: string, why: string): string {
  const at = new Date(atMs).toISOString().slice(0, 19).replace('T', ' ');
  return `${paint('dim', at)} ${kind} ${about}: ${what}${why ? paint('dim', ` — ${why}`) : ''}`;
}
