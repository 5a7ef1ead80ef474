/**
 * A pack: pages of snapshots in one compressed file, so that a store has few files. Layout, little-endian: magic,
 * number of pages, hash of every page, stored length of every block, and the blocks: up to 64 pages each, compressed
 * together. The file's name is the SHA-256 of everything before the blocks; every page is checked against its own hash.
 *
 * Measured on the heap of a C program (1.5 MiB: trees, small JSON texts): blocks of 64 pages shrink 3.6 times with
 * deflate level 1 (about 100 MB/s; back at 200 to 500), 3.7 with level 3, 3.9 with 6 (33 MB/s), 3.6 with brotli 1 and
 * 4.0 with brotli 4 (26 MB/s, back at 140). Each page alone: 3.3 times, at a fifth of the speed. So: level 1, by 64.
 */
import { hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { promisify } from 'node:util';
import { deflateRaw, inflateRaw } from 'node:zlib';
import { IguanaError } from '../../errors.js';
import { wasmSnapshotLimits } from '../../limits.js';
import { SNAPSHOT_PAGE } from './page-scan.js';
import { damaged } from './snapshot-codec.js';
import { openPlain, readExactly } from './store-files.js';

const MAGIC = Buffer.from('IGUPACK1');
const HASH = 32;
const BLOCK_PAGES = 64;
/** In a stored length: the block would not shrink and stands as it is. */
const PLAIN = 0x8000_0000;

const compress = promisify<Uint8Array, { level: number }, Buffer>(deflateRaw);
const expand = promisify<Uint8Array, { maxOutputLength: number }, Buffer>(inflateRaw);

/** SHA-256 of a page as a string of 32 characters: the key under which it is known. */
export function hashOf(page: Uint8Array): string {
  return hash('sha256', page, 'buffer').toString('latin1');
}

/** What is known of a pack without reading its blocks. */
export interface Pack {
  readonly name: string;
  readonly hashes: readonly string[];
  /** Where each block begins, and the last one ends. */
  readonly offsets: readonly number[];
  /** For each block: not compressed. */
  readonly plain: readonly boolean[];
  /** Blocks found damaged. */
  readonly bad: Set<number>;
}

export function blockOf(page: number): number {
  return Math.floor(page / BLOCK_PAGES);
}

export async function buildPack(
  hashes: readonly string[],
  page: (i: number) => Uint8Array,
): Promise<{ pack: Pack; chunks: Uint8Array[] }> {
  const count = hashes.length;
  const blocks: Buffer[] = [];
  const plain: boolean[] = [];
  for (let first = 0; first < count; first += BLOCK_PAGES) {
    const parts: Uint8Array[] = [];
    for (let i = first; i < Math.min(first + BLOCK_PAGES, count); i++) parts.push(page(i));
    const raw = Buffer.concat(parts);
    const small = await compress(raw, { level: 1 });
    plain.push(small.length >= raw.length);
    blocks.push(small.length >= raw.length ? raw : small);
  }
  const head = Buffer.alloc(headLength(count));
  MAGIC.copy(head);
  head.writeUInt32LE(count, MAGIC.length);
  hashes.forEach((one, i) => {
    head.write(one, MAGIC.length + 4 + HASH * i, 'latin1');
  });
  const offsets = [head.length];
  blocks.forEach((block, i) => {
    head.writeUInt32LE((block.length | (plain[i] ? PLAIN : 0)) >>> 0, MAGIC.length + 4 + HASH * count + 4 * i);
    offsets.push(offsets[i]! + block.length);
  });
  const pack = { name: hash('sha256', head, 'hex'), hashes, offsets, plain, bad: new Set<number>() };
  return { pack, chunks: [head, ...blocks] };
}

/**
 * @throws IguanaError `IGU_WASM_SNAPSHOT` when the file is no pack, or damaged before its blocks, or of another length
 * than it says.
 */
export async function readPack(path: string, name: string): Promise<Pack> {
  const { file, size } = await openPlain(path);
  try {
    const start = await readExactly(file, 0, Math.min(size, MAGIC.length + 4));
    const count =
      start.length === MAGIC.length + 4 && start.indexOf(MAGIC) === 0 ? start.readUInt32LE(MAGIC.length) : 0;
    if (count === 0 || count > wasmSnapshotLimits.maxPackPages || headLength(count) > size)
      throw damaged(`pack ${name} is not a pack`);
    const head = await readExactly(file, 0, headLength(count));
    if (hash('sha256', head, 'hex') !== name) throw damaged(`pack ${name} has a wrong checksum`);
    const hashes: string[] = [];
    let at = MAGIC.length + 4;
    for (let i = 0; i < count; i++, at += HASH) hashes.push(head.toString('latin1', at, at + HASH));
    const offsets = [head.length];
    const plain: boolean[] = [];
    for (; at < head.length; at += 4) {
      const stored = head.readUInt32LE(at);
      plain.push((stored & PLAIN) !== 0);
      offsets.push(offsets.at(-1)! + (stored & ~PLAIN));
    }
    if (offsets.at(-1) !== size) throw damaged(`pack ${name} has ${size} bytes instead of ${offsets.at(-1)}`);
    return { name, hashes, offsets, plain, bad: new Set() };
  } finally {
    await file.close();
  }
}

/**
 * The pages of one block, all checked.
 * @throws IguanaError `IGU_WASM_SNAPSHOT` naming the pack; the block is then noted as bad.
 */
export async function readBlock(file: FileHandle, pack: Pack, block: number): Promise<Buffer> {
  const first = block * BLOCK_PAGES;
  const count = Math.min(BLOCK_PAGES, pack.hashes.length - first);
  const from = pack.offsets[block]!;
  const length = pack.offsets[block + 1]! - from;
  try {
    if (length > count * SNAPSHOT_PAGE) throw damaged('a block is longer than its pages');
    const stored = await readExactly(file, from, length);
    const pages = pack.plain[block] ? stored : await expand(stored, { maxOutputLength: count * SNAPSHOT_PAGE });
    if (pages.length !== count * SNAPSHOT_PAGE) throw damaged('a block is shorter than its pages');
    for (let i = 0; i < count; i++)
      if (hashOf(pages.subarray(i * SNAPSHOT_PAGE, (i + 1) * SNAPSHOT_PAGE)) !== pack.hashes[first + i])
        throw damaged('a page has another hash');
    return pages;
  } catch (error) {
    pack.bad.add(block);
    const why = error instanceof IguanaError ? error.details.why : 'it cannot be expanded';
    throw damaged(`block ${block} of pack ${pack.name} is damaged (${why})`, error);
  }
}

/** Place of a page in what `readBlock` gave. */
export function pageIn(pages: Buffer, page: number): Buffer {
  const start = (page % BLOCK_PAGES) * SNAPSHOT_PAGE;
  return pages.subarray(start, start + SNAPSHOT_PAGE);
}

function headLength(pages: number): number {
  return MAGIC.length + 4 + HASH * pages + 4 * Math.ceil(pages / BLOCK_PAGES);
}
