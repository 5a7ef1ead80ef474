import { expect, it } from 'vitest';
import { boundedLines } from '../../../src/cli/bounded-lines.js';
import { anomalyLine, decisionLine, duration, forecastLine, number } from '../../../src/cli/event-lines.js';
import { nearest, oneOf, wholeNumber } from '../../../src/cli/suggest.js';
import { textTable } from '../../../src/cli/terminal.js';
import { VirtualClock } from '../../../src/clock.js';
import type { AnomalyRecord } from '../../../src/records.js';

it('suggests the nearest word and lists them all', () => {
  expect(nearest('emsemble', ['arima', 'ensemble'])).toBe('ensemble');
  expect(nearest('zzzzzz', ['arima', 'ensemble'])).toBeUndefined();
  expect(() => oneOf(['arima', 'ensemble'])('arma')).toThrow(/Did you mean arima\? One of: arima, ensemble\./);
  expect(oneOf(['a', 'b'])('b')).toBe('b');
  expect(() => wholeNumber(0, 10)('2.5')).toThrow(/from 0 to 10/);
});

it('shortens numbers and times as people read them', () => {
  expect([0.012345, 12.345, 1234.5, 12_345, 1.234e7, Number.NaN].map(number)).toEqual([
    '0.0123',
    '12.3',
    '1235',
    '12.3k',
    '12.3M',
    '?',
  ]);
  expect([5_000, 600_000, 7_200_000 * 2].map(duration)).toEqual(['5 s', '10 min', '4 h']);
});

const anomaly: AnomalyRecord = {
  id: 'a',
  state: 'open',
  series: 's',
  name: 'cpu_usage',
  labels: { service: 'shop', generated: 'true' },
  entity: 'shop',
  type: 'statistical',
  severity: 'critical',
  detectors: ['z-score'],
  openedAt: 0,
  updatedAt: 60_000,
  resolvedAt: null,
  value: 99,
  expected: 40,
  lower: 30,
  upper: 50,
  score: 6,
  confidence: 1,
  reason: 'far above',
  recommendation: 'look at it',
};

it('writes an anomaly, a decision and a forecast as one line each, with the reason', () => {
  expect(anomalyLine(anomaly)).toBe(
    '1970-01-01 00:01:00 anomaly  shop cpu_usage (generated): critical statistical: 99, expected 40 (30 to 50) — far above; look at it',
  );
  expect(anomalyLine({ ...anomaly, state: 'resolved', resolvedAt: 300_000, reason: 'back in its band' })).toMatch(
    /resolved after 5 min — back in its band$/,
  );
  expect(anomalyLine({ ...anomaly, state: 'update' })).toBeUndefined();
  expect(
    decisionLine({
      id: 'd',
      policy: 'p',
      entity: 'shop',
      timestamp: 0,
      current: 2,
      desired: 4,
      reactive: 2,
      predicted: 4,
      horizonMs: 60_000,
      quantile: 0.9,
      confidence: 0.5,
      reason: 'load comes',
      dryRun: true,
    }),
  ).toBe('1970-01-01 00:00:00 scale    shop: 2 -> 4 (dry run) — load comes');
  expect(
    forecastLine({
      id: 'f',
      series: 's',
      name: 'cpu_usage',
      labels: {},
      entity: 'shop',
      model: 'ensemble',
      madeAt: 0,
      stepMs: 1000,
      points: [
        {
          horizonMs: 60_000,
          timestamp: 60_000,
          value: 50,
          intervals: [{ level: 95, lower: 40, upper: 60 }],
          confidence: 0.25,
        },
      ],
    }),
  ).toBe('1970-01-01 00:00:00 forecast shop cpu_usage: 50 (95 %: 40 to 60) in 60 s — confidence 0.25');
});

it('sets numeric columns right', () => {
  expect(
    textTable(
      ['a', 'n'],
      [
        ['x', '1.5'],
        ['yy', '10'],
      ],
    ),
  ).toBe('a     n\n--  ---\nx   1.5\nyy   10');
});

it('lets a few lines a second through and says how many it left out when it is calm again', () => {
  const clock = new VirtualClock();
  const seen: string[] = [];
  const lines = boundedLines(
    (line) => seen.push(line),
    (left) => seen.push(`left ${left}`),
    clock,
  );
  for (let i = 0; i < 20; i++) lines.print(`a${i}`);
  expect(seen).toEqual(['a0', 'a1', 'a2', 'a3', 'a4', 'a5']);
  clock.advance(1000);
  for (let i = 0; i < 8; i++) lines.print(`b${i}`);
  clock.advance(1000);
  expect(seen.slice(6)).toEqual(['b0', 'b1', 'b2', 'b3', 'b4', 'b5']);
  lines.print('c');
  clock.advance(1000);
  expect(seen.slice(12)).toEqual(['c', 'left 16']);
  clock.advance(5000);
  lines.stop();
  expect(seen.length).toBe(14);
});
