import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  fstatSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmAotLimits } from '../../limits.js';
import { makeDirectories } from '../../make-directories.js';

/** What machine code was made from and for. All of it must be equal, or the code is not used. */
export interface BlobIdentity {
  /** `v8`: V8's serialised module; `cwasm`: Wasmtime's; `shared-object`: what a C compiler made; `prepared`: a module as the rewriter made it. */
  readonly kind: 'v8' | 'cwasm' | 'shared-object' | 'prepared';
  /** Engine or compiler with its exact version. */
  readonly engine: string;
  /** Every option that changes the code. */
  readonly flags: string;
  /** SHA-256 of the WebAssembly bytes, hex. */
  readonly content: string;
}

/** Why there is no blob. `absent`: none was kept, or it was evicted; the others mean that one was there and not believed. */
export type BlobMiss = 'absent' | 'malformed' | 'other-identity' | 'size' | 'signature' | 'unreadable';

export type BlobResult<T> =
  | { readonly found: T }
  | { readonly found?: never; readonly miss: BlobMiss; readonly why: string };

interface Header extends BlobIdentity {
  readonly format: number;
  readonly platform: string;
  readonly payload: string;
  readonly size: number;
}

const format = 1;
const platform = `${process.platform}-${process.arch}`;
const headerSuffix = '.json';
const payloadSuffix = '.bin';
const temporaryPrefix = 'tmp-';

/** SHA-256 of module bytes, hex: what identities and file names are made of. Cost: 1 ms a MB. */
export function contentHash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Where machine code is kept when nobody says where: `$XDG_CACHE_HOME/iguana/code`. */
export function codeDirectory(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'iguana', 'code');
}

/**
 * Machine code on disk, for the process that made it and its like: a directory that only this user may write, a key that never leaves it, and on every
 * file an HMAC-SHA256 over what it is and what it holds. Whoever can write the directory and read the key can run code here; nobody else can. There is no
 * way to put a signed blob in from outside.
 *
 * A blob is two files: the payload as it is, so that an engine can map it, and a header that names it. The header is renamed into place last, hence
 * several processes may write and evict at once: a reader finds a whole blob or none. Room is bounded; the blob used longest ago goes first.
 */
export class BlobStore {
  readonly directory: string;
  readonly #key: Buffer;
  readonly #maxBytes: number;
  #evicted = 0;

  /**
   * @param directory made when it is not there (mode 0700)
   * @param maxBytes of all blobs together (default 2 GiB)
   * @throws IguanaError `IGU_WASM_CACHE` when the directory or its key belongs to another user or others may write or read it
   */
  constructor(directory: string, maxBytes: number = wasmAotLimits.maxBytes) {
    this.directory = resolve(directory);
    this.#maxBytes = maxBytes;
    try {
      makeDirectories(this.directory, 0o700);
      checkOwn(this.directory, 0o022);
      this.#key = this.#readKey();
    } catch (error) {
      throw cacheError(this.directory, error);
    }
  }

  /** The blob's bytes, once their signature has been checked. Cost: 1 ms a MB. */
  get(identity: BlobIdentity): BlobResult<ArrayBuffer> {
    const name = nameOf(identity);
    let header: Header;
    let bytes: ArrayBuffer;
    let mac: string;
    try {
      const text = readFileSync(join(this.directory, name + headerSuffix), 'utf8');
      const parsed = parseHeader(text);
      if (!parsed) return miss('malformed', 'the header is not one');
      ({ header, mac } = parsed);
      if (!sameIdentity(header, identity)) return miss('other-identity', 'the header is of other code');
      bytes = readWhole(join(this.directory, header.payload), header.size);
    } catch (error) {
      if (isAbsent(error)) return miss('absent', 'none was kept');
      if (error instanceof SizeError) return miss('size', error.message);
      return miss('unreadable', messageOf(error));
    }
    if (!equalHex(mac, this.#sign(header, new Uint8Array(bytes)))) {
      return miss('signature', 'the signature is not ours');
    }
    this.#touch(name);
    return { found: bytes };
  }

  /** Path of the blob's payload, once its signature has been checked, for an engine that maps files. Cost: as `get`. */
  file(identity: BlobIdentity): BlobResult<string> {
    const result = this.get(identity);
    if (!result.found) return result;
    const parsed = parseHeader(readFileSync(join(this.directory, nameOf(identity) + headerSuffix), 'utf8'));
    return parsed ? { found: join(this.directory, parsed.header.payload) } : miss('malformed', 'the header is not one');
  }

  has(identity: BlobIdentity): boolean {
    return statSync(join(this.directory, nameOf(identity) + headerSuffix), { throwIfNoEntry: false }) !== undefined;
  }

  /**
   * Keeps machine code that this process, or a child it started, has just made. Never hand on what came from elsewhere.
   * @throws IguanaError `IGU_WASM_CACHE` when it cannot be written or is larger than everything that may be kept
   */
  put(identity: BlobIdentity, bytes: Uint8Array): void {
    const temporary = this.temporary();
    try {
      writeFileSync(temporary, bytes, { mode: 0o600, flag: 'wx' });
    } catch (error) {
      rmSync(temporary, { force: true });
      throw cacheError(this.directory, error);
    }
    this.adopt(identity, temporary);
  }

  /** A file name in the directory for a compiler to write to, then `adopt` it. Left behind, it goes after an hour. */
  temporary(suffix = ''): string {
    return join(this.directory, `${temporaryPrefix}${process.pid}-${randomBytes(8).toString('hex')}${suffix}`);
  }

  /** As `put`, for a file made by a child of ours under a name from `temporary`; its size in bytes. */
  adopt(identity: BlobIdentity, temporary: string): number {
    const name = nameOf(identity);
    const payload = `${name}-${randomBytes(6).toString('hex')}${payloadSuffix}`;
    const headerFile = join(this.directory, name + headerSuffix);
    try {
      const bytes = readFileSync(temporary);
      if (bytes.length > this.#maxBytes) throw new Error(`${bytes.length} bytes, more than the ${this.#maxBytes} kept`);
      const header = headerOf(identity, payload, bytes.length);
      const before = parseHeader(readIfThere(headerFile));
      chmodSync(temporary, 0o600);
      renameSync(temporary, join(this.directory, payload));
      const signed = this.temporary();
      writeFileSync(signed, JSON.stringify({ ...header, mac: this.#sign(header, bytes) }), { mode: 0o600, flag: 'wx' });
      renameSync(signed, headerFile);
      if (before) rmSync(join(this.directory, before.header.payload), { force: true });
      this.#evict(name);
      return bytes.length;
    } catch (error) {
      rmSync(temporary, { force: true });
      throw cacheError(this.directory, error);
    }
  }

  delete(identity: BlobIdentity): void {
    this.#remove(nameOf(identity));
  }

  /** Reads the directory. */
  stats(): { readonly blobs: number; readonly bytes: number; readonly maxBytes: number; readonly evicted: number } {
    const entries = this.#entries().blobs;
    return {
      blobs: entries.length,
      bytes: entries.reduce((sum, entry) => sum + entry.bytes, 0),
      maxBytes: this.#maxBytes,
      evicted: this.#evicted,
    };
  }

  #sign(header: Header, payload: Uint8Array): string {
    const { format, platform, kind, engine, flags, content, payload: file, size } = header;
    const said = JSON.stringify([format, platform, kind, engine, flags, content, file, size]);
    return createHmac('sha256', this.#key).update(said).update('\n').update(payload).digest('hex');
  }

  /** The first process to link its key in has made the key of all. */
  #readKey(): Buffer {
    const file = join(this.directory, 'key');
    if (!statSync(file, { throwIfNoEntry: false })) {
      const temporary = this.temporary();
      writeFileSync(temporary, randomBytes(32), { mode: 0o600, flag: 'wx' });
      try {
        linkSync(temporary, file);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      } finally {
        rmSync(temporary, { force: true });
      }
    }
    checkOwn(file, 0o077);
    const key = readFileSync(file);
    if (key.length !== 32) throw new Error(`${file} is not a key`);
    return key;
  }

  /** Time of last use is the header's time of change. */
  #touch(name: string): void {
    const now = new Date();
    try {
      utimesSync(join(this.directory, name + headerSuffix), now, now);
    } catch (error) {
      // evicted by another process in this moment, or the disk is for reading only: the bytes are read already
      if (!isAbsent(error) && (error as NodeJS.ErrnoException).code !== 'EROFS') throw error;
    }
  }

  #remove(name: string): void {
    const file = join(this.directory, name + headerSuffix);
    const parsed = parseHeader(readIfThere(file));
    rmSync(file, { force: true });
    if (parsed) rmSync(join(this.directory, parsed.header.payload), { force: true });
  }

  #entries() {
    const blobs: { name: string; usedMs: number; bytes: number }[] = [];
    const loose: string[] = [];
    const named = new Set<string>();
    const files = readdirSync(this.directory);
    for (const file of files) {
      if (!file.endsWith(headerSuffix)) continue;
      const path = join(this.directory, file);
      const parsed = parseHeader(readIfThere(path));
      const stat = statSync(path, { throwIfNoEntry: false });
      if (!stat) continue;
      if (parsed) named.add(parsed.header.payload);
      blobs.push({
        name: file.slice(0, -headerSuffix.length),
        usedMs: stat.mtimeMs,
        bytes: stat.size + (parsed?.header.size ?? 0),
      });
    }
    for (const file of files) {
      if (file.startsWith(temporaryPrefix) || (file.endsWith(payloadSuffix) && !named.has(file))) loose.push(file);
    }
    return { blobs, loose };
  }

  /** Throws out the blobs used longest ago, and what processes that died have left. */
  #evict(keep: string): void {
    const { blobs, loose } = this.#entries();
    let bytes = blobs.reduce((sum, entry) => sum + entry.bytes, 0);
    let left = blobs.length;
    for (const entry of blobs.sort((a, b) => a.usedMs - b.usedMs)) {
      if (bytes <= this.#maxBytes && left <= wasmAotLimits.maxBlobs) break;
      if (entry.name === keep) continue;
      this.#remove(entry.name);
      this.#evicted++;
      bytes -= entry.bytes;
      left--;
    }
    for (const file of loose) {
      const path = join(this.directory, file);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat && Date.now() - stat.mtimeMs > wasmAotLimits.looseFileMs) rmSync(path, { force: true, recursive: true });
    }
  }
}

class SizeError extends Error {}

function miss(kind: BlobMiss, why: string): { readonly miss: BlobMiss; readonly why: string } {
  return { miss: kind, why };
}

function nameOf({ kind, engine, flags, content }: BlobIdentity): string {
  return createHash('sha256')
    .update(JSON.stringify([platform, kind, engine, flags, content]))
    .digest('hex')
    .slice(0, 40);
}

function headerOf({ kind, engine, flags, content }: BlobIdentity, payload: string, size: number): Header {
  return { format, platform, kind, engine, flags, content, payload, size };
}

function sameIdentity(header: Header, identity: BlobIdentity): boolean {
  return (
    header.format === format &&
    header.platform === platform &&
    header.kind === identity.kind &&
    header.engine === identity.engine &&
    header.flags === identity.flags &&
    header.content === identity.content
  );
}

/** A payload's name is one of ours, never a path. */
function parseHeader(text: string | undefined): { header: Header; mac: string } | undefined {
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { mac, ...header } = value as Partial<Header> & { mac?: unknown };
  const strings = [header.platform, header.kind, header.engine, header.flags, header.content, mac];
  if (strings.some((field) => typeof field !== 'string')) return undefined;
  if (typeof header.payload !== 'string' || !/^[0-9a-f]{40}-[0-9a-f]{12}\.bin$/.test(header.payload)) return undefined;
  if (!Number.isSafeInteger(header.size) || header.size! < 0 || header.format !== format) return undefined;
  return { header: header as Header, mac: mac as string };
}

function readWhole(path: string, size: number): ArrayBuffer {
  const file = openSync(path, 'r');
  try {
    const actual = fstatSync(file).size;
    if (actual !== size) throw new SizeError(`${actual} bytes where the header says ${size}`);
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; ) {
      const read = readSync(file, bytes, at, size - at, at);
      if (read === 0) throw new SizeError(`ends after ${at} of ${size} bytes`);
      at += read;
    }
    return bytes.buffer;
  } finally {
    closeSync(file);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

function checkOwn(path: string, forbidden: number): void {
  const stat = statSync(path);
  const user = process.getuid?.();
  if (user === undefined) return; // no such bits on this system
  if (stat.uid !== user) throw new Error(`${path} belongs to another user`);
  if (stat.mode & forbidden) throw new Error(`${path} is open to others (mode ${(stat.mode & 0o777).toString(8)})`);
}

function equalHex(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a, 'hex'), Buffer.from(b, 'hex')];
  return left.length === right.length && timingSafeEqual(left, right);
}

function isAbsent(error: unknown): boolean {
  return (error as NodeJS.ErrnoException)?.code === 'ENOENT';
}

function cacheError(directory: string, error: unknown): IguanaError {
  return new IguanaError('IGU_WASM_CACHE', { path: directory, what: messageOf(error) }, { cause: error });
}
