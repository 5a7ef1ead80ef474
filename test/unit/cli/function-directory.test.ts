import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { functionDirectory } from '../../../src/cli/function-directory.js';
import { VirtualClock } from '../../../src/clock.js';
import { IguanaError, messageOf } from '../../../src/errors.js';
import { deployedRecord, type FunctionOrigin, type FunctionRecord } from '../../../src/functions/function-record.js';
import type { Deployment } from '../../../src/functions/function-service.js';
import { functionDirectoryLimits } from '../../../src/limits.js';
import { assertRoutes } from '../../../src/operators/deployed-functions.js';
import { until } from '../../support/kafka.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-directory-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** What is deployed, without anything that runs it. */
function registry() {
  const records = new Map<string, FunctionRecord>();
  let refuse: IguanaError | undefined;
  return {
    records,
    refuseWith: (error: IguanaError | undefined) => {
      refuse = error;
    },
    async deploy(deployment: Deployment, origin?: FunctionOrigin) {
      if (refuse) throw refuse;
      const { definition } = deployment;
      assertRoutes(records, definition);
      const record = deployedRecord(records.get(definition.name), deployment, 0, origin);
      records.set(definition.name, record);
      return { name: definition.name, version: record.newest, definition, aliases: {} };
    },
    async delete(name: string) {
      records.delete(name);
    },
  };
}

function following(functions = registry(), clock = new VirtualClock()) {
  const told: string[] = [];
  const errors: string[] = [];
  const directory = functionDirectory({
    directory: folder,
    functions,
    clock,
    onChange: (what) => told.push(what),
    onError: (error) => errors.push(messageOf(error)),
  });
  return { functions, directory, told, errors, clock };
}

let ticks = 0;
/** Files are told apart by their times, which on some systems are whole milliseconds: each has another size too. */
function write(name: string, text: string): void {
  writeFileSync(path.join(folder, name), `${text}${' '.repeat(++ticks)}\n`);
}
const yaml = (name: string, file = `${name}.js`) => `name: ${name}\nruntime: javascript\ncode: {file: ${file}}\n`;

test('deploys what is there, again when definition or code change, and deletes what is gone', async () => {
  write('a.js', 'export const handle = () => 1;');
  write('a.yaml', yaml('a'));
  const { functions, directory, told, errors, clock } = following();
  await directory.look();
  await directory.look();
  expect(told).toEqual(['a version 1 was deployed']);
  write('a.js', 'export const handle = () => 2;');
  await directory.look();
  write('a.yaml', `${yaml('a')}memoryMb: 64\n`);
  await directory.look();
  expect(told.slice(1)).toEqual(['a version 2 was deployed', 'a version 3 was deployed']);
  expect(functions.records.get('a')!.versions[3]!.definition.memoryMb).toBe(64);
  // it looks by itself
  write('b.yaml', yaml('b', 'a.js'));
  clock.advance(functionDirectoryLimits.pollMs);
  await until('b', () => functions.records.has('b'));
  rmSync(path.join(folder, 'a.yaml'));
  await directory.look();
  expect(told.slice(3)).toEqual(['b version 1 was deployed', 'a was deleted']);
  await directory.stop();
  expect([...functions.records.keys()]).toEqual(['b']);
  expect(errors).toEqual([]);
});

test('a restart deploys only what is new, and deletes what went meanwhile, but nobody else’s', async () => {
  write('a.js', 'export const handle = () => 1;');
  write('a.yaml', yaml('a'));
  write('b.yaml', yaml('b', 'a.js'));
  const first = following();
  await first.directory.look();
  await first.directory.stop();
  const elsewhere = { host: 'another', file: path.join(folder, 'c.yaml') };
  const definition = { ...first.functions.records.get('a')!.versions[1]!.definition, name: 'c' };
  await first.functions.deploy({ definition, code: Buffer.from('x') }, elsewhere);
  await first.functions.deploy({ definition: { ...definition, name: 'd' }, code: Buffer.from('x') });
  rmSync(path.join(folder, 'b.yaml'));
  const second = following(first.functions);
  await second.directory.look();
  await second.directory.stop();
  expect(second.told).toEqual(['b was deleted']);
  expect([...first.functions.records.keys()]).toEqual(['a', 'c', 'd']);
});

test('a file with a mistake changes nothing, and is reported once until it changes', async () => {
  write('a.js', 'export const handle = () => 1;');
  write('a.yaml', yaml('a'));
  const { functions, directory, errors } = following();
  await directory.look();
  write('a.yaml', `${yaml('a')}memory: 3\n`);
  await directory.look();
  await directory.look();
  expect(errors).toHaveLength(1);
  expect(errors[0]).toMatch(/a\.yaml:4:9: memory: .*did you mean memoryMb\?|a\.yaml:4:9: memory/);
  expect(functions.records.get('a')!.newest).toBe(1);
  write('a.yaml', `${yaml('a')}memoryMb: 64\n`);
  await directory.look();
  expect(functions.records.get('a')!.newest).toBe(2);
  write('b.yaml', yaml('a'));
  await directory.look();
  expect(errors.slice(1)).toEqual([
    expect.stringMatching(/b\.yaml: a\.yaml has a already; give one of them another name/),
  ]);
  expect(functions.records.get('a')!.newest).toBe(2);
  await directory.stop();
});

test('code that comes later is found; a name that changes moves the function', async () => {
  write('a.yaml', yaml('a'));
  const { functions, directory, errors } = following();
  await directory.look();
  expect(errors).toEqual([expect.stringMatching(/a\.yaml:3:14: code\.file: cannot read a\.js/)]);
  write('a.js', 'export const handle = () => 1;');
  await directory.look();
  expect([...functions.records.keys()]).toEqual(['a']);
  write('a.yaml', yaml('renamed', 'a.js'));
  await directory.look();
  expect([...functions.records.keys()]).toEqual(['renamed']);
  await directory.stop();
});

test('what cannot be deployed for now is tried again; a directory that is gone deletes nothing', async () => {
  write('a.js', 'export const handle = () => 1;');
  write('a.yaml', yaml('a'));
  const { functions, directory, errors } = following();
  functions.refuseWith(new IguanaError('IGU_BROKER_UNREACHABLE', { brokers: 'b:1' }));
  await directory.look();
  await directory.look();
  expect(errors).toHaveLength(1);
  functions.refuseWith(undefined);
  await directory.look();
  expect([...functions.records.keys()]).toEqual(['a']);
  rmSync(folder, { recursive: true });
  await directory.look();
  expect([...functions.records.keys()]).toEqual(['a']);
  mkdirSync(folder);
  await directory.look();
  expect([...functions.records.keys()]).toEqual([]);
  await directory.stop();
});

test('a route goes over to another function whichever of them comes first; while two want it, who has it keeps it', async () => {
  const functions = registry();
  const served = (name: string, ...paths: string[]) =>
    `${yaml(name, 'a.js')}triggers: [${paths.map((one) => `{type: http, path: ${one}}`).join(', ')}]\n`;
  write('a.js', 'export const handle = () => 1;');
  write('b.yaml', served('b', '/x'));
  const { directory, told, errors } = following(functions);
  await directory.look();
  write('a.yaml', served('a', '/x'));
  await directory.look();
  await directory.look();
  expect(errors).toEqual([expect.stringMatching(/^IGU_FUNCTION_ROUTE .*of a cannot be served: b has it already/)]);
  expect(told).toEqual(['b version 1 was deployed']);
  // a comes first, when b has it still
  write('b.yaml', served('b', '/y'));
  await directory.look();
  expect(told.slice(1)).toEqual(['b version 2 was deployed']);
  await directory.look();
  expect(told.slice(2)).toEqual(['a version 1 was deployed']);
  // renamed: the one before goes first
  write('b.yaml', served('c', '/y'));
  await directory.look();
  expect(told.slice(3)).toEqual(['b was deleted', 'c version 1 was deployed']);
  expect(errors).toHaveLength(1);
  await directory.stop();
});
