import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function iguana(...args: string[]): { code: number | null; out: string; err: string } {
  const run = spawnSync(process.execPath, ['dist/src/cli/main.js', ...args], {
    encoding: 'utf8',
    timeout: 20_000,
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

function file(name: string, text: string): string {
  const where = path.join(folder, name);
  writeFileSync(where, text);
  return where;
}

const hourly = (n: number): string =>
  Array.from(
    { length: n },
    (_, i) => `${1_700_000_000 + 3600 * i},${100 + 30 * Math.sin((2 * Math.PI * i) / 24)}`,
  ).join('\n');

describe('forecast', () => {
  it('finds the season and continues it, with bounds and confidence as CSV', () => {
    const input = file('hourly.csv', `timestamp,value\n${hourly(240)}\n`);
    const { code, out, err } = iguana('forecast', '--input', input, '--horizon', '24', '--level', '80,95');
    expect(err).toBe('');
    expect(code).toBe(0);
    const [header, ...rows] = out.trim().split('\n');
    expect(header).toBe('series,step,timestamp,value,lower_80,upper_80,lower_95,upper_95,confidence');
    expect(rows.length).toBe(24);
    rows.forEach((row, i) => {
      const [, step, timestamp, value] = row.split(',');
      expect(Number(step)).toBe(i + 1);
      expect(Date.parse(timestamp!)).toBeGreaterThanOrEqual((1_700_000_000 + 3600 * (239 + i)) * 1000);
      expect(Math.abs(Number(value) - (100 + 30 * Math.sin((2 * Math.PI * (240 + i)) / 24)))).toBeLessThan(6);
    });
  });
});

describe('detect', () => {
  it('alerts once where an episode opens', () => {
    const rows = Array.from(
      { length: 300 },
      (_, i) =>
        `2024-01-01T00:${String(Math.floor(i / 60)).padStart(2, '0')}:${String(i % 60).padStart(2, '0')}Z,${i === 250 ? 500 : 100 + ((i * 37) % 11)}`,
    );
    const output = path.join(folder, 'out.csv');
    const { code } = iguana('detect', '--input', file('spike.csv', rows.join('\n')), '--output', output);
    expect(code).toBe(0);
    const [header, ...lines] = readFileSync(output, 'utf8').trim().split('\n');
    expect(header).toBe('series,timestamp,value,expected,lower,upper,score,alert,active,type,severity,episode');
    expect(lines.length).toBe(300);
    expect(lines.flatMap((line, i) => (line.split(',')[7] === '1' ? [i] : []))).toEqual([250]);
  });
});

describe('wrong use', () => {
  it('names the line of a bad row', () => {
    const input = file('bad.csv', 'timestamp,value\n1700000000,1\n1700000060,x\n');
    const { code, err } = iguana('forecast', '--input', input, '--horizon', '5');
    expect(code).toBe(1);
    expect(err).toMatch(/^IGU_CSV_ROW .*bad\.csv:3: "x" is not a finite number; /);
    expect(err.trim().split('\n').length).toBe(1);
  });

  it('says what is missing, misspelt or unreachable, with the right exit code', () => {
    expect(iguana('detect', '--input', path.join(folder, 'none.csv'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('IGU_FILE_MISSING'),
    });
    expect(iguana('forecast', '--input', 'x', '--horizon', '5', '--model', 'emsemble')).toMatchObject({
      code: 2,
      err: expect.stringContaining('Did you mean ensemble?'),
    });
    expect(iguana('forecast', '--input', 'x', '--horizon', '5', '--modle', 'x')).toMatchObject({
      code: 2,
      err: expect.stringContaining('Did you mean --model?'),
    });
    expect(iguana('strat')).toMatchObject({ code: 2, err: expect.stringContaining('Did you mean start?') });
    const asked = Date.now();
    expect(iguana('tail', 'metrics', '--brokers', '127.0.0.1:1')).toMatchObject({
      code: 1,
      err: expect.stringContaining('IGU_BROKER_UNREACHABLE'),
    });
    // the answer is known at once: nothing may keep the user waiting after it
    expect(Date.now() - asked).toBeLessThan(8_000);
    expect(iguana('start', '--config', path.join(folder, 'none.yaml'))).toMatchObject({
      code: 1,
      err: expect.stringContaining('IGU_FILE_MISSING'),
    });
    expect(iguana('--help')).toMatchObject({ code: 0, out: expect.stringContaining('Examples:') });
  });
});
