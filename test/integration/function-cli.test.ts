import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { functionCommand } from '../../src/cli/function.js';
import { commandHere } from '../support/command-here.js';
import { until } from '../support/kafka.js';

const main = path.resolve('dist/src/cli/main.js');
const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-function-'));
const running: ChildProcess[] = [];
let url: string;

interface Event {
  readonly event: string;
  readonly page?: string;
  readonly functions?: string;
  readonly what?: string;
  readonly why?: string;
}

/** `iguana start` in the folder, on the same data. */
async function start(): Promise<{ child: ChildProcess; events: Event[]; started: Event }> {
  const child = spawn(
    process.execPath,
    [main, 'start', '--json', '--port', '0', '--broker-port', '0', '--data', 'data'],
    {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, IGUANA_SECRET_GREETING: 'hidden hello' },
    },
  );
  running.push(child);
  const events: Event[] = [];
  let rest = '';
  child.stdout.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) events.push(JSON.parse(line) as Event);
  });
  const started = await until('the banner', () => events.find((e) => e.event === 'started'), 30_000);
  url = started.page!;
  return { child, events, started };
}

async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<unknown> {
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  return gone;
}

/** `iguana function …` against what runs. */
const iguana = (...args: string[]) => commandHere(functionCommand, args, { IGUANA_URL: url });

function write(name: string, text: string): void {
  mkdirSync(path.join(folder, path.dirname(name)), { recursive: true });
  writeFileSync(path.join(folder, name), text);
}

const at = (name: string) => path.join(folder, name);
const json = async (...args: string[]) => {
  const { code, out, err } = await iguana(...args, '--json');
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return JSON.parse(out);
};

beforeAll(async () => {
  write('functions/greet.js', "export const handle = ({ input }) => process.env.GREETING + ', ' + input;\n");
  write(
    'functions/greet.yaml',
    'name: greet\nruntime: javascript\nmemoryMb: 64\ncode: { file: greet.js }\nsecrets: { GREETING: greeting }\n',
  );
});

afterAll(async () => {
  for (const child of running) if (child.exitCode === null && child.signalCode === null) await stop(child, 'SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

describe('iguana function', () => {
  test('definitions in the directory are deployed; what the command line deploys is called, shown and billed, and survives kill -9', async () => {
    const first = await start();
    expect(first.started.functions).toBe('greet');
    expect((await iguana('invoke', 'greet', '--input', '"Ada"')).out).toBe('hidden hello, Ada\n');
    expect(statSync(path.join(folder, 'data', 'usage.key')).mode & 0o777).toBe(0o600);

    write(
      'sum.ts',
      'export const handle = ({ body }: { body: number[] }) => ({ sum: body.reduce((a, b) => a + b, 0) });\n',
    );
    const created = await iguana(
      'create',
      'sum',
      '--code',
      at('sum.ts'),
      '--memory',
      '64',
      '--trigger',
      'http:POST:/sum',
    );
    expect(created).toMatchObject({
      code: 0,
      out: `sum version 1 is deployed\n  http:POST:/sum  ${url}/functions/sum\n`,
    });
    const answer = await fetch(`${url}/functions/sum`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '[1, 2, 39]',
    });
    expect(await answer.json()).toEqual({ sum: 42 });
    const result = await json('invoke', 'greet', '--input', '"again"');
    expect(result).toMatchObject({ output: 'hidden hello, again', cold: false });
    const id = (await iguana('invoke', 'greet', '--input', '1', '--async')).out.trim();
    await until('the call', async () => (await json('call', 'greet', id)).state === 'succeeded');

    const list = (await iguana('list')).out;
    expect(list).toMatch(/^greet +1 +javascript +64 +3 +[12] +active$/m);
    expect(list).toMatch(/^sum .* active +http:POST:\/sum$/m);
    expect(await json('metrics', 'greet')).toMatchObject({ totalInvocations: 3, successfulInvocations: 3 });
    expect((await iguana('metrics', 'greet')).out).toMatch(/calls +3, of them 3 succeeded/);
    expect(await json('billing', 'greet')).toMatchObject({ invocationCount: 3 });
    expect((await iguana('billing', 'greet')).out).toMatch(/cost +0\.0000\d+ USD/);
    expect(await iguana('alias', 'greet', 'live', '1')).toMatchObject({ code: 0, err: '' });
    expect((await iguana('invoke', 'greet', '--input', '2', '--qualifier', 'live')).out).toBe('hidden hello, 2\n');
    expect((await iguana('invoke', 'greet:live', '--input', '2')).out).toBe('hidden hello, 2\n');
    expect((await iguana('alias', 'greet', 'old', '1')).code).toBe(0);
    expect((await iguana('alias', 'greet', 'old', '--delete')).out).toBe('old of greet is removed\n');
    expect((await iguana('alias', 'greet', 'old', '--delete')).err).toMatch(/no alias of greet named old; it has live/);
    const lines = "console.warn('saw', input); if (input > 1) throw new Error('too much'); console.log('well');";
    write('talks.js', `export const handle = ({ input }) => { ${lines} return input; };\n`);
    expect((await iguana('create', 'talks', '--code', at('talks.js'))).code).toBe(0);
    const failed = await iguana('invoke', 'talks', '--input', '2');
    expect(failed).toMatchObject({ code: 1, out: '' });
    expect(failed.err).toMatch(
      /^warn saw 2\nError: too much\n {4}at handle .*\nIGU_FUNCTION_FAILED talks failed: too much; .*/,
    );
    const { invocationId } = await json('invoke', 'talks', '--input', '1');
    const logged = await iguana('logs', 'talks', '--call', invocationId.slice(0, 8), '--json');
    expect(logged.out.split('\n').flatMap((line) => (line ? [JSON.parse(line)] : []))).toEqual([
      { at: expect.any(Number), invocationId, level: 'warn', line: 'warn saw 1' },
      { at: expect.any(Number), invocationId, level: 'info', line: 'info well' },
    ]);
    expect((await iguana('logs', 'talks', '--call', invocationId)).out).toMatch(
      new RegExp(`^[^ ]+ ${invocationId.slice(0, 8)} saw 1\n[^ ]+ ${invocationId.slice(0, 8)} well\n$`),
    );
    expect(await iguana('logs', 'talks', '--call', 'none')).toMatchObject({
      ...{ code: 1, out: '' },
      err: expect.stringMatching(/^IGU_NOT_FOUND no call of talks with a line in its log named none; /),
    });
    expect((await iguana('delete', 'talks')).code).toBe(0);
    expect((await iguana('pause', 'sum')).out).toBe('sum is paused\n');
    expect((await iguana('list')).out).toMatch(/^sum .* paused +http:POST:\/sum$/m);
    expect((await iguana('metrics', 'sum')).out).toMatch(
      /^ *paused +stream, queue, timer and event triggers do nothing$/m,
    );
    const paused = ((await json('list')) as { name: string; paused: boolean }[]).map((one) => [one.name, one.paused]);
    expect(new Map(paused as [string, boolean][])).toEqual(
      new Map([
        ['greet', false],
        ['sum', true],
      ]),
    );
    await stop(first.child, 'SIGKILL');

    const second = await start();
    expect(second.started.functions!.split(', ').sort()).toEqual(['greet', 'sum']);
    expect((await iguana('invoke', 'sum', '--input', '1')).code).toBe(1);
    expect(await json('billing', 'greet')).toMatchObject({ invocationCount: 5 });
    expect(second.events.filter(({ what }) => what?.includes('deployed'))).toEqual([]);

    // hot reload
    write('functions/greet.js', "export const handle = ({ input }) => 'changed, ' + input;\n");
    await until('the change', async () => (await iguana('invoke', 'greet', '--input', '3')).out === 'changed, 3\n');
    write('functions/greet.yaml', 'name: greet\nruntime: javascript\nmemoryMb: 1\ncode: { file: greet.js }\n');
    await until('the mistake', () => second.events.some(({ why }) => why?.includes('greet.yaml:3:11: memoryMb')));
    rmSync(path.join(folder, 'functions/greet.yaml'));
    await until('the deletion', async () => (await iguana('invoke', 'greet')).err.includes('IGU_FUNCTION_NOT_FOUND'));
    expect((await iguana('delete', 'sum')).out).toBe('sum is deleted\n');
    expect((await iguana('list')).out).toMatch(/^No function is deployed/);
    const asked = performance.now();
    expect(await stop(second.child, 'SIGTERM')).toBe(0);
    expect(performance.now() - asked).toBeLessThan(3_000);
  }, 120_000);

  test('init writes a first function that lint finds nothing wrong with, and overwrites nothing', async () => {
    for (const template of ['javascript', 'typescript']) {
      const made = await iguana('init', `first-${template}`, '--template', template, '--directory', at('made'));
      expect(made).toMatchObject({ code: 0, err: '' });
      expect(made.out).toMatch(new RegExp(`^wrote .*made/first-${template}\\.yaml$`, 'm'));
      expect(made.out).toMatch(new RegExp(`iguana function deploy .*made/first-${template}\\.yaml`));
    }
    expect((await iguana('lint', at('made'))).out).toMatch(/2 read, nothing wrong/);
    const again = await iguana('init', 'first-javascript', '--directory', at('made'));
    expect(`${again.code} ${again.err}`).toMatch(/^2 IGU_USAGE .*first-javascript\.yaml is there already/);
    const other = await iguana('init', 'x', '--template', 'typescrip', '--directory', at('made'));
    expect(`${other.code} ${other.err}`).toMatch(/^2 .*Did you mean typescript\?/s);
  }, 60_000);

  test('what is wrong is said in one line with the fix', async () => {
    url = 'http://127.0.0.1:1';
    const wrong = async (...args: string[]) => {
      const { code, out, err } = await iguana(...args);
      expect(out).toBe('');
      return `${code} ${err}`;
    };
    expect(await wrong('list')).toMatch(
      /^1 IGU_SERVER_UNREACHABLE no Iguana answers at http:\/\/127\.0\.0\.1:1; start one/,
    );
    expect(await wrong('invoke', 'f', '--input', 'hi')).toMatch(/^2 IGU_USAGE the input is no JSON .*'"hi"'/);
    expect(await wrong('alias', 'f', 'live')).toMatch(/^2 IGU_USAGE give versions, such as 3=0\.9 4=0\.1, or --delete/);
    expect(await wrong('alias', 'f', 'live', '1', '--delete')).toMatch(/^2 IGU_USAGE versions and --delete: one or/);
    expect(await wrong('alias', 'f', 'live', '1=0.5', '1=0.5')).toMatch(/^2 .*Version 1 is given twice\./s);
    expect(await wrong('alias', 'f', '3', '1')).toMatch(
      /^2 .*An alias is a lower-case letter first.*versions come after/s,
    );
    expect(await wrong('create', 'f', '--code', at('none.js'))).toMatch(/^1 IGU_FILE_MISSING cannot read .*none\.js/);
    write('f.js', 'export const handle = () => 1;\n');
    expect(await wrong('create', 'F', '--code', at('f.js'))).toMatch(/^2 IGU_USAGE name: lower-case letters/);
    expect(await wrong('create', 'f', '--code', at('f.js'), '--runtime', 'wasm')).toMatch(
      /^2 IGU_USAGE .*f\.js is no WebAssembly/,
    );
    expect(await wrong('create', 'f', '--code', at('f.js'), '--trigger', 'steam:t')).toMatch(
      /^2 .*Did you mean stream:t\?/s,
    );
    const create = ['create', 'f', '--code', at('f.js')];
    expect(await wrong(...create, '--memory', '8')).toMatch(/^2 IGU_USAGE --memory: at least 16 MB, not 8 MB;/);
    expect(await wrong(...create, '--timeout', '5000')).toMatch(
      /^2 IGU_USAGE --timeout: at most 15\.0 min, not 83\.3 min; a number without a unit is seconds;/,
    );
    expect(await wrong('invoke', 'f', '--timeout', '5000')).toMatch(/^2 .*At most 15\.0 min, not 83\.3 min; a number/s);
    expect(await wrong('billing', 'f', '--start', '2026-02-01', '--end', '2026-01-01')).toMatch(
      /^2 IGU_USAGE --start 2026-02-01T00:00:00\.000Z is after --end 2026-01-01T00:00:00\.000Z;/,
    );
    expect(await wrong('creat', 'f')).toMatch(/^2 .*Did you mean create\?/s);
  }, 60_000);

  test('lint tells every mistake with its place, and runs nothing', async () => {
    write('linted/good.ts', 'process.exit(9);\nexport const handle = (x: number): number => x;\n');
    write('linted/good.yaml', 'name: good\nruntime: javascript\ncode: { file: good.ts }\n');
    write('linted/bad.js', 'export const handle = () => 1;\nexport const = 2;\n');
    write('linted/bad.yaml', 'name: bad\nruntime: javascript\ncode: { file: bad.js }\n');
    write('linted/imports.ts', "type A = 1;\nimport { u } from './util.js';\nexport const handle = () => u as A;\n");
    write('linted/imports.yaml', 'name: imports\nruntime: javascript\ncode: { file: imports.ts }\n');
    write('linted/typo.yaml', 'name: typo\nruntime: javascript\ncode: { inline: x }\nmemory: 3\n');
    const { code, out } = await iguana('lint', at('linted'));
    expect(code).toBe(1);
    const lines = out.trim().split('\n');
    expect(lines[0]).toMatch(/^no {2}.*linted\/bad\.js: line 2: SyntaxError: Unexpected token/);
    expect(lines[1]).toMatch(/^ok {2}.*linted\/good\.yaml: good, 0 triggers$/);
    expect(lines[2]).toMatch(/^no {2}.*linted\/imports\.ts: line 2: it imports ".\/util\.js": a function is one file/);
    expect(lines[3]).toMatch(/^no {2}IGU_CONFIG .*linted\/typo\.yaml:4:9: memory: /);
    expect(lines[4]).toBe('4 read, 3 wrong');
  }, 60_000);
});
