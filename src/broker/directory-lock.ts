import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { makeDirectories } from '../make-directories.js';

/** What tells a process from a later one with the same number: its start time where the system tells it. */
interface Owner {
  readonly pid: number;
  readonly startedAt: string | null;
}

/**
 * Makes a directory this broker's own until the returned function is called; also between threads of one process. The lock of a process that is gone is taken over.
 * Throws when another broker uses it, and what the file system says.
 */
export function lockDirectory(directory: string): () => void {
  const file = path.join(directory, 'lock');
  makeDirectories(directory);
  const own: Owner = { pid: process.pid, startedAt: startOf(process.pid) };
  const text = JSON.stringify(own);
  try {
    writeFileSync(file, text, { flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const owner = ownerOf(file);
    if (owner && isAlive(owner)) throw new Error(`process ${owner.pid} uses it`);
    writeFileSync(file, text);
  }
  return () => rmSync(file, { force: true });
}

function ownerOf(file: string): Owner | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Owner;
  } catch {
    return undefined; // torn by a crash: its writer is gone
  }
}

function isAlive({ pid, startedAt }: Owner): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return startedAt === null || startOf(pid) === startedAt;
}

/** Start time of a process in clock ticks since the machine started (field 22 of its stat); null where there is no /proc. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
