import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { makeDirectories } from '../../src/make-directories.js';

const root = mkdtempSync(path.join(tmpdir(), 'iguana-directories-'));
afterEach(() => rmSync(root, { recursive: true, force: true }));

test('directories are made with those above them, and may be there', () => {
  const deep = path.join(root, 'a', 'b', 'c');
  makeDirectories(deep, 0o700);
  makeDirectories(deep, 0o755);
  expect(statSync(deep).mode & 0o777).toBe(0o700);
  expect(statSync(path.dirname(deep)).mode & 0o777).toBe(0o700);
});

test('a file in the way is told', () => {
  makeDirectories(root);
  writeFileSync(path.join(root, 'file'), '');
  expect(() => makeDirectories(path.join(root, 'file'))).toThrow(/EEXIST/);
  expect(() => makeDirectories(path.join(root, 'file', 'below'))).toThrow(/ENOTDIR/);
});

test.skipIf(!existsSync('/proc/self'))('where nothing can be made the call ends', () => {
  expect(() => makeDirectories('/proc/iguana/below')).toThrow(/ENOENT/);
});
