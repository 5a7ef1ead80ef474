import { spawn } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type BlobIdentity, BlobStore, contentHash } from '../../../src/wasm/aot/blob-store.js';
import { workerUrl } from '../../../src/worker-url.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'iguana-blobs-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const identity = (content: string, over: Partial<BlobIdentity> = {}): BlobIdentity => ({
  kind: 'cwasm',
  engine: 'engine 1.0',
  flags: '',
  content: contentHash(Buffer.from(content)),
  ...over,
});
const code = (text: string) => new TextEncoder().encode(text);
const text = (bytes: ArrayBuffer | undefined) => bytes && new TextDecoder().decode(bytes);
const payloads = () => readdirSync(directory).filter((file) => file.endsWith('.bin'));
const headers = () => readdirSync(directory).filter((file) => file.endsWith('.json'));

describe('a store of machine code', () => {
  it('gives back what was put, in this process and the next', () => {
    new BlobStore(directory).put(identity('a'), code('machine code of a'));
    const later = new BlobStore(directory);
    expect(text(later.get(identity('a')).found)).toBe('machine code of a');
    const file = later.file(identity('a')).found!;
    expect(readFileSync(file, 'utf8')).toBe('machine code of a');
    expect(later.get(identity('b'))).toMatchObject({ miss: 'absent' });
  });

  it('keeps files and key to this user', () => {
    const store = new BlobStore(directory);
    store.put(identity('a'), code('x'));
    for (const file of readdirSync(directory)) expect(statSync(join(directory, file)).mode & 0o077, file).toBe(0);
  });

  it('refuses a directory that others may write, and a key that others may read', () => {
    chmodSync(directory, 0o777);
    expect(() => new BlobStore(directory)).toThrow(/IGU_WASM_CACHE.*open to others/);
    chmodSync(directory, 0o700);
    const store = new BlobStore(directory);
    chmodSync(join(store.directory, 'key'), 0o644);
    expect(() => new BlobStore(directory)).toThrow(/IGU_WASM_CACHE.*open to others/);
  });

  it('does not believe a payload of which any one byte changed', () => {
    const store = new BlobStore(directory);
    store.put(identity('a'), code('0123456789'));
    const file = join(directory, payloads()[0]!);
    const whole = readFileSync(file);
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole);
      changed[at]! ^= 1;
      writeFileSync(file, changed);
      expect(store.get(identity('a'))).toMatchObject({ miss: 'signature' });
    }
    writeFileSync(file, whole.subarray(1));
    expect(store.get(identity('a'))).toMatchObject({ miss: 'size' });
    rmSync(file);
    expect(store.get(identity('a'))).toMatchObject({ miss: 'absent' });
  });

  it('does not believe a header that was changed, exchanged or made up', () => {
    const store = new BlobStore(directory);
    store.put(identity('a'), code('code of a'));
    const first = headers()[0]!;
    store.put(identity('b'), code('code of b'));
    const second = headers().find((file) => file !== first)!;
    const [ofA, ofB] = [first, second].map((file) => readFileSync(join(directory, file), 'utf8'));

    writeFileSync(join(directory, second), ofA!);
    expect(store.get(identity('b'))).toMatchObject({ miss: 'other-identity' });

    const forged = { ...JSON.parse(ofB!), payload: JSON.parse(ofA!).payload };
    writeFileSync(join(directory, second), JSON.stringify(forged));
    expect(store.get(identity('b'))).toMatchObject({ miss: 'signature' });

    writeFileSync(join(directory, second), JSON.stringify({ ...JSON.parse(ofB!), payload: '../../etc/passwd' }));
    expect(store.get(identity('b'))).toMatchObject({ miss: 'malformed' });
    for (const text of ['', '[]', 'null', '{"format":1}', ofB!.slice(0, -1)]) {
      writeFileSync(join(directory, second), text);
      expect(store.get(identity('b'))).toMatchObject({ miss: 'malformed' });
    }
    writeFileSync(join(directory, second), ofB!);
    expect(text(store.get(identity('b')).found)).toBe('code of b');
  });

  it('does not believe a blob signed with the key of another directory', () => {
    const other = mkdtempSync(join(tmpdir(), 'iguana-blobs-'));
    try {
      new BlobStore(other).put(identity('a'), code('from outside'));
      const store = new BlobStore(directory);
      for (const file of readdirSync(other).filter((name) => name !== 'key')) {
        writeFileSync(join(directory, file), readFileSync(join(other, file)));
      }
      expect(store.get(identity('a'))).toMatchObject({ miss: 'signature' });
    } finally {
      rmSync(other, { recursive: true, force: true });
    }
  });

  it('keeps apart what differs in kind, engine, flags or content', () => {
    const store = new BlobStore(directory);
    const variants = [
      identity('a'),
      identity('b'),
      identity('a', { kind: 'v8' }),
      identity('a', { engine: 'engine 1.1' }),
      identity('a', { flags: '--fast' }),
    ];
    variants.forEach((variant, index) => {
      store.put(variant, code(`code ${index}`));
    });
    variants.forEach((variant, index) => {
      expect(text(store.get(variant).found)).toBe(`code ${index}`);
    });
  });

  it('throws out what was used longest ago when there is no room', () => {
    const store = new BlobStore(directory, 4_000);
    const use = (name: string, secondsAgo: number) => {
      const when = Date.now() / 1000 - secondsAgo;
      for (const file of headers()) {
        if (JSON.parse(readFileSync(join(directory, file), 'utf8')).content === identity(name).content) {
          utimesSync(join(directory, file), when, when);
        }
      }
    };
    store.put(identity('a'), new Uint8Array(1_000));
    use('a', 300);
    store.put(identity('b'), new Uint8Array(1_000));
    use('b', 200);
    expect(store.get(identity('a')).found).toBeDefined(); // now the latest used
    store.put(identity('c'), new Uint8Array(1_500));
    expect(store.has(identity('b'))).toBe(false);
    expect(store.has(identity('a'))).toBe(true);
    expect(store.has(identity('c'))).toBe(true);
    expect(store.stats()).toMatchObject({ blobs: 2, evicted: 1, maxBytes: 4_000 });
    expect(store.stats().bytes).toBeLessThanOrEqual(4_000);
    expect(payloads()).toHaveLength(2);
    expect(() => store.put(identity('d'), new Uint8Array(4_001))).toThrow(/IGU_WASM_CACHE/);
    expect(readdirSync(directory).filter((file) => file.startsWith('tmp-'))).toEqual([]);
  });

  it('replaces a blob without leaving the old one', () => {
    const store = new BlobStore(directory);
    store.put(identity('a'), code('old'));
    store.put(identity('a'), code('new'));
    expect(text(store.get(identity('a')).found)).toBe('new');
    expect(payloads()).toHaveLength(1);
    store.delete(identity('a'));
    expect(readdirSync(directory)).toEqual(['key']);
  });

  it('removes what a process that died has left, once it is old', () => {
    const store = new BlobStore(directory);
    const old = store.temporary();
    const compiled = store.temporary();
    const fresh = store.temporary();
    mkdirSync(compiled);
    writeFileSync(join(compiled, 'half.c'), 'x');
    writeFileSync(old, 'x');
    writeFileSync(fresh, 'x');
    utimesSync(old, 1, 1);
    utimesSync(compiled, 1, 1);
    store.put(identity('a'), code('x'));
    const left = readdirSync(directory).map((file) => join(directory, file));
    expect(left).not.toContain(old);
    expect(left).not.toContain(compiled);
    expect(left).toContain(fresh);
  });

  it('is safe for several processes that write, read and evict at once', async () => {
    const module = fileURLToPath(
      workerUrl(new URL('../../../src/wasm/aot/x.ts', import.meta.url).href, './blob-store.js'),
    );
    const program = `
      import { BlobStore, contentHash } from ${JSON.stringify(module)};
      const store = new BlobStore(${JSON.stringify(directory)}, 20_000);
      let found = 0, wrong = 0;
      for (let i = 0; i < 150; i++) {
        const n = (i * 7 + process.pid) % 12;
        const identity = { kind: 'v8', engine: 'e', flags: '', content: contentHash(Buffer.from([n])) };
        if (i % 3 === 0) store.put(identity, new Uint8Array(2_000 + n).fill(n));
        else {
          const { found: bytes, miss } = store.get(identity);
          if (bytes) { found++; if (bytes.byteLength !== 2_000 + n || new Uint8Array(bytes).some((b) => b !== n)) wrong++; }
          else if (miss !== 'absent') wrong++;
        }
      }
      console.log(JSON.stringify({ found, wrong }));`;
    const results = await Promise.all(
      [1, 2, 3, 4].map(
        () =>
          new Promise<{ found: number; wrong: number }>((settle, reject) => {
            const child = spawn(process.execPath, ['--input-type=module', '-e', program]);
            let [out, err] = ['', ''];
            child.stdout.on('data', (data) => {
              out += data;
            });
            child.stderr.on('data', (data) => {
              err += data;
            });
            child.on('close', (exit) => (exit === 0 ? settle(JSON.parse(out)) : reject(new Error(err))));
          }),
      ),
    );
    expect(results.reduce((sum, result) => sum + result.found, 0)).toBeGreaterThan(20);
    expect(results.map((result) => result.wrong)).toEqual([0, 0, 0, 0]);
    expect(new BlobStore(directory, 20_000).stats().bytes).toBeLessThan(30_000);
  }, 20_000);
});
