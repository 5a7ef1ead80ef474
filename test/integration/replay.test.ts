import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readTrace } from '../../src/simulator/trace.js';
import { generatedSamples } from '../../src/simulator/web-service.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-replay-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function iguana(...args: string[]): { code: number | null; out: string; err: string } {
  const run = spawnSync(process.execPath, ['dist/src/cli/main.js', ...args], {
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

interface Report {
  samples: number;
  series: number;
  forecasts: {
    horizonSteps: number;
    forecasts: number;
    error: number;
    naiveError: number;
    coverage: Record<string, number>;
  }[];
  alerts: { opened: number };
  scaling: { metric: string; outcomes: { policy: string; outcome: { unserved: number; meanInstances: number } }[] };
}

describe('replay', () => {
  const trace = (): string => {
    const where = path.join(folder, 'day.ndjson');
    const begin = Date.UTC(2001, 0, 1);
    const lines: string[] = [];
    for (let minute = 0; minute < 3 * 1440; minute++) {
      const timestamp = begin + minute * 60_000;
      for (const sample of generatedSamples(7, timestamp)) lines.push(JSON.stringify({ ...sample, timestamp }));
    }
    writeFileSync(where, lines.join('\n'));
    return where;
  };

  it('runs the whole chain on a trace, the same each time, and judges forecasts, alerts and scaling', () => {
    const file = trace();
    const runs = [0, 1].map(() => iguana('replay', file, '--json'));
    for (const { code, err } of runs) {
      expect(err).toBe('');
      expect(code).toBe(0);
    }
    const [first, second] = runs.map(({ out }) => JSON.parse(out) as Report);
    expect({ ...second, seconds: 0 }).toEqual({ ...first, seconds: 0 });
    const { samples, series, forecasts, alerts, scaling } = first!;
    expect([samples, series]).toEqual([4 * 3 * 1440, 4]);
    expect(forecasts.map((f) => f.horizonSteps)).toEqual([1, 5, 15, 60]);
    for (const { forecasts: n, coverage } of forecasts) {
      expect(n).toBeGreaterThan(4 * 550);
      expect(coverage['80']).toBeGreaterThan(0.7);
    }
    expect(alerts.opened).toBeGreaterThan(0);
    expect(scaling.metric).toContain('requests_per_second');
    const [hpa, , own, perfect] = scaling.outcomes.map(({ outcome }) => outcome);
    expect(own!.unserved).toBeLessThanOrEqual(hpa!.unserved);
    expect(perfect!.unserved).toBeLessThanOrEqual(own!.unserved);
  });

  it('answers wrong use with one line', () => {
    const missing = iguana('replay', path.join(folder, 'none.csv'));
    expect(missing.code).toBe(1);
    expect(missing.err).toMatch(/^IGU_FILE_MISSING [^\n]+\n$/);
    const metric = iguana('replay', trace(), '--metric', 'nothing');
    expect(metric.err).toMatch(/^IGU_NOT_FOUND no series in the trace named nothing; one of: [^\n]+\n$/);
    expect(iguana('replay', trace(), '--speed', 'fast').code).toBe(2);
  });
});

describe('record', () => {
  it("writes this machine's metrics as a trace that replay reads", async () => {
    const file = path.join(folder, 'here.ndjson.gz');
    const { code, out } = iguana('record', file, '--seconds', '1', '--every', '250', '--json');
    expect(code).toBe(0);
    const { samples, series } = JSON.parse(out) as { samples: number; series: number };
    const trace = await readTrace(file);
    expect(trace.series.length).toBe(series);
    expect(trace.series.reduce((n, { values }) => n + values.length, 0)).toBe(samples);
    // how many rounds fit into the second depends on how busy the machine is; the load average is there in each
    const load = trace.series.find((one) => one.series.name === 'load_average');
    expect(load?.values.length).toBeGreaterThanOrEqual(1);
    expect(load?.values.length).toBeLessThanOrEqual(5);
  });
});
