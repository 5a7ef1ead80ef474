import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, expect, test, vi } from 'vitest';
import { secrets, usageKey } from '../../../src/cli/function-secrets.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-secrets-'));
afterEach(() => vi.unstubAllEnvs());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('secrets come from the file, else from the environment, and are read anew', () => {
  const file = path.join(folder, 'secrets.yaml');
  writeFileSync(file, 'api-token: one\n');
  vi.stubEnv('IGUANA_SECRET_API_TOKEN', 'from here');
  vi.stubEnv('IGUANA_SECRET_DB_PASSWORD', 'pass');
  const read = secrets(file);
  expect([read('api-token'), read('db.password'), read('other'), read('constructor')]).toEqual([
    'one',
    'pass',
    undefined,
    undefined,
  ]);
  writeFileSync(file, 'api-token: two\n');
  expect(read('api-token')).toBe('two');
  expect(secrets(undefined)('api-token')).toBe('from here');
});

test('a file of secrets that is wrong is said at once, without its values', () => {
  const file = path.join(folder, 'wrong.yaml');
  writeFileSync(file, 'token: [hush]\n');
  expect(() => secrets(file)).toThrow(/IGU_CONFIG .*wrong\.yaml:1:8: token/);
  expect(() => secrets(file)).not.toThrow(/hush/);
  expect(() => secrets(path.join(folder, 'none.yaml'))).toThrow(expect.objectContaining({ code: 'IGU_FILE_MISSING' }));
});

test('the key of usage is made once, for its owner alone', () => {
  const file = path.join(folder, 'deep', 'usage.key');
  const key = usageKey(file);
  expect(key).toMatch(/^[0-9a-f]{64}$/);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(usageKey(file)).toBe(key);
  expect(readFileSync(file, 'utf8').trim()).toBe(key);
  writeFileSync(file, ' \n');
  expect(() => usageKey(file)).toThrow(/is empty/);
  expect(() => usageKey(path.join(file, 'below'))).toThrow(expect.objectContaining({ code: 'IGU_FILE_WRITE' }));
});
