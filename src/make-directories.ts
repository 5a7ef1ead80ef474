import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';

/**
 * Makes a directory and those above it that are missing; one that is there stays as it is. Node's own recursive `mkdir` never ends where a directory is there
 * but nothing can be made in it, as under `/proc`.
 * @param mode of directories that are made (default 0o777, less the umask)
 * @throws the system's error, with its code
 */
export function makeDirectories(directory: string, mode?: number): void {
  try {
    mkdirSync(directory, mode);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && statSync(directory).isDirectory()) return;
    const above = path.dirname(directory);
    if (code !== 'ENOENT' || above === directory || isThere(above)) throw error;
    makeDirectories(above, mode);
    makeDirectories(directory, mode);
  }
}

function isThere(directory: string): boolean {
  return statSync(directory, { throwIfNoEntry: false }) !== undefined;
}
