import { afterEach, describe, expect, test } from 'vitest';
import { IguanaError } from '../../../src/errors.js';
import type { AnswerSink } from '../../../src/functions/invocation.js';
import { JavaScriptInstance } from '../../../src/functions/javascript/javascript-instance.js';
import { httpAnswerLimits } from '../../../src/limits.js';

const started: JavaScriptInstance[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((instance) => instance.close()));
});

async function instanceOf(code: string, isolation: 'thread' | 'process') {
  const instance = await JavaScriptInstance.start(64, isolation);
  started.push(instance);
  await instance.load({ name: 'f', code, handler: 'handle', env: {} });
  return (answer: AnswerSink | undefined, signal?: AbortSignal) =>
    instance.invoke(
      { trigger: 'call', input: 0 },
      { function: 'f', version: 1, invocationId: 'i', attempt: 1, deadline: Date.now() + 10_000 },
      signal,
      answer,
    );
}

/** Keeps what comes; `gate` holds every piece back until it resolves. */
function kept(gate: () => Promise<void> | undefined = () => undefined) {
  const seen = { heads: [] as unknown[], text: '', bytes: 0 };
  const answer: AnswerSink = {
    begin: (head) => void seen.heads.push(head),
    write: (piece) => {
      seen.text += Buffer.from(piece).toString('latin1').slice(0, 100);
      seen.bytes += piece.byteLength;
      return gate();
    },
  };
  return { seen, answer };
}

const ENDLESS = `
  export let made = 0, ended = false;
  const piece = new Uint8Array(65_536);
  export async function handle(event, context) {
    if (globalThis.made !== undefined) return { made: globalThis.made, ended: globalThis.ended };
    globalThis.made = 0;
    return (async function* () {
      try { for (;;) { globalThis.made += piece.length; yield piece; } } finally { globalThis.ended = true; }
    })();
  }`;

describe.each(['thread', 'process'] as const)('an answer in pieces from a %s', (isolation) => {
  test('comes in order: text, bytes, and other values as lines of JSON', async () => {
    const call = await instanceOf(
      `export const handle = () => ({ statusCode: 201, headers: { 'x-a': 'b' }, body: (async function* () {
        yield 'one '; yield new Uint8Array([50, 32]).subarray(0, 2); yield { three: 3 };
      })() });`,
      isolation,
    );
    const { seen, answer } = kept();
    const { output, durationMs } = await call(answer);
    expect(output).toBeUndefined();
    expect(durationMs).toBeGreaterThan(0);
    expect(seen).toMatchObject({ heads: [{ statusCode: 201, headers: { 'x-a': 'b' } }], text: 'one 2 {"three":3}\n' });
  });

  test('can be a web stream', async () => {
    const call = await instanceOf(`export const handle = () => new Blob(['a'.repeat(10), 'b']).stream();`, isolation);
    const { seen, answer } = kept();
    await call(answer);
    expect(seen).toEqual({ heads: [{}], text: 'aaaaaaaaaab', bytes: 11 });
  });

  test('waits for its reader, and ends when there is none', async () => {
    const call = await instanceOf(ENDLESS, isolation);
    const { seen, answer } = kept(() => new Promise(() => undefined));
    const gone = new AbortController();
    const endless = call(answer, gone.signal);
    await expect.poll(() => seen.bytes).toBe(65_536);
    const state = async () => (await call(undefined)).output as { made: number; ended: boolean };
    await expect.poll(async () => (await state()).made).toBe(httpAnswerLimits.streamWindowBytes);
    gone.abort();
    await expect(endless).rejects.toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    await expect.poll(async () => (await state()).ended).toBe(true);
    expect((await state()).made).toBe(httpAnswerLimits.streamWindowBytes);
  });

  test('ends with the error of what threw: the function in the middle, or its reader', async () => {
    const call = await instanceOf(
      `export const handle = () => (async function* () { yield 'a'; throw new Error('no more'); })();`,
      isolation,
    );
    const { seen, answer } = kept();
    await expect(call(answer)).rejects.toMatchObject({ code: 'IGU_FUNCTION_FAILED', details: { what: 'no more' } });
    expect(seen.text).toBe('a');
    const refusing: AnswerSink = {
      begin: () => {
        throw new IguanaError('IGU_FUNCTION_ANSWER', { name: 'f', what: 'bad' });
      },
      write: () => undefined,
    };
    await expect(call(refusing)).rejects.toMatchObject({ code: 'IGU_FUNCTION_ANSWER' });
  });

  test('that cannot be given holds its place until the function has ended', async () => {
    const call = await instanceOf(
      `let calls = 0, go; const gone = new Promise((resolve) => { go = resolve; });
       const later = async function* () { await gone; yield 'late'; };
       export const handle = () => [() => later(), () => 'beside it', () => go()][calls++]();`,
      isolation,
    );
    const { seen, answer } = kept();
    let begun = false;
    const begin = () => {
      begun = true;
      throw new IguanaError('IGU_FUNCTION_ANSWER', { name: 'f', what: 'bad' });
    };
    let settled = false;
    const refused = call({ ...answer, begin }).finally(() => {
      settled = true;
    });
    await expect.poll(() => begun).toBe(true);
    expect((await call(undefined)).output).toBe('beside it');
    expect(settled).toBe(false);
    await call(undefined);
    await expect(refused).rejects.toMatchObject({ code: 'IGU_FUNCTION_ANSWER' });
    expect(seen.text).toBe('');
  });

  test('is an error where nobody takes pieces', async () => {
    const call = await instanceOf('export const handle = async function* () { yield 1; };', isolation);
    await expect(call(undefined)).rejects.toMatchObject({ code: 'IGU_FUNCTION_FAILED' });
  });
});

describe('calls that are sent together', () => {
  async function three(code: string, inputs: readonly unknown[]) {
    const instance = await JavaScriptInstance.start(64, 'thread');
    started.push(instance);
    await instance.load({ name: 'f', code, handler: 'handle', env: {} });
    const context = { function: 'f', version: 1, invocationId: 'i', attempt: 1, deadline: Date.now() + 10_000 };
    const calls = inputs.map((input) => instance.invoke({ trigger: 'call', input }, context));
    const done = await Promise.allSettled(calls);
    return done.map((one) => (one.status === 'fulfilled' ? one.value.output : (one.reason as IguanaError).code));
  }

  test('do not suffer from one whose answer cannot be sent', async () => {
    const code = 'export const handle = ({ input }) => (input === 2 ? () => 1 : input);';
    expect(await three(code, [1, 2, 3, 2, 5])).toEqual([1, 'IGU_FUNCTION_FAILED', 3, 'IGU_FUNCTION_FAILED', 5]);
  });

  test('do not suffer from one whose event cannot be sent', async () => {
    const code = 'export const handle = ({ input }) => input;';
    expect(await three(code, [1, () => 1, 3])).toEqual([1, 'IGU_FUNCTION_FAILED', 3]);
  });

  test('end when their function speaks to the host in its own words', async () => {
    const code = `import { parentPort } from 'node:worker_threads';
      export const handle = () => { parentPort.postMessage(null); return new Promise(() => undefined); };`;
    expect(await three(code, [1])).toEqual(['IGU_FUNCTION_CRASHED']);
  });
});
