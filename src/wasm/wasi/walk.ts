import { wasiLimits } from '../../limits.js';
import { Errno } from './abi.js';
import type { Directory } from './file-system.js';
import { WasiError } from './wasi-error.js';

/** Where a path leads: the open directory that holds its last component, and that component. */
export interface Walked {
  readonly directory: Directory;
  /** Absent: the path is the directory itself (it ends in `.` or `..`, or a link led there). */
  readonly name?: string;
  /** The path, or a link's text at its end, ends with a slash: only a directory will do. */
  readonly slash: boolean;
  /** Closes what the walk opened. */
  close(): void;
}

/**
 * Takes a path apart one component at a time from an open directory, the only place in which links are followed. Every step is taken on the directory that
 * the step before opened, so that nothing swapped in between leads elsewhere. `..` goes back along the steps taken and never above `base`; absolute paths
 * and links with absolute targets are refused.
 *
 * @param last what to do with a link that the last component is: `follow` it; `keep` it, unless a slash after it makes it followed, as POSIX says; `entry`:
 *   never follow it, since the name itself is made, moved or removed.
 * @throws WasiError PERM for what leads outside, LOOP after 40 links, NOENT, NOTDIR, NAMETOOLONG.
 */
export function walk(base: Directory, path: string, last: 'follow' | 'keep' | 'entry'): Walked {
  const stack: Directory[] = [base];
  const pending: string[] = [];
  let links = 0;
  let slash = false;
  const close = () => {
    for (let i = stack.length - 1; i > 0; i--) stack[i]!.close();
  };
  const push = (text: string) => {
    if (text === '') throw new WasiError(Errno.NOENT);
    if (text.startsWith('/')) throw new WasiError(Errno.PERM);
    if (pending.length === 0) slash = text.endsWith('/');
    const parts = text.split('/');
    for (let i = parts.length - 1; i >= 0; i--) {
      const part = parts[i]!;
      if (part === '') continue;
      if (Buffer.byteLength(part) > wasiLimits.maxNameBytes) throw new WasiError(Errno.NAMETOOLONG);
      pending.push(part);
    }
  };
  const pushLink = (target: string) => {
    links++;
    if (links > wasiLimits.maxSymbolicLinks) throw new WasiError(Errno.LOOP);
    const wasSlash = slash;
    push(target);
    slash ||= wasSlash;
  };
  try {
    push(path);
    for (;;) {
      const directory = stack.at(-1)!;
      const name = pending.pop();
      if (name === undefined) return { directory, slash, close };
      if (name === '.') continue;
      if (name === '..') {
        if (stack.length === 1) throw new WasiError(Errno.PERM);
        stack.pop()!.close();
        continue;
      }
      if (pending.length === 0) {
        const follow = last === 'follow' || (slash && last === 'keep');
        const target = follow ? directory.linkTarget(name) : undefined;
        if (target === undefined) return { directory, name, slash, close };
        pushLink(target);
        continue;
      }
      if (stack.length > wasiLimits.maxDepth) throw new WasiError(Errno.NAMETOOLONG);
      const next = directory.enter(name);
      if (typeof next === 'string') pushLink(next);
      else stack.push(next);
    }
  } catch (error) {
    close();
    throw error;
  }
}
