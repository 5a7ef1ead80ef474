import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { ToolRunner } from '../../../src/gpu/tools/run-tool.js';

const node = process.execPath;

describe('ToolRunner', () => {
  it('gives what a tool says and how it ends', async () => {
    const { run } = new ToolRunner();
    const code = 'process.stdout.write("out"); process.stderr.write("err"); process.exitCode = 3';
    expect(await run(node, ['-e', code])).toEqual({ code: 3, stdout: 'out', stderr: 'err', timedOut: false });
    expect(await run('/nonexistent/tool', [])).toMatchObject({ code: null, refused: 'not-found' });
    expect(await run(import.meta.dirname, [])).toMatchObject({ code: null, refused: 'denied' });
  });

  it('ends one that hangs, with the children that keep its pipes open', async () => {
    const { run } = new ToolRunner(undefined, 50);
    const started = performance.now();
    const script = 'trap "" TERM; echo said; sleep 100 & wait; sleep 100';
    expect(await run('sh', ['-c', script], { timeoutMs: 100 })).toMatchObject({
      code: null,
      stdout: 'said\n',
      timedOut: true,
    });
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it('reads no more than it may', async () => {
    const { run } = new ToolRunner();
    const result = await run('yes', ['x'.repeat(1_000)], { maxBytes: 5_000 });
    expect(result).toMatchObject({ cut: true, timedOut: false });
    expect(result.stdout).toHaveLength(5_000);
  });

  it('says that it was cut also when it was full to the byte', async () => {
    const stream = () => Object.assign(new EventEmitter(), { destroy: () => undefined });
    const child = Object.assign(new EventEmitter(), {
      pid: undefined,
      stdout: stream(),
      stderr: stream(),
      kill: () => true,
    });
    const runner = new ToolRunner(() => child as unknown as ChildProcess);
    const answer = runner.run('tool', [], { maxBytes: 4 });
    await new Promise(setImmediate);
    child.stdout.emit('data', Buffer.from('full'));
    child.stdout.emit('data', Buffer.from('more'));
    child.emit('close', null);
    expect(await answer).toMatchObject({ stdout: 'full', cut: true });
  });

  it('runs a command once at a time, and asks the same question once', async () => {
    const running = new Set<EventEmitter>();
    let started = 0;
    let most = 0;
    const runner = new ToolRunner(() => {
      const child = Object.assign(new EventEmitter(), { pid: undefined });
      running.add(child);
      started++;
      most = Math.max(most, running.size);
      setImmediate(() => {
        running.delete(child);
        child.emit('exit', 0);
        child.emit('close', 0);
      });
      return child as unknown as ChildProcess;
    });
    const answers = await Promise.all(['a', 'a', 'b', 'b', 'c'].map((arg) => runner.run('tool', [arg])));
    expect(answers.every(({ code }) => code === 0)).toBe(true);
    expect([started, most]).toEqual([3, 1]);
    const many = await Promise.all(Array.from({ length: 20 }, (_, i) => runner.run('tool', [String(i)])));
    expect(many.filter(({ refused }) => refused === 'busy')).toHaveLength(12);
  });

  it('starts none beside one that does not die, and goes on when it is gone', async () => {
    const children: EventEmitter[] = [];
    const runner = new ToolRunner(() => {
      const child = Object.assign(new EventEmitter(), { pid: undefined, unref: () => undefined });
      children.push(child);
      return child as unknown as ChildProcess;
    }, 5);
    const [first, second] = await Promise.all([
      runner.run('tool', ['a'], { timeoutMs: 5 }),
      runner.run('tool', ['b'], { timeoutMs: 5 }),
    ]);
    expect(first).toMatchObject({ timedOut: true, code: null });
    expect(second).toMatchObject({ refused: 'stuck' });
    expect(await runner.run('tool', ['c'])).toMatchObject({ refused: 'stuck' });
    expect([children.length, runner.stuck]).toEqual([1, ['tool']]);
    children[0]?.emit('exit', null);
    expect(runner.stuck).toEqual([]);
    const after = runner.run('tool', ['d']);
    await new Promise(setImmediate);
    children[1]?.emit('close', 0);
    expect(await after).toMatchObject({ code: 0 });
  });
});
