import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { functionFilesIn, readFunctionFile } from '../../../src/cli/function-files.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-functions-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const emptyModule = Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);

function written(name: string, text: string | Uint8Array): string {
  const file = path.join(folder, name);
  writeFileSync(file, text);
  return file;
}

test('a definition is read with its code, which is relative to it', () => {
  written('orders.js', 'export const handle = () => 1');
  const file = written(
    'orders.yaml',
    'name: orders\nruntime: javascript\ncode: {file: ./orders.js}\ntriggers:\n  - {type: timer, cron: "0 * * * *"}\n',
  );
  const { deployment, codeFile } = readFunctionFile(file);
  expect(deployment.definition).toMatchObject({ name: 'orders', memoryMb: 256, triggers: [{ timezone: 'UTC' }] });
  expect(Buffer.from(deployment.code).toString()).toBe('export const handle = () => 1');
  expect(codeFile).toBe(path.join(folder, 'orders.js'));
  const inline = written('inline.yml', `name: i\nruntime: wasm\ncode: {inline: ${emptyModule.toString('base64')}}\n`);
  expect(readFunctionFile(inline)).toMatchObject({ deployment: { code: emptyModule }, codeFile: undefined });
  expect(functionFilesIn(folder)).toEqual([inline, file]);
});

const base = 'name: f\nruntime: javascript\n';
test.each([
  ['a word that is not known', `${base}memroyMb: 3\ncode: {inline: x}\n`, /:3:11: memroyMb.*did you mean memoryMb\?/],
  ['no name', 'runtime: javascript\ncode: {inline: x}\n', /:1:1: name/],
  ['no code', base, /:1:1: code: .*say code: \{file: NAME\}/],
  ['a value out of bounds', `${base}memoryMb: 3\ncode: {inline: x}\n`, /:3:11: memoryMb: .*16/],
  [
    'code that is not there',
    `${base}code: {file: none.js}\n`,
    /:3:14: code\.file: cannot read none\.js; put the code at/,
  ],
  [
    'a script named as WebAssembly',
    'name: f\nruntime: wasm\ncode: {file: text.js}\n',
    /:3:14: code\.file: is no WebAssembly/,
  ],
  [
    'a module named as JavaScript',
    `${base}code: {file: m.wasm}\n`,
    /:3:14: code\.file: is a WebAssembly module; say runtime: wasm/,
  ],
  ['a trigger without a type', `${base}code: {inline: x}\ntriggers:\n  - {topic: t}\n`, /:5:5: triggers\.0\..*/],
  [
    'a misspelt path of a filter',
    `${base}code: {inline: x}\ntriggers:\n  - {type: stream, topic: t, filter: {key: a, vlaue.x: 1}}\n`,
    /:5:56: triggers\.0\.filter\.vlaue\.x: a path in a record .*; mend the path: with it/,
  ],
  [
    'a path that is never served',
    `${base}code: {inline: x}\ntriggers:\n  - {type: http, path: /../x}\n`,
    /:5:24: triggers\.0\.path: can never be served/,
  ],
  [
    'a misspelt setting of a trigger',
    `${base}code: {inline: x}\ntriggers:\n  - {type: stream, topic: t, form: latest}\n`,
    /:5:36: triggers\.0\.form: .*did you mean from\?/,
  ],
  [
    'a timer that cannot be',
    `${base}code: {inline: x}\ntriggers:\n  - {type: timer, cron: "61 * * * *"}\n`,
    /:5:25: triggers\.0\.cron: .*write minute hour/,
  ],
  ['YAML that is none', 'name: [\n', /:\d+:\d+: .*mend the YAML/],
  ['a place is told once', 'name: a: b\n', /wrong\.yaml:1:7: Nested mappings [a-z ]*; mend the YAML$/],
  ['several documents', 'name: a\n---\nname: b\n', /:2:1: another document begins \(---\); write one a file$/],
  ['a name of what is nowhere', `${base}code: *x\n`, /wrong\.yaml: Unresolved alias .*; mend the YAML$/],
  [
    'a beginning that is none',
    `${base}code: {inline: x}\ntriggers:\n  - {type: stream, topic: t, from: yesterday}\n`,
    /:5:36: triggers\.0\.from: latest, earliest, or a time in ms since 1970; /,
  ],
  [
    'a time zone that is none',
    `${base}code: {inline: x}\ntriggers:\n  - {type: timer, cron: "0 0 * * *", timezone: Mars/Base}\n`,
    /:5:48: triggers\.0\.timezone: there is no time zone "Mars\/Base"; write minute/,
  ],
])('%s is refused with its place and the fix', (_what, text, message) => {
  written('text.js', 'export const handle = 1');
  written('m.wasm', emptyModule);
  const file = written('wrong.yaml', text);
  expect(() => readFunctionFile(file)).toThrow(expect.objectContaining({ code: 'IGU_CONFIG' }));
  expect(() => readFunctionFile(file)).toThrow(message);
});
