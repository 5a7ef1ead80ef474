/** Functions that misbehave: each gets the documented error, and a function beside them goes on as before. */
import { existsSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { wallClock } from '../../src/clock.js';
import { functionSchema } from '../../src/functions/definition.js';
import { FunctionService } from '../../src/functions/function-service.js';
import { instanceFactories } from '../../src/functions/instance-factories.js';
import { functionLimits } from '../../src/limits.js';
import { bytesGuest } from '../support/function-guests.js';

const factories = instanceFactories({ warmWorkers: 1, wasmThreads: 2 });
const service = new FunctionService({ clock: wallClock, factory: (deployment, env) => factories.of(deployment, env) });
const marker = join(tmpdir(), `iguana-abuse-${process.pid}`);
let guest: Uint8Array;
let count = 0;

async function deploy(code: string | Uint8Array, options: object = {}): Promise<string> {
  const name = `abuser-${++count}`;
  const definition = functionSchema.parse({
    name,
    runtime: typeof code === 'string' ? 'javascript' : 'wasm',
    code: { file: 'f' },
    memoryMb: 32,
    timeoutMs: 30_000,
    ...options,
  });
  await service.deploy({ definition, code: typeof code === 'string' ? Buffer.from(code) : code });
  return name;
}

const call = async (name: string, input: unknown = null) =>
  (await service.invoke(name, { trigger: 'call', input })).output;

/** p50 of calls to the function beside, ms. */
async function beside(name: string, while_: Promise<unknown> = Promise.resolve(), least = 30): Promise<number> {
  let going = true;
  const ended = while_.finally(() => {
    going = false;
  });
  ended.catch(() => undefined);
  const times: number[] = [];
  while ((going && times.length < 5_000) || times.length < least) {
    const before = performance.now();
    expect(await call(name, times.length)).toBe(times.length);
    times.push(performance.now() - before);
  }
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
}

beforeAll(async () => {
  guest = await bytesGuest();
  const definition = functionSchema.parse({
    name: 'beside',
    runtime: 'javascript',
    code: { inline: 'x' },
    memoryMb: 32,
  });
  await service.deploy({ definition, code: Buffer.from('export const handle = ({ input }) => input;') });
  await beside('beside', undefined, 200);
}, 60_000);
afterAll(async () => {
  await service.close();
  await factories.close();
  rmSync(marker, { force: true });
});

const javascript = (body: string) => `export async function handle({ input }, context) { ${body} }`;
const LOOP = javascript('for (;;);');
const BOMB = javascript('const all = []; for (;;) all.push(new Array(1e5).fill(all.length));');
const FLOOD = javascript('for (let i = 0; i < 3e5; i++) console.log("x".repeat(1_000)); return "done";');

describe('the function beside is as fast as before while another', () => {
  it.each<[string, string | (() => Uint8Array), string, object, string]>([
    ['loops for ever (JavaScript)', LOOP, 'handle', { timeoutMs: 700 }, 'IGU_FUNCTION_TIMEOUT'],
    ['loops for ever (WebAssembly)', () => guest, 'spins', { timeoutMs: 700 }, 'IGU_FUNCTION_TIMEOUT'],
    ['takes memory without end (JavaScript)', BOMB, 'handle', {}, 'IGU_FUNCTION_MEMORY'],
    ['takes memory without end (WebAssembly)', () => guest, 'bomb', {}, 'IGU_FUNCTION_MEMORY'],
    ['floods its log (JavaScript)', FLOOD, 'handle', {}, 'done'],
    ['floods its log (WebAssembly)', () => guest, 'floods', {}, 'null'],
  ])(
    '%s',
    async (_, code, handler, options, outcome) => {
      const name = await deploy(typeof code === 'string' ? code : code(), { handler, ...options });
      // its time is not spent on waiting for an instance
      await service.prewarm(name, 1);
      const alone = await beside('beside', undefined, 100);
      const abuse = call(name).then(String, ({ code: said }: { code: string }) => said);
      const meanwhile = await beside('beside', abuse);
      expect(await abuse).toBe(outcome);
      // half of all calls within twice the time, and the few ms that a busy machine may take a thread away for
      expect(meanwhile).toBeLessThan(2 * alone + 10);
      expect(service.logs(name).length).toBeLessThanOrEqual(functionLimits.maxKeptLogLines);
    },
    60_000,
  );
});

it('a process that fills buffers, which are no part of its heap, is ended', async () => {
  const code = javascript(
    'const all = []; for (;;) { all.push(Buffer.alloc(2 ** 22, 1)); await new Promise((resolve) => setTimeout(resolve, 2)); }',
  );
  await expect(call(await deploy(code, { isolation: 'process' }))).rejects.toMatchObject({
    code: 'IGU_FUNCTION_MEMORY',
  });
}, 60_000);

describe.each(['thread', 'process'] as const)('in a %s', (isolation) => {
  it.each([
    [
      'sends a signal to Iguana',
      'process.kill(input ?? process.pid, "SIGTERM")',
      'IGU_FUNCTION_FAILED',
      /sends no signals/,
    ],
    ['ends its process', 'process.exit(0)', 'IGU_FUNCTION_CRASHED', /ended/],
    [
      'leaves a rejection to itself',
      'Promise.reject(new Error("alone")); await new Promise(() => {})',
      'IGU_FUNCTION_CRASHED',
      /./,
    ],
    [
      'throws from a timer',
      'setTimeout(() => { throw new Error("later") }); await new Promise(() => {})',
      'IGU_FUNCTION_CRASHED',
      /./,
    ],
    ['throws null', 'throw null', 'IGU_FUNCTION_FAILED', /failed: null/],
    ['throws a symbol', 'throw Symbol("odd")', 'IGU_FUNCTION_FAILED', /failed: Symbol\(odd\)/],
    ['throws what has no text', 'throw Object.create(null)', 'IGU_FUNCTION_FAILED', /Object/],
    [
      'throws an error that throws',
      'throw Object.defineProperty(new Error(), "message", { get() { throw 1 } })',
      'IGU_FUNCTION_FAILED',
      /cannot be described/,
    ],
    [
      'throws a proxy that throws',
      'throw new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 1 } })',
      'IGU_FUNCTION_FAILED',
      /./,
    ],
    ['returns a function', 'return () => 1', 'IGU_FUNCTION_FAILED', /cannot be sent/],
    ['returns a promise inside', 'return { inner: Promise.resolve(1) }', 'IGU_FUNCTION_FAILED', /cannot be sent/],
    [
      'answers 256 MB of text',
      'return "x".repeat(2 ** 28)',
      'IGU_FUNCTION_FAILED',
      /it answered 268435456 bytes or more, more than 6291456/,
    ],
    [
      'answers a buffer of 64 MB',
      'return new Uint8Array(2 ** 26).subarray(0, 1)',
      'IGU_FUNCTION_FAILED',
      /it answered/,
    ],
    ['answers a list without end', 'const a = []; a.length = 4e9; return a', 'IGU_FUNCTION_FAILED', /it answered/],
  ])(
    'what %s',
    async (_, body, code, message) => {
      const name = await deploy(javascript(body), { isolation });
      await expect(call(name)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
      expect(await call('beside', 'here')).toBe('here');
    },
    60_000,
  );

  it('what changes the prototypes of everything changes its own alone', async () => {
    const name = await deploy(
      javascript(`
        Object.prototype.polluted = 'yes'; Array.prototype.map = () => 'gone'; JSON.parse = () => 'mine';
        return JSON.parse === undefined ? 0 : Object.assign(Object.create(null), { ['__proto__']: { polluted: 'too' }, constructor: { prototype: { polluted: 1 } } });`),
      { isolation },
    );
    await call(name);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    expect([1].map((x) => x + 1)).toEqual([2]);
    expect(await call('beside', { a: [1] }).catch(() => 'failed')).toEqual({ a: [1] });
  }, 60_000);

  it('no function sees the environment, memory or events of another, or of Iguana', async () => {
    process.env.IGUANA_ABUSE_SECRET = 'of the host';
    const mine = await deploy(
      'globalThis.mine = "secret"; export const handle = ({ input }) => { globalThis.seen = input; return "kept"; };',
      { isolation, env: { TOKEN: 'of mine' } },
    );
    expect(await call(mine, 'an event')).toBe('kept');
    const other = await deploy(
      javascript(
        'return [globalThis.mine, globalThis.seen, process.env, process.argv.slice(2), Object.keys(process.env)];',
      ),
      { isolation, env: { OTHER: '1' } },
    );
    expect(await call(other)).toEqual([undefined, undefined, { OTHER: '1' }, [], ['OTHER']]);
    delete process.env.IGUANA_ABUSE_SECRET;
  }, 60_000);
});

it('a process neither reads nor writes files, nor starts programs or threads', async () => {
  const name = await deploy(
    `import fs from 'node:fs'; import { spawnSync } from 'node:child_process'; import { Worker } from 'node:worker_threads';
     const codeOf = (action) => { try { action(); return 'done'; } catch (error) { return error.code; } };
     export const handle = ({ input }) => [
       codeOf(() => fs.writeFileSync(input, 'x')), codeOf(() => fs.readFileSync('/etc/hostname')),
       codeOf(() => fs.readFileSync('../../../../../../etc/hostname')), codeOf(() => fs.readFileSync(new URL('file:///proc/self/environ'))),
       codeOf(() => fs.readdirSync('/')), codeOf(() => fs.symlinkSync('/etc', input)),
       codeOf(() => spawnSync('touch', [input])), codeOf(() => new Worker('1', { eval: true })),
     ];`,
    { isolation: 'process' },
  );
  expect(await call(name, marker)).toEqual(Array(8).fill('ERR_ACCESS_DENIED'));
  expect(existsSync(marker)).toBe(false);
}, 60_000);
