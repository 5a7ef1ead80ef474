import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { configSchema, readConfig } from '../../../src/cli/config.js';

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

it('checks policies, with their place, and fills in their defaults', () => {
  const policy = 'policies:\n  - name: web\n    entity: shop\n    metric: rps\n';
  expect(readConfig(file(`${policy}    targetPerInstance: 60\n`)).policies[0]).toMatchObject({
    max: 100,
    dryRun: true,
  });
  expect(() => readConfig(file(`${policy}    targetPerInstanc: 60\n`))).toThrow(
    /iguana\.yaml:5:23: policies\.0\.targetPerInstanc: .*did you mean targetPerInstance\?/,
  );
  expect(() => readConfig(file(`${policy}    targetPerInstance: -1\n`))).toThrow(/iguana\.yaml:5:24: policies\.0\./);
  expect(() => readConfig(file(policy))).toThrow(/iguana\.yaml:2:5: policies\.0\.targetPerInstance/);
  const typo = `${policy}    targetPerInstance: 60\n    behaviour: { scaleUp: { polices: [] } }\n`;
  expect(() => readConfig(file(typo))).toThrow(/iguana\.yaml:6:\d+: .*did you mean policies\?/);
});

it('refuses policies that contradict themselves or each other', () => {
  const one = (rest: string): string => `  - {name: web, entity: shop, metric: rps, targetPerInstance: 6${rest}}\n`;
  expect(() => readConfig(file(`policies:\n${one(', min: 5, max: 2')}`))).toThrow(
    /iguana\.yaml:2:71: policies\.0\.min: 5 is more than max, 2/,
  );
  expect(() => readConfig(file(`policies:\n${one('')}${one('')}`))).toThrow(
    /iguana\.yaml:3:12: policies\.1\.name: there is a policy named web already/,
  );
});

it('says which file is missing', () => {
  expect(() => readConfig(path.join(folder, 'none.yaml'))).toThrow(/IGU_FILE_MISSING .*none\.yaml/);
  expect(() => readConfig(folder)).toThrow(/IGU_FILE_MISSING cannot read /);
});

it('the example configuration says the defaults, and its commented parts are right too', () => {
  const text = readFileSync('iguana.yaml', 'utf8');
  expect(readConfig('iguana.yaml')).toEqual(configSchema.parse({}));
  const uncommented = text.replace(/^(rules|policies): \[\]$/gm, '$1:').replace(/^#( {2}.*)$/gm, '$1');
  const config = readConfig(file(uncommented));
  expect(config.rules.map((r) => r.name)).toEqual(['long-queue']);
  expect(config.policies.map((p) => p.name)).toEqual(['checkout']);
});
