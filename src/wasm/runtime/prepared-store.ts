import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { messageOf } from '../../errors.js';
import type { BlobIdentity, BlobStore } from '../aot/blob-store.js';
import type { PreparedModule } from '../module/prepared.js';

/**
 * Prepared modules of earlier processes: metering is most of what a cold start takes. They are signed with the directory's key like machine code, and known by
 * the module's hash, the options, Node's version and the rewriter's own code, so that another rewriter makes them anew.
 */
export class PreparedStore {
  readonly #blobs: BlobStore;
  readonly #rewriter = `node ${process.version} rewriter ${hashOfRewriter()}`;

  constructor(blobs: BlobStore) {
    this.#blobs = blobs;
  }

  /** Cost: reading, and 1 ms a MB for the signature. */
  get(content: string, options: string): PreparedModule | undefined {
    const { found } = this.#blobs.get(this.#identity(content, options));
    return found && (deserialize(new Uint8Array(found)) as PreparedModule);
  }

  put(content: string, options: string, module: PreparedModule): void {
    try {
      this.#blobs.put(this.#identity(content, options), serialize(module));
    } catch (error) {
      // the module runs all the same; the next process prepares it again
      process.emitWarning(messageOf(error));
    }
  }

  #identity(content: string, flags: string): BlobIdentity {
    return { kind: 'prepared', engine: this.#rewriter, flags, content };
  }
}

/** Of all files that decide what a prepared module looks like. */
function hashOfRewriter(): string {
  const hash = createHash('sha256');
  for (const folder of ['../module/', '../gas/']) {
    const place = new URL(folder, import.meta.url);
    const names = readdirSync(place).filter((name) => /(?<!\.d)\.(js|ts)$/.test(name));
    for (const name of names.sort()) hash.update(name).update(readFileSync(new URL(name, place)));
  }
  return hash.digest('hex');
}
