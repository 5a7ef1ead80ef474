/**
 * Modules that people use, from npm, with the packages' own JavaScript unchanged, each doing its real work: SQLite (C, Emscripten), resvg (Rust,
 * wasm-bindgen), esbuild (Go), QuickJS (C, a JavaScript engine: the way to run untrusted JavaScript as a guest). They are no dependencies of Iguana: `npm pack` fetches the pinned versions into a cache folder
 * (`IGUANA_BENCH_CACHE`, default in the system's temporary folder).
 *
 * A prepared module is run by handing its bytes to the package where the original's would go; `hostPrepared` adds what a prepared module needs of its
 * host at the one place where all glue code must pass, WebAssembly.instantiate.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packGas } from '../../dist/src/wasm/gas/packed.js';

const cache = process.env.IGUANA_BENCH_CACHE ?? join(tmpdir(), 'iguana-bench');
const require = createRequire(import.meta.url);

/** Folder of an unpacked npm package; fetched once. */
function packageFolder(name, version) {
  const folder = join(cache, `${name.replace(/[@/]/g, '_')}-${version}`);
  if (!existsSync(folder)) {
    const fresh = `${folder}.${process.pid}`;
    mkdirSync(fresh, { recursive: true });
    const archive = execFileSync('npm', ['pack', '--silent', `${name}@${version}`], { cwd: fresh, encoding: 'utf8' });
    execFileSync('tar', ['xzf', archive.trim().split('\n').at(-1), '--strip-components=1'], { cwd: fresh });
    renameSync(fresh, folder);
  }
  return folder;
}

/** A second copy of a CommonJS module with state of its own. */
function freshRequire(file) {
  delete require.cache[require.resolve(file)];
  return require(file);
}

const FULL = packGas(2 ** 42, 2 ** 19 - 1);

/**
 * Runs `load` with WebAssembly.instantiate that hosts prepared modules: adds the import module `iguana`, fills the gas and calls the start function.
 * Returns what `load` returns and the gas global of the instance that was made.
 */
export async function hostPrepared(prepared, load) {
  const original = WebAssembly.instantiate;
  let gas;
  WebAssembly.instantiate = async (source, imports) => {
    const result = await original.call(WebAssembly, source, { ...imports, iguana: { grow: () => 1 } });
    const instance = result instanceof WebAssembly.Instance ? result : result.instance;
    gas = instance.exports[prepared.gas];
    gas.value = FULL;
    if (prepared.start !== undefined) instance.exports[prepared.start]();
    return result;
  };
  try {
    const loaded = await load();
    return { loaded, refill: () => (gas.value = FULL), used: () => Number((FULL - gas.value) >> 20n) };
  } finally {
    WebAssembly.instantiate = original;
  }
}

const QUERIES = [
  'SELECT region, count(*), round(sum(price * amount), 2) FROM orders GROUP BY region ORDER BY region',
  'SELECT c.name, sum(o.amount) AS total FROM orders o JOIN customers c ON c.id = o.customer GROUP BY c.id ORDER BY total DESC, c.name LIMIT 20',
  "SELECT count(*) FROM orders WHERE note LIKE '%7%9%'",
  'SELECT id, price, avg(price) OVER (ORDER BY id ROWS 20 PRECEDING) FROM orders ORDER BY price DESC, id LIMIT 10',
  'WITH RECURSIVE n(i, x) AS (SELECT 1, 1 UNION ALL SELECT i + 1, (x * 48271) % 2147483647 FROM n WHERE i < 20000) SELECT sum(x) FROM n',
];

function sqlWork(SQL) {
  const db = new SQL.Database();
  db.run('CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)');
  db.run('CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INT, region TEXT, amount INT, price REAL, note TEXT)');
  db.run('BEGIN');
  for (let i = 0; i < 200; i++) db.run('INSERT INTO customers VALUES (?, ?)', [i, `customer ${(i * 7919) % 200}`]);
  const insert = db.prepare('INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)');
  for (let i = 0; i < 10_000; i++)
    insert.run([i, (i * 31) % 200, `region ${i % 7}`, 1 + (i % 13), ((i * 7919) % 10_007) / 100, `note ${i * 31}`]);
  insert.free();
  db.run('COMMIT');
  db.create_function('halved', (x) => x / 2);
  return () => {
    const results = QUERIES.map((query) => db.exec(query)[0].values);
    results.push(db.exec('SELECT sum(halved(amount)) FROM orders WHERE id < 500')[0].values);
    return JSON.stringify(results);
  };
}

function picture() {
  const shapes = [];
  for (let i = 0; i < 120; i++) {
    const x = (i * 37) % 600;
    const y = (i * 53) % 400;
    shapes.push(
      `<path d="M${x} ${y}c30 ${i % 50} 60 -40 90 ${i % 30}s-20 60 -60 50z" fill="url(#g${i % 3})" stroke="#${((i * 4093) % 4096).toString(16).padStart(3, '0')}" stroke-width="${1 + (i % 4)}" opacity="0.${1 + (i % 9)}"/>`,
    );
  }
  const gradients = ['red', 'green', 'navy'].map(
    (colour, i) =>
      `<linearGradient id="g${i}" x2="1" y2="${i / 2}"><stop offset="0" stop-color="${colour}"/><stop offset="1" stop-color="white"/></linearGradient>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="600" height="400"><defs>${gradients.join('')}<filter id="b"><feGaussianBlur stdDeviation="3"/></filter></defs>${shapes.join('')}<g filter="url(#b)"><circle cx="300" cy="200" r="90" fill="gold"/></g></svg>`;
}

const SCRIPT = `(() => {
  const words = {};
  for (let i = 0; i < 20000; i++) words['w' + (i * 7919) % 997] = (words['w' + (i * 7919) % 997] || 0) + i;
  let sum = 0;
  for (const word of Object.keys(words).sort()) sum = (sum * 31 + words[word]) | 0;
  const numbers = [];
  for (let i = 0; i < 20000; i++) numbers.push((i * 48271) % 65537);
  numbers.sort((a, b) => a - b);
  return sum + ':' + JSON.stringify(numbers.slice(0, 500)).replace(/1/g, 'one');
})()`;

/** `open(folder, bytes)` gives a function that does the work once and returns, or promises, a text that must be the same for the plain and the metered module. */
export const REAL_MODULES = [
  {
    name: 'sql.js',
    version: '1.16.0',
    from: 'C',
    work: `${QUERIES.length + 1} SQL queries over 10,000 rows`,
    file: 'dist/sql-wasm.wasm',
    async open(folder, bytes) {
      const init = freshRequire(join(folder, 'dist/sql-wasm.js'));
      return sqlWork(await init({ wasmBinary: bytes }));
    },
  },
  {
    name: '@resvg/resvg-wasm',
    version: '2.6.2',
    from: 'Rust',
    work: 'an SVG of 121 shapes drawn to a PNG of 600 × 400',
    file: 'index_bg.wasm',
    async open(folder, bytes) {
      const resvg = freshRequire(join(folder, 'index.js'));
      await resvg.initWasm(bytes);
      const svg = picture();
      return () => {
        const drawing = new resvg.Resvg(svg);
        const image = drawing.render();
        const text = Buffer.from(image.asPng()).toString('base64');
        image.free();
        drawing.free();
        return text;
      };
    },
  },
  {
    name: 'esbuild-wasm',
    version: '0.28.2',
    from: 'Go',
    work: '130 KB of JavaScript minified',
    file: 'esbuild.wasm',
    async open(folder, bytes) {
      globalThis.self ??= globalThis;
      const esbuild = freshRequire(join(folder, 'lib/browser.js'));
      await esbuild.initialize({ wasmModule: new WebAssembly.Module(bytes), worker: false });
      const source = readFileSync(join(folder, 'lib/browser.js'), 'utf8');
      return async () => (await esbuild.transform(source, { minify: true })).code;
    },
  },
  {
    name: 'quickjs-wasi',
    version: '3.6.2',
    from: 'C (a JavaScript engine)',
    work: 'a script: words counted, 20,000 numbers sorted, JSON, a regular expression',
    file: 'quickjs.wasm',
    async open(folder, bytes) {
      const { QuickJS } = await import(pathToFileURL(join(folder, 'dist/index.js')).href);
      const vm = await QuickJS.create({ wasm: bytes });
      return () => {
        const result = vm.evalCode(SCRIPT);
        const text = result.toString();
        result.dispose();
        return text;
      };
    },
  },
];

/** The module's bytes and its folder. @throws when it cannot be fetched */
export function realModule({ name, version, file }) {
  const folder = packageFolder(name, version);
  return { folder, bytes: new Uint8Array(readFileSync(join(folder, file))) };
}
