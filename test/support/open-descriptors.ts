import { readdirSync, readlinkSync } from 'node:fs';

/** How many descriptors of this process are open on a directory or what is in it; 0 where the system does not tell. Other tests run in the same process. */
export function openBelow(folder: string): number {
  if (process.platform !== 'linux') return 0;
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return `${readlinkSync(`/proc/self/fd/${fd}`)}/`.startsWith(`${folder}/`);
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}
