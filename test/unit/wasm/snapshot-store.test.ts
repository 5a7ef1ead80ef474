import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { wasmSnapshotLimits } from '../../../src/limits.js';
import { initialImageOf } from '../../../src/wasm/snapshot/initial-image.js';
import { restoreSnapshot } from '../../../src/wasm/snapshot/restore-snapshot.js';
import { createSnapshot, type Snapshot } from '../../../src/wasm/snapshot/snapshot.js';
import { decodeSnapshot, encodeSnapshot } from '../../../src/wasm/snapshot/snapshot-codec.js';
import { SnapshotStore } from '../../../src/wasm/snapshot/snapshot-store.js';
import { compiled, imports, prepared, stateOf } from './snapshot-support.js';

const image = initialImageOf(compiled, imports);
const root = mkdtempSync(join(tmpdir(), 'iguana-snapshots-'));
afterAll(() => rmSync(root, { recursive: true }));

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(root, 'store-'));
});

/** A snapshot whose pages are filled with the given numbers: page i of the memory with the i-th; 0 is left out. */
function filled(fill: readonly number[], options: { gasUsed?: bigint; wasi?: Uint8Array<ArrayBuffer> } = {}): Snapshot {
  const instance = compiled.instantiate(imports);
  if (fill.length > 32) instance.growMemory('m0', Math.ceil((fill.length - 32) / 16));
  const memory = instance.memory('m0');
  fill.forEach((value, page) => {
    if (value === 0) return;
    // not all alike, so that pages of different numbers share no bytes to speak of
    for (let i = 0; i < 4096; i++) memory[page * 4096 + i] = (value * 31 + ((i * value) % 251)) & 255;
  });
  instance.setGlobal('g1', 2n ** 63n - 1n);
  instance.setGlobal('g2', -0);
  instance.setGlobal('g4', instance.tables!.reference('f2'));
  instance.tables!.set('t0', 3, instance.tables!.reference('f3'));
  instance.function('drop-data')();
  return createSnapshot(instance, prepared, image, options);
}

const plain = ({ pages, wasi, ...rest }: Snapshot) => ({
  ...rest,
  pages: Buffer.from(pages).toString('latin1'),
  wasi: wasi && Buffer.from(wasi).toString('latin1'),
});
const files = (kind: 'packs' | 'snapshots') =>
  readdirSync(join(directory, kind)).map((name) => join(directory, kind, name));
const [one, two, three] = [
  [1, 2, 3, 0, 4],
  [1, 2, 5],
  [6, 7, 7, 7],
].map((fill) => filled(fill));

/** Flips one bit. */
function damage(path: string, at: number): void {
  const bytes = readFileSync(path);
  const place = at < 0 ? bytes.length + at : at;
  bytes[place]! ^= 16;
  writeFileSync(path, bytes);
}

describe('in one piece', () => {
  test('what is decoded equals what was encoded', () => {
    for (const snapshot of [
      one!,
      filled([], { gasUsed: 12n }),
      filled([9], { wasi: randomBytes(5000) as Uint8Array<ArrayBuffer> }),
    ])
      expect(plain(decodeSnapshot(encodeSnapshot(snapshot)))).toEqual(plain(snapshot));
  });

  test('cut off anywhere or changed anywhere, it is refused by name', () => {
    const bytes = encodeSnapshot(filled([1]));
    const tries = [
      0,
      1,
      4,
      31,
      32,
      33,
      100,
      bytes.length - 1,
      ...Array.from({ length: 60 }, (_, i) => (i * 97) % bytes.length),
    ];
    for (const at of tries) {
      expect(() => decodeSnapshot(bytes.subarray(0, at))).toThrow(/IGU_WASM_SNAPSHOT snapshot cannot be loaded/);
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1;
      expect(() => decodeSnapshot(changed)).toThrow(/IGU_WASM_SNAPSHOT snapshot cannot be loaded/);
    }
  });
});

describe('SnapshotStore', () => {
  test('whatever a snapshot holds, another process that opens the directory loads the same', async () => {
    const store = await SnapshotStore.open(directory);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(12), { maxLength: 90 }),
        fc.option(fc.uint8Array({ maxLength: 9000 }), { nil: undefined }),
        fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }),
        async (fill, bytes, gasUsed) => {
          const wasi = bytes && { wasi: new Uint8Array(bytes) };
          const snapshot = filled(fill, { gasUsed, ...wasi });
          const id = await store.save(snapshot);
          const loaded = await (await SnapshotStore.open(directory)).load(id);
          expect(plain(loaded)).toEqual(plain(snapshot));
          const restored = restoreSnapshot(loaded, compiled, imports, image);
          expect(stateOf(restored)).toEqual(stateOf(restoreSnapshot(snapshot, compiled, imports, image)));
        },
      ),
      { numRuns: 12 },
    );
    expect(await store.verify()).toEqual([]);
  });

  test('pages that a directory has are not stored again', async () => {
    const store = await SnapshotStore.open(directory);
    const id = await store.save(one!);
    expect(await store.save(structuredClone(one!))).toBe(id);
    expect(files('packs')).toHaveLength(1);
    await store.save(two!); // pages 1 and 2 are the first one's
    const sizes = files('packs').map((path) => statSync(path).size);
    expect(sizes).toHaveLength(2);
    expect(Math.min(...sizes)).toBeLessThan(Math.max(...sizes));
    await store.save(filled([1, 2, 3, 5]));
    expect(files('packs')).toHaveLength(2);
    expect(await store.list()).toHaveLength(3);
  });

  test('the list tells what is there, oldest first', async () => {
    const store = await SnapshotStore.open(directory);
    expect(await store.list()).toEqual([]);
    const id = await store.save(filled([1, 2], { gasUsed: 5n }));
    expect(await store.list()).toEqual([
      { id, savedAt: expect.any(Number), moduleId: prepared.id, memoryBytes: 131_072, pages: 2, gasUsed: 5n },
    ]);
  });

  test('deleting frees pages that no other snapshot has, and keeps the others', async () => {
    const store = await SnapshotStore.open(directory);
    const large = filled(Array.from({ length: 40 }, (_, i) => i + 1));
    const ids = [await store.save(large), await store.save(filled([1, 2])), await store.save(three!)];
    const before = files('packs').reduce((sum, path) => sum + statSync(path).size, 0);
    await store.delete(ids[0]!);
    const after = files('packs').reduce((sum, path) => sum + statSync(path).size, 0);
    expect(after).toBeLessThan(before / 2);
    for (const [id, snapshot] of [
      [ids[1]!, filled([1, 2])],
      [ids[2]!, three!],
    ] as const)
      expect(plain(await store.load(id))).toEqual(plain(snapshot));
    await expect(store.load(ids[0]!)).rejects.toThrow(/IGU_WASM_NOT_FOUND no snapshot/);
    await store.delete(...ids);
    expect([...files('packs'), ...files('snapshots')]).toEqual([]);
    expect(await store.save(one!)).toMatch(/^[0-9a-f]{64}$/);
  });

  test("two that use one directory see each other's snapshots, and change it one after the other", async () => {
    const [a, b] = [await SnapshotStore.open(directory), await SnapshotStore.open(directory)];
    const snapshots = Array.from({ length: 8 }, (_, i) => filled([1, 2, 20 + i]));
    const ids = await Promise.all(snapshots.map((snapshot, i) => (i % 2 ? a : b).save(snapshot)));
    await Promise.all([b.delete(...ids.slice(0, 4)), a.save(one!)]);
    for (let i = 4; i < 8; i++) expect(plain(await a.load(ids[i]!))).toEqual(plain(snapshots[i]!));
    expect([await a.verify(), await b.verify()]).toEqual([[], []]);
    expect(existsSync(join(directory, 'lock'))).toBe(false);
  });

  test('a lock of a process that is gone is taken over, and what its write left is cleared away', async () => {
    const store = await SnapshotStore.open(directory);
    const gone = execFileSync(process.execPath, ['-p', 'process.pid'], { encoding: 'utf8' }).trim();
    writeFileSync(join(directory, 'lock'), `${gone} 1\n`);
    writeFileSync(join(directory, `lock.${gone}.0123456789abcdef`), `${gone} 1\n`);
    writeFileSync(join(directory, 'packs', '.tmp-0123456789abcdef'), 'half a pack');
    await store.save(one!);
    await store.collect();
    expect(files('packs')).toHaveLength(1);
    expect(readdirSync(directory).sort()).toEqual(['packs', 'snapshots']);
    // a process of the same number, but of another start, as in a container that was started again
    writeFileSync(join(directory, 'lock'), `${process.pid} 1\n`);
    expect(await store.save(one!)).toMatch(/^[0-9a-f]{64}$/);
  });

  test('what is over a limit is refused by its name', async () => {
    const store = await SnapshotStore.open(directory);
    const wasi = new Uint8Array(wasmSnapshotLimits.maxWasiBytes + 1);
    expect(() => filled([1], { wasi })).toThrow(/IGU_WASM_LIMIT WASI state of a snapshot in bytes is 268435457/);
    const memories = [{ size: 65_536, runs: new Uint32Array(0) }];
    await expect(store.save({ ...one!, memories: [...memories, ...memories] })).rejects.toThrow(
      /IGU_WASM_SNAPSHOT.*larger than/,
    );
  });

  test('what cannot be written is told', async () => {
    writeFileSync(join(directory, 'file'), '');
    await expect(SnapshotStore.open(join(directory, 'file', 'store'))).rejects.toThrow(/IGU_FILE_WRITE/);
  });
});

describe('damage', () => {
  test('is named; snapshots without it stay usable; saving again heals', async () => {
    let store = await SnapshotStore.open(directory);
    const id = await store.save(one!);
    const [pack] = files('packs');
    const other = await store.save(three!);
    damage(pack!, -10);
    await expect(store.load(id)).rejects.toThrow(
      /IGU_WASM_SNAPSHOT snapshot cannot be loaded: block 0 of pack [0-9a-f]{64} is damaged/,
    );
    expect(await store.verify()).toEqual([expect.stringMatching(/^block 0 of pack/), `snapshot ${id} lacks 4 pages`]);
    expect(plain(await store.load(other))).toEqual(plain(three!));
    await store.collect();
    await store.save(one!);
    expect(plain(await store.load(id))).toEqual(plain(one!));
    store = await SnapshotStore.open(directory);
    expect(await store.verify()).toEqual([]);
  });

  test.each([
    ['the head of a pack', 30, /a page is missing, and pack [0-9a-f]{64} has a wrong checksum/],
    ['the magic of a pack', 0, /a page is missing, and pack [0-9a-f]{64} is not a pack/],
    ['the page count of a pack', 11, /is not a pack/],
  ])('in %s is named', async (_, at, why) => {
    const id = await (await SnapshotStore.open(directory)).save(one!);
    damage(files('packs')[0]!, at);
    const store = await SnapshotStore.open(directory);
    await expect(store.load(id)).rejects.toThrow(why);
    expect((await store.verify()).length).toBe(2);
    await store.save(one!);
    expect(plain(await store.load(id))).toEqual(plain(one!));
  });

  test('in a manifest is named, and does not hide the others', async () => {
    const store = await SnapshotStore.open(directory);
    const ids = [await store.save(one!), await store.save(two!)];
    damage(join(directory, 'snapshots', `${ids[0]}.snapshot`), 50);
    await expect(store.load(ids[0]!)).rejects.toThrow(/manifest [0-9a-f]{64} has a wrong checksum/);
    expect((await store.list()).map(({ id, damage: how }) => [id, how !== undefined]).sort()).toEqual(
      [
        [ids[0]!, true],
        [ids[1]!, false],
      ].sort(),
    );
    expect(plain(await store.load(ids[1]!))).toEqual(plain(two!));
  });

  test('files cut off at any length are refused by name', async () => {
    const store = await SnapshotStore.open(directory);
    const id = await store.save(one!);
    for (const path of [...files('packs'), ...files('snapshots')]) {
      const whole = readFileSync(path);
      for (const length of [0, 1, 12, 40, Math.floor(whole.length / 2), whole.length - 1]) {
        writeFileSync(path, whole.subarray(0, length));
        await expect((await SnapshotStore.open(directory)).load(id)).rejects.toThrow(/IGU_WASM_SNAPSHOT/);
      }
      writeFileSync(path, whole);
    }
    expect(plain(await store.load(id))).toEqual(plain(one!));
  });

  test('random damage of any file is an error of ours or does no harm', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(5), fc.nat(9000), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        async (changes) => {
          directory = mkdtempSync(join(root, 'store-'));
          const ids = await saveAll(await SnapshotStore.open(directory));
          const all = [...files('packs'), ...files('snapshots')];
          for (const [file, at, value] of changes) {
            const path = all[file % all.length]!;
            const bytes = readFileSync(path);
            bytes[at % bytes.length] = value;
            writeFileSync(path, bytes);
          }
          const store = await SnapshotStore.open(directory);
          for (const [i, id] of ids.entries()) {
            const loaded = await store.load(id).catch((error: unknown) => error);
            if (loaded instanceof Error) expect(loaded.message).toMatch(/^IGU_WASM_SNAPSHOT/);
            else expect(plain(loaded as Snapshot)).toEqual(plain([one!, two!, three!][i]!));
          }
          await store.collect();
          expect(await saveAll(store)).toEqual(ids);
          // a block that nothing has read yet is found damaged when it is, and saved anew then
          const again = await store.load(ids[0]!).catch((error: unknown) => error);
          if (again instanceof Error) expect(again.message).toMatch(/^IGU_WASM_SNAPSHOT/);
          if (again instanceof Error) expect(await saveAll(store)).toEqual(ids);
          expect(plain(await store.load(ids[0]!))).toEqual(plain(one!));
        },
      ),
      {
        numRuns: 6,
        examples: [
          [
            [
              [2, 144, 0],
              [1, 0, 0],
              [4, 0, 0],
            ],
          ],
        ],
      },
    );
  });
});

describe('a hostile directory', () => {
  test('nothing outside is read: not by id, link, pipe or directory', async () => {
    const store = await SnapshotStore.open(directory);
    const id = await store.save(one!);
    for (const bad of ['../../../etc/passwd', '/etc/passwd', '', `${id}/..`, id.toUpperCase(), `${id}\0`])
      await expect(store.load(bad)).rejects.toThrow(/IGU_WASM_NOT_FOUND/);
    await expect(store.delete('../outside')).rejects.toThrow(/IGU_WASM_NOT_FOUND/);
    const outside = join(root, 'outside');
    const path = join(directory, 'snapshots', `${id}.snapshot`);
    writeFileSync(outside, readFileSync(path));
    rmSync(path);
    symlinkSync(outside, path);
    await expect(store.load(id)).rejects.toThrow(/IGU_WASM_SNAPSHOT.*is a link/);
    rmSync(path);
    mkdirSync(path);
    await expect(store.load(id)).rejects.toThrow(/IGU_WASM_SNAPSHOT.*not a plain file/);
    rmSync(path, { recursive: true });
    execFileSync('sh', ['-c', 'mkfifo "$0"', path]);
    await expect(store.load(id)).rejects.toThrow(/IGU_WASM_SNAPSHOT.*not a plain file/);
  });

  test('a manifest with a right checksum that asks for nonsense is refused', async () => {
    const store = await SnapshotStore.open(directory);
    const id = await store.save(one!);
    const manifest = readFileSync(join(directory, 'snapshots', `${id}.snapshot`));
    const names: string[] = [];
    // every word in turn becomes huge, or one more
    for (let at = 0; at + 4 <= manifest.length; at += 4)
      for (const value of [0xffffffff, manifest.readUInt32LE(at) + 1]) {
        const forged = Buffer.from(manifest);
        forged.writeUInt32LE(value >>> 0, at);
        const name = createHash('sha256').update(forged).digest('hex');
        writeFileSync(join(directory, 'snapshots', `${name}.snapshot`), forged);
        names.push(name);
      }
    let refused = 0;
    for (const name of names) {
      const loaded = await store.load(name).catch((error: unknown) => error);
      if (!(loaded instanceof Error)) {
        // what remains well-formed is checked against the module, and else is another state
        try {
          restoreSnapshot(loaded as Snapshot, compiled, imports, image);
          continue;
        } catch (error) {
          expect(String(error)).toMatch(/IGU_WASM_SNAPSHOT/);
        }
      } else expect(loaded.message).toMatch(/^IGU_WASM_SNAPSHOT/);
      refused++;
    }
    expect(refused).toBeGreaterThan(names.length / 2);
    expect(await store.list()).toHaveLength(new Set([...names, id]).size);
  });

  test('a block that expands to more than its pages is refused without being expanded', async () => {
    const store = await SnapshotStore.open(directory);
    const id = await store.save(one!);
    const [path] = files('packs');
    const head = readFileSync(path!).subarray(0, 8 + 4 + 32 * 4 + 4);
    const bomb = deflateRawSync(Buffer.alloc(10_000_000));
    head.writeUInt32LE(bomb.length, head.length - 4);
    rmSync(path!);
    const name = createHash('sha256').update(head).digest('hex');
    writeFileSync(join(directory, 'packs', `${name}.pack`), Buffer.concat([head, bomb]));
    await expect((await SnapshotStore.open(directory)).load(id)).rejects.toThrow(/block 0 of pack .* is damaged/);
  });

  test('a link in place of one of its directories is refused', async () => {
    const elsewhere = mkdtempSync(join(root, 'elsewhere-'));
    symlinkSync(elsewhere, join(directory, 'packs'));
    await expect(SnapshotStore.open(directory)).rejects.toThrow(/IGU_WASM_SNAPSHOT.*is a link, not a directory/);
  });

  test('a linked pack is not read', async () => {
    const id = await (await SnapshotStore.open(directory)).save(one!);
    const [pack] = files('packs');
    const outside = join(root, 'outside-pack');
    writeFileSync(outside, readFileSync(pack!));
    rmSync(pack!);
    symlinkSync(outside, pack!);
    await expect((await SnapshotStore.open(directory)).load(id)).rejects.toThrow(/a page is missing, and .*is a link/);
  });
});

async function saveAll(store: SnapshotStore): Promise<string[]> {
  return [await store.save(one!), await store.save(two!), await store.save(three!)];
}
