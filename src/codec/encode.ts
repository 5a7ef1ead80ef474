import type { ActionRecord, AnomalyRecord, DecisionRecord, ForecastRecord, Labels } from '../records.js';
import { encodeAvro } from './avro.js';

/** How records are written to topics: `json` reads well in any tool, `avro` (single-object) is a third of the size. */
export type OutputFormat = 'json' | 'avro';

export interface SampleRecord {
  readonly name: string;
  readonly labels: Labels;
  readonly timestamp: number;
  readonly value: number;
}

export function encodeForecast(record: ForecastRecord, format: OutputFormat = 'json'): Buffer {
  return format === 'avro' ? encodeAvro('forecasts', record) : encodeJson(record);
}

export function encodeAnomaly(record: AnomalyRecord, format: OutputFormat = 'json'): Buffer {
  return format === 'avro' ? encodeAvro('anomalies', record) : encodeJson(record);
}

export function encodeDecision(record: DecisionRecord, format: OutputFormat = 'json'): Buffer {
  return format === 'avro' ? encodeAvro('decisions', record) : encodeJson(record);
}

export function encodeAction(record: ActionRecord, format: OutputFormat = 'json'): Buffer {
  return format === 'avro' ? encodeAvro('actions', record) : encodeJson(record);
}

/** One message with all samples as a JSON array, keys in the order that readers take fastest. */
export function encodeSamplesJson(samples: readonly SampleRecord[]): Buffer {
  return encodeJson(samples.map(({ name, labels, timestamp, value }) => ({ name, labels, timestamp, value })));
}

/** One message with all samples in columns, Avro single-object: the form that costs least on both sides. */
export function encodeSamplesColumnar(samples: readonly SampleRecord[]): Buffer {
  const numbers = new Map<string, number>();
  const series: { name: string; labels: Labels }[] = [];
  const seriesNumbers = samples.map(({ name, labels }) => {
    const key = JSON.stringify([name, labels]);
    let number = numbers.get(key);
    if (number === undefined) {
      number = series.length;
      numbers.set(key, number);
      series.push({ name, labels });
    }
    return number;
  });
  return encodeAvro('metrics-batch', {
    series,
    seriesNumbers,
    timestamps: samples.map((s) => s.timestamp),
    values: samples.map((s) => s.value),
  });
}

export function encodeJson(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
