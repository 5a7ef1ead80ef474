import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { functionSchema } from '../../../src/functions/definition.js';
import { instanceFactories } from '../../../src/functions/instance-factories.js';
import { templateLanguages, writeTemplate } from '../../../src/functions/templates/write-template.js';

const root = mkdtempSync(join(tmpdir(), 'iguana-templates-'));
const factories = instanceFactories({ warmWorkers: 1, wasmThreads: 1 });
afterAll(async () => {
  await factories.close();
  rmSync(root, { recursive: true, force: true });
});

describe.each(templateLanguages)('the template for %s', (language) => {
  test('greets', async ({ skip }) => {
    const directory = join(root, language);
    const { files, notBuilt } = writeTemplate(language, directory, 'first-one');
    if (notBuilt !== undefined) {
      expect(notBuilt).toMatch(/It needs /);
      skip(notBuilt);
    }
    const definition = functionSchema.parse(parse(readFileSync(join(directory, files[0]!), 'utf8')));
    const { file } = definition.code as { file: string };
    const instance = await factories.of({ definition, code: readFileSync(join(directory, file)) }, {}).start();
    const context = { function: 'first-one', version: 1, invocationId: 'i', attempt: 1, deadline: Date.now() + 20_000 };
    const called = await instance.invoke({ trigger: 'call', input: { name: 'Ada' } }, context);
    expect(called.output).toEqual({ greeting: 'Hello, Ada' });
    expect(called.logs).toEqual(['info greeting Ada']);
    const nobody = await instance.invoke({ trigger: 'call', input: null }, context);
    expect(nobody.output).toEqual({ greeting: 'Hello, world' });
    if (definition.runtime === 'wasm')
      await expect(
        instance.invoke({ trigger: 'call', input: { name: 'x'.repeat(300) } }, context),
      ).rejects.toMatchObject({
        code: 'IGU_FUNCTION_FAILED',
        message: expect.stringContaining('a name has at most 256'),
      });
    await instance.close();
  }, 60_000);
});

test('a template overwrites nothing, and its language and name must be known', () => {
  const directory = join(root, 'there');
  writeTemplate('javascript', directory, 'mine');
  writeFileSync(join(directory, 'mine.js'), 'changed');
  expect(() => writeTemplate('javascript', directory, 'mine')).toThrow(/mine.yaml is there already/);
  expect(readFileSync(join(directory, 'mine.js'), 'utf8')).toBe('changed');
  expect(() => writeTemplate('cobol', directory, 'other')).toThrow(
    /there are javascript, typescript, assemblyscript, c, rust/,
  );
  expect(() => writeTemplate('c', directory, '../other')).toThrow(/cannot name a function/);
});
