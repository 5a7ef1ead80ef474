import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';
import path from 'node:path';
import { clusterLimits } from '../limits.js';
import { makeDirectories } from '../make-directories.js';

/**
 * What one instance prints, in `<folder>/<id>.log`: appended to; a full file becomes `<id>.log.1` and replaces the one before it. Nothing
 * waits in memory: a write is made before the next is taken, so an instance that prints faster than the disk takes it is slowed down by its
 * pipe. Disk: twice `maxBytes` an instance.
 */
export class BoundedLog {
  private readonly file: string;
  private descriptor: number;
  private bytes: number;

  constructor(
    folder: string,
    id: string,
    private readonly maxBytes: number = clusterLimits.maxLogBytes,
  ) {
    makeDirectories(folder);
    this.file = path.join(folder, `${id.replaceAll(/[^\w.-]/g, '_')}.log`);
    this.descriptor = openSync(this.file, 'a');
    this.bytes = fstatSync(this.descriptor).size;
  }

  write(text: Buffer): void {
    if (this.bytes > 0 && this.bytes + text.length > this.maxBytes) {
      closeSync(this.descriptor);
      renameSync(this.file, `${this.file}.1`);
      this.descriptor = openSync(this.file, 'a');
      this.bytes = 0;
    }
    // what does not fit into a whole file is cut
    this.bytes += writeSync(this.descriptor, text, 0, Math.min(text.length, this.maxBytes));
  }

  close(): void {
    closeSync(this.descriptor);
  }
}
