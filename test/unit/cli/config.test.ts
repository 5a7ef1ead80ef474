import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readConfig } from '../../../src/cli/config.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-config-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const name = path.join(folder, 'iguana.yaml');
  writeFileSync(name, text);
  return name;
}

it('fills what is left out with the defaults', () => {
  const config = readConfig(file('dashboard:\n  port: 5000\n'));
  expect(config.dashboard).toEqual({ host: '127.0.0.1', port: 5000 });
  expect(config.broker.port).toBe(9092);
  expect(config.data).toBe('.iguana');
});

it('names file, line, column and the word that was meant', () => {
  expect(() => readConfig(file('group: a\nbroker:\n  prt: 1\n'))).toThrow(
    /IGU_CONFIG .*iguana\.yaml:3:8: broker\.prt: .*did you mean port\?/,
  );
  expect(() => readConfig(file('dashboard:\n  port: many\n'))).toThrow(/iguana\.yaml:2:9: dashboard\.port/);
  expect(() => readConfig(file('a: [1,\n'))).toThrow(/IGU_CONFIG .*iguana\.yaml:\d+:\d+/);
});

it('says which file is missing', () => {
  expect(() => readConfig(path.join(folder, 'none.yaml'))).toThrow(/IGU_FILE_MISSING .*none\.yaml/);
});
