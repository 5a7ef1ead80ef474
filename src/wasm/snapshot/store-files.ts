/**
 * Files of a snapshot store: written whole or not at all, read without following links, changed by one process at a
 * time.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import {
  type FileHandle,
  link,
  lstat,
  open,
  opendir,
  readFile,
  realpath,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmSnapshotLimits } from '../../limits.js';
import { makeDirectories } from '../../make-directories.js';
import { damaged } from './snapshot-codec.js';

/** Files being written; what a crash left of them, `removeTemporaries` takes away. */
const TEMPORARY = '.tmp-';
const LOCK = 'lock';
/** Pause between looks at another process's lock, ms. */
const LOCK_PAUSE_MS = 20;

/** The code of a file system error, `''` for any other. */
export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** Makes the user's directory, and answers where it really is: it may be a link, what is in it may not. */
export async function makeRoot(path: string): Promise<string> {
  try {
    makeDirectories(path);
    return await realpath(path);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

export async function makeDirectory(path: string): Promise<void> {
  try {
    makeDirectories(path);
  } catch (error) {
    throw cannotWrite(path, error);
  }
  if (!(await lstat(path)).isDirectory()) throw damaged(`${path} is a link, not a directory`);
}

function cannotWrite(path: string, error: unknown): IguanaError {
  return new IguanaError('IGU_FILE_WRITE', { path, what: messageOf(error) }, { cause: error });
}

function cannotRead(path: string, error: unknown): IguanaError {
  return new IguanaError('IGU_FILE_MISSING', { path }, { cause: error });
}

/** Names in a directory that match, sorted; others are left alone. */
export async function namesIn(path: string, pattern: RegExp): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of await opendir(path)) {
    if (!pattern.test(name)) continue;
    names.push(name);
    if (names.length > 10 * wasmSnapshotLimits.maxSnapshots)
      throw new IguanaError('IGU_WASM_LIMIT', {
        what: `number of files in ${path}`,
        value: names.length,
        limit: 10 * wasmSnapshotLimits.maxSnapshots,
        fix: 'delete snapshots, or use several directories',
      });
  }
  return names.sort();
}

/**
 * Opens a plain file for reading: links, devices and pipes are refused, so that nothing outside the directory is read
 * and nothing blocks.
 */
export async function openPlain(path: string): Promise<{ file: FileHandle; size: number; modifiedMs: number }> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') throw error;
    throw codeOf(error) === 'ELOOP' ? damaged(`${path} is a link`, error) : cannotRead(path, error);
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw damaged(`${path} is not a plain file`);
    return { file, size: stat.size, modifiedMs: stat.mtimeMs };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** `length` bytes from `position`; fewer are damage. */
export async function readExactly(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let have = 0;
  while (have < length) {
    const { bytesRead } = await file.read(buffer, have, length - have, position + have);
    if (bytesRead === 0) throw damaged('a file is cut off');
    have += bytesRead;
  }
  return buffer;
}

/** Writes a file so that after a crash it is there whole or not at all. */
export async function writeWhole(directory: string, name: string, chunks: readonly Uint8Array[]): Promise<void> {
  const temporary = join(directory, `${TEMPORARY}${randomBytes(8).toString('hex')}`);
  try {
    const file = await open(temporary, 'wx', 0o600);
    try {
      for (const chunk of chunks) await file.writeFile(chunk);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, join(directory, name));
    await syncDirectory(directory);
  } catch (error) {
    await rm(temporary, { force: true });
    throw cannotWrite(join(directory, name), error);
  }
}

export async function removeTemporaries(directory: string): Promise<void> {
  for (const name of await namesIn(directory, /^\.tmp-[0-9a-f]{16}$/)) await rm(join(directory, name), { force: true });
}

/** Names that were added or removed survive a crash from here on. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Takes away what locks and their takers left when they were killed. */
export async function removeDeadLocks(directory: string): Promise<void> {
  for (const name of await namesIn(directory, /^lock\.\d+\.[0-9a-f]{16}$/))
    if (!(await startOf(Number(name.split('.')[1])))) await rm(join(directory, name), { force: true });
}

/**
 * Runs `change` while no other process changes the directory. The lock of a process that is gone is taken over.
 * @throws IguanaError `IGU_WASM_SNAPSHOT` when another one holds it longer than `lockWaitMs`, `IGU_FILE_WRITE`
 */
export async function exclusively<T>(directory: string, change: () => Promise<T>): Promise<T> {
  const path = join(directory, LOCK);
  await lock(directory, path);
  try {
    return await change();
  } finally {
    await rm(path, { force: true });
  }
}

async function lock(directory: string, path: string): Promise<void> {
  const mine = besides(path);
  const deadline = performance.now() + wasmSnapshotLimits.lockWaitMs;
  try {
    await writeFile(mine, `${process.pid} ${await startOf(process.pid)}\n`, { flag: 'wx', mode: 0o600 });
    // a link appears with its content, so that nobody reads an empty lock
    while (!(await linkUnlessThere(mine, path))) {
      await takeOverFromTheDead(path);
      if (performance.now() > deadline)
        throw new IguanaError('IGU_WASM_SNAPSHOT', {
          what: 'saved',
          why: `another process is changing ${directory}`,
          fix: `wait for it; if there is none, delete ${path}`,
        });
      await new Promise((done) => setTimeout(done, LOCK_PAUSE_MS));
    }
  } catch (error) {
    throw error instanceof IguanaError ? error : cannotWrite(path, error);
  } finally {
    await rm(mine, { force: true });
  }
}

/** A name beside the lock that tells whose it is. */
function besides(path: string): string {
  return `${path}.${process.pid}.${randomBytes(8).toString('hex')}`;
}

async function linkUnlessThere(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

async function takeOverFromTheDead(path: string): Promise<void> {
  const held = await readLock(path);
  if (held === undefined || (await isHeld(held))) return;
  const aside = besides(path);
  try {
    await rename(path, aside);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return;
    throw error;
  }
  // another process may have taken over in between: then this was its lock, and it gets it back
  if ((await readLock(aside)) !== held) await linkUnlessThere(aside, path);
  await rm(aside, { force: true });
}

async function readLock(path: string): Promise<string | undefined> {
  try {
    const { file, size } = await openPlain(path);
    try {
      return (await readExactly(file, 0, Math.min(size, 64))).toString('latin1');
    } finally {
      await file.close();
    }
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Whether the process that wrote this lock lives. Its start counts too: a service in a container has the same number
 * each time.
 */
async function isHeld(held: string): Promise<boolean> {
  const [pid = '', start = ''] = held.trim().split(' ');
  const now = await startOf(Number(pid));
  return now !== undefined && now === start;
}

/**
 * When a process started, in the system's own count; a word where the system does not tell; undefined when there is no
 * such process.
 */
async function startOf(pid: number): Promise<string | undefined> {
  if (!(Number.isInteger(pid) && pid > 0)) return undefined;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (codeOf(error) !== 'EPERM') return undefined;
  }
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 'untold';
  } catch {
    // no /proc here, or the process has just ended: then its number is all there is to compare
    return 'untold';
  }
}
