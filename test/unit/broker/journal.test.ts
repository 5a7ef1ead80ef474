import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Journal } from '../../../src/broker/journal.js';

const disk = vi.hoisted(() => ({ bytesPerWrite: Number.POSITIVE_INFINITY, writesLeft: Number.POSITIVE_INFINITY }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  return {
    ...fs,
    writeSync(fd: number, data: Buffer | string, offset = 0): number {
      if (disk.writesLeft-- <= 0) throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', syscall: 'write' });
      const bytes = Buffer.from(data as Buffer);
      return fs.writeSync(fd, bytes, offset, Math.min(disk.bytesPerWrite, bytes.length - offset));
    },
  };
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'iguana-journal-'));
});
afterEach(() => {
  Object.assign(disk, { bytesPerWrite: Number.POSITIVE_INFINITY, writesLeft: Number.POSITIVE_INFINITY });
  rmSync(folder, { recursive: true, force: true });
});

/** A journal of numbers; the newest one is the state. */
function open() {
  const state = { newest: -1 };
  const file = path.join(folder, 'numbers');
  const journal = new Journal<number>(
    file,
    (n) => {
      state.newest = n;
    },
    () => [state.newest],
  );
  const append = (n: number): void => {
    state.newest = n;
    journal.append(n);
  };
  return { state, file, append, close: () => journal.close() };
}

it('is compacted when it is long', () => {
  const { file, append, close } = open();
  for (let n = 0; n < 50_001; n++) append(n);
  expect(readFileSync(file, 'utf8').trim().split('\n')).toEqual(['49999', '50000']);
  close();
});

it('keeps what comes after a compaction that failed', () => {
  const { file, append, close } = open();
  mkdirSync(`${file}.new`);
  for (let n = 0; n < 50_010; n++) append(n);
  close();
  rmSync(`${file}.new`, { recursive: true });
  const again = open();
  expect(again.state.newest).toBe(50_009);
  again.close();
});

it('writes lines whole when the system takes a few bytes at a time', () => {
  const { append, close } = open();
  disk.bytesPerWrite = 3;
  append(1_234_567);
  append(7_654_321);
  close();
  const again = open();
  expect(again.state.newest).toBe(7_654_321);
  again.close();
});

it('throws on a full disk, and loses only the line it could not write', () => {
  const { append, close } = open();
  Object.assign(disk, { bytesPerWrite: 3, writesLeft: 1 });
  expect(() => append(1_234_567)).toThrow('ENOSPC');
  Object.assign(disk, { bytesPerWrite: Number.POSITIVE_INFINITY, writesLeft: Number.POSITIVE_INFINITY });
  append(42);
  close();
  const again = open();
  expect(again.state.newest).toBe(42);
  again.close();
});
