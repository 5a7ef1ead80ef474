import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { functionSchema, type TimerTrigger } from '../../../src/functions/definition.js';
import type { DeployedFunction, InvokeOptions } from '../../../src/functions/function-service.js';
import type { FunctionEvent, InvocationResult } from '../../../src/functions/invocation.js';
import { TimerSchedule } from '../../../src/functions/triggers/timer-schedule.js';
import { type TimerMemory, type TimerOptions, timerTriggers } from '../../../src/functions/triggers/timer-trigger.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const utc = (text: string) => Date.parse(text);
const iso = (times: readonly number[]) => times.map((at) => new Date(at).toISOString().replace(':00.000Z', 'Z'));

/** Minutes of a zone's clock by Intl, the independent reference: the wall-clock time of an instant. */
function wallTime(at: number, timeZone: string): string {
  const parts = new Intl.DateTimeFormat('en-GB', {
    timeZone,
    hourCycle: 'h23',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
  }).formatToParts(at);
  const of = (type: string) => parts.find((part) => part.type === type)?.value;
  return `${of('day')} ${of('hour')}:${of('minute')}`;
}

const done: InvocationResult = {
  invocationId: '',
  output: null,
  durationMs: 1,
  initMs: 0,
  cold: false,
  memoryUsedMb: 1,
  logs: [],
  logsTruncated: false,
};

function deployed(trigger: object, name = 'report'): DeployedFunction {
  const definition = functionSchema.parse({
    name,
    runtime: 'javascript',
    code: { inline: 'x' },
    triggers: [{ type: 'timer', ...trigger }],
  });
  return { name, version: 1, definition, aliases: {} };
}

function memory(): TimerMemory & { readonly kept: Map<string, number> } {
  const kept = new Map<string, number>();
  return {
    kept,
    load: async () => new Map(kept),
    save: async (timer, at) => {
      kept.set(timer, at);
    },
    forget: async (timer) => {
      kept.delete(timer);
    },
  };
}

/** Lets everything that waits for nothing but turns of the loop go on. */
const settle = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

function host(start: string, more: Partial<TimerOptions> = {}) {
  const clock = new VirtualClock(utc(start));
  const calls: { name: string; time: string; id: string; attempt: number; end: (error?: unknown) => void }[] = [];
  const errors: unknown[] = [];
  let hold = false;
  const service = {
    invoke: (name: string, event: FunctionEvent, options: InvokeOptions = {}) =>
      new Promise<InvocationResult>((resolve, reject) => {
        const end = (error?: unknown) => (error === undefined ? resolve(done) : reject(error));
        const time = event.trigger === 'timer' ? event.scheduledTime.replace(':00.000Z', 'Z') : '';
        calls.push({ name, time, id: options.invocationId ?? '', attempt: options.attempt ?? 0, end });
        options.signal?.addEventListener('abort', () => reject(new Error('aborted')));
        if (!hold) end();
      }),
  };
  const timers = timerTriggers({ service, clock, random: () => 0.5, onError: (error) => errors.push(error), ...more });
  return {
    clock,
    calls,
    errors,
    timers,
    hold: (held: boolean) => {
      hold = held;
    },
    times: () => calls.map(({ time }) => time),
    async advance(ms: number, step = MINUTE) {
      for (let left = ms; left > 0; left -= step) {
        clock.advance(Math.min(step, left));
        await settle();
      }
    },
  };
}

describe('timer schedule', () => {
  test('a time that summer time leaves out runs right after, one that comes twice runs once', () => {
    const daily = new TimerSchedule('30 2 * * *', 'Europe/Berlin');
    expect(iso(daily.between(utc('2026-03-27T12:00Z'), utc('2026-03-31T12:00Z'), 100))).toEqual([
      '2026-03-28T01:30Z',
      '2026-03-29T01:00Z',
      '2026-03-30T00:30Z',
      '2026-03-31T00:30Z',
    ]);
    expect(iso(daily.between(utc('2026-10-23T12:00Z'), utc('2026-10-26T12:00Z'), 100))).toEqual([
      '2026-10-24T00:30Z',
      '2026-10-25T00:30Z',
      '2026-10-26T01:30Z',
    ]);
  });

  test('a daily time is that time on the clock of its zone all year, in zones north and south', () => {
    for (const zone of [
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'Asia/Kolkata',
      'America/Santiago',
    ]) {
      const times = new TimerSchedule('45 9 * * *', zone).between(
        utc('2026-01-01T00:00Z'),
        utc('2027-01-01T00:00Z'),
        400,
      );
      expect(times.length).toBe(365);
      expect(new Set(times.map((at) => wallTime(at, zone).slice(3)))).toEqual(new Set(['09:45']));
    }
  });

  test('a wildcard goes by elapsed time through both changes', () => {
    const often = new TimerSchedule('*/30 * * * *', 'Europe/Berlin');
    for (const day of ['2026-03-29', '2026-10-25']) {
      const times = often.between(utc(`${day}T00:00Z`) - 1, utc(`${day}T06:00Z`) - 1, 100);
      expect(times).toEqual(Array.from({ length: 12 }, (_, i) => utc(`${day}T00:00Z`) + i * 30 * MINUTE));
    }
  });

  test('takes seconds first, and finds the newest of very many quickly', () => {
    const each = new TimerSchedule('*/10 * * * * *', 'UTC');
    const until = utc('2026-06-01T00:00Z');
    const times = each.between(0, until, 100);
    expect(times).toEqual(Array.from({ length: 100 }, (_, i) => until - (99 - i) * 10_000));
    expect(each.between(until, until, 5)).toEqual([]);
  });

  test.each([
    ['nonsense', 'UTC'],
    ['* * * * * * *', 'UTC'],
    ['61 * * * *', 'UTC'],
    ['0 0 30 2 *', 'UTC'],
    ['0 0 * * *', 'Mars/Base'],
    ['0 0 * * *', ''],
  ])('refuses %s in %s by code', (cron, zone) => {
    expect(() => new TimerSchedule(cron, zone)).toThrow(/^IGU_CONFIG timer/);
  });
});

describe('timers', () => {
  test('start a function at its times, with an id that the next process would give too', async () => {
    const first = host('2026-05-01T00:00:30Z');
    await first.timers.apply([deployed({ cron: '*/15 * * * *' })]);
    await first.advance(HOUR);
    expect(first.times()).toEqual(['2026-05-01T00:15Z', '2026-05-01T00:30Z', '2026-05-01T00:45Z', '2026-05-01T01:00Z']);
    const second = host('2026-05-01T00:14Z');
    await second.timers.apply([deployed({ cron: '*/15 * * * *' })]);
    await second.advance(HOUR);
    expect(second.calls[0]!.id).toBe(first.calls[0]!.id);
    expect(new Set(first.calls.map(({ id }) => id)).size).toBe(4);
    expect([...first.timers.nextRuns()]).toEqual([['report', utc('2026-05-01T01:15Z')]]);
    await Promise.all([first.timers.stop(), second.timers.stop()]);
    await first.advance(HOUR);
    expect(first.calls.length).toBe(4);
  });

  test.each([
    ['skip', []],
    ['latest', ['2026-05-01T11:00Z']],
    ['all', ['2026-05-01T09:00Z', '2026-05-01T10:00Z', '2026-05-01T11:00Z']],
  ])('missed runs: %s', async (missed, expected) => {
    const kept = memory();
    const before = host('2026-05-01T07:30Z', { memory: kept });
    await before.timers.apply([deployed({ cron: '0 * * * *', missed })]);
    await settle();
    await before.advance(HOUR);
    expect(before.times()).toEqual(['2026-05-01T08:00Z']);
    await before.timers.stop();
    const after = host('2026-05-01T11:30Z', { memory: kept });
    await after.timers.apply([deployed({ cron: '0 * * * *', missed })]);
    await settle();
    expect(after.times()).toEqual(expected);
    expect(after.timers.counts('report').missed).toBe(3 - expected.length);
    await after.advance(HOUR);
    expect(after.times()).toEqual([...expected, '2026-05-01T12:00Z']);
    // what was left out is not found missing again
    const third = host('2026-05-01T12:30Z', { memory: kept });
    await third.timers.apply([deployed({ cron: '0 * * * *', missed })]);
    await settle();
    expect(third.calls).toEqual([]);
  });

  test.each(['skip', 'queue', 'allow'])(
    'all that was missed is made good, one after the other, however young: overlap %s',
    async (overlap) => {
      const kept = memory();
      kept.kept.set('report UTC */5 * * * * *', utc('2026-05-01T00:00:00Z'));
      const started = host('2026-05-01T00:00:56Z', { memory: kept });
      started.hold(true);
      await started.timers.apply([deployed({ cron: '*/5 * * * * *', missed: 'all', overlap })]);
      await settle();
      for (let run = 1; run <= 11; run++) {
        expect(started.times()).toHaveLength(run);
        started.calls.at(-1)!.end();
        await settle();
      }
      const expected = Array.from({ length: 11 }, (_, i) => new Date(utc('2026-05-01T00:00:05Z') + 5_000 * i));
      expect(started.times()).toEqual(expected.map((time) => time.toISOString()));
      expect(started.timers.counts('report')).toEqual({ runs: 11, failures: 0, missed: 0, overlapped: 0 });
      expect(kept.kept.get('report UTC */5 * * * * *')).toBe(utc('2026-05-01T00:00:55Z'));
    },
  );

  test.each([
    // the newest of all, and none of those that are young
    ['latest', '2026-05-01T00:00:56Z', ['00:00:55']],
    ['latest', '2026-05-01T00:00:21Z', ['00:00:20']],
    // a group that gives the timer to another process loses no run
    ['skip', '2026-05-01T00:00:21Z', ['00:00:20']],
  ])('missed %s makes one good of those that fell between: started at %s', async (missed, at, expected) => {
    const kept = memory();
    kept.kept.set('report UTC */5 * * * * *', utc('2026-05-01T00:00:00Z'));
    const started = host(at, { memory: kept });
    await started.timers.apply([deployed({ cron: '*/5 * * * * *', missed })]);
    await settle();
    const time = () => started.times().map((one) => one.slice(11, 19));
    expect(time()).toEqual(expected);
    const due = (utc(at) - utc('2026-05-01T00:00:01Z')) / 5_000;
    expect(started.timers.counts('report')).toMatchObject({ runs: 1, missed: due - 1, overlapped: 0 });
    await started.advance(5_000, 1_000);
    expect(time()).toHaveLength(2);
  });

  test.each([
    ['skip', 20_000, ['00:05', '00:10', '00:15', '00:20']],
    ['latest', 20_000, ['00:05', '00:10', '00:15', '00:20']],
    ['all', 20_000, ['00:05', '00:10', '00:15', '00:20']],
    ['skip', 57_000, ['00:55']],
    ['latest', 57_000, ['00:55']],
    ['all', 35_000, ['00:05', '00:10', '00:15', '00:20', '00:25', '00:30', '00:35']],
  ])(
    'a process that was held up is late, and after half a minute has missed: %s, %i ms',
    async (missed, ms, expected) => {
      const late = host('2026-05-01T00:00:00Z');
      await late.timers.apply([deployed({ cron: '*/5 * * * * *', missed })]);
      await settle();
      // nothing woke it meanwhile
      const now = late.clock.now() + ms;
      late.clock.now = () => now;
      late.clock.advance(5_000);
      for (let i = 0; i < 10; i++) await settle();
      expect(late.times().map((one) => one.slice(14, 19))).toEqual(expected);
    },
  );

  test('of very many missed runs the newest hundred are made, one after the other', async () => {
    const kept = memory();
    kept.kept.set('report UTC * * * * *', utc('2026-01-01T00:00Z'));
    const late = host('2026-05-01T00:00:45Z', { memory: kept });
    await late.timers.apply([deployed({ cron: '* * * * *', missed: 'all' })]);
    for (let i = 0; i < 100; i++) await settle();
    expect(late.calls.length).toBe(100);
    expect(late.times()[0]).toBe('2026-04-30T22:21Z');
    expect(late.times().at(-1)).toBe('2026-05-01T00:00Z');
    expect(kept.kept.get('report UTC * * * * *')).toBe(utc('2026-05-01T00:00Z'));
  });

  test('a run that a kill broke off is made again, under the same id', async () => {
    const kept = memory();
    const killed = host('2026-05-01T00:59:30Z', { memory: kept });
    killed.hold(true);
    await killed.timers.apply([deployed({ cron: '0 * * * *' })]);
    await settle();
    await killed.advance(MINUTE);
    const next = host('2026-05-01T01:05Z', { memory: kept });
    await next.timers.apply([deployed({ cron: '0 * * * *' })]);
    await settle();
    expect(next.calls.map(({ id }) => id)).toEqual(killed.calls.map(({ id }) => id));
  });

  test.each([
    ['skip', 1, ['00:01'], ['00:01', '00:04']],
    ['queue', 0, ['00:01'], ['00:01', '00:02', '00:03', '00:04']],
    ['allow', 0, ['00:01', '00:02', '00:03'], ['00:01', '00:02', '00:03', '00:04']],
  ])('overlap: %s', async (overlap, _, whileFirstRuns, afterwards) => {
    const timers = host('2026-05-01T00:00:30Z');
    timers.hold(true);
    const time = () => timers.times().map((one) => one.slice(11, 16));
    await timers.timers.apply([deployed({ cron: '* * * * *', overlap })]);
    await timers.advance(3 * MINUTE);
    expect(time()).toEqual(whileFirstRuns);
    timers.hold(false);
    for (const { end } of [...timers.calls]) end();
    await settle();
    await timers.advance(MINUTE);
    expect(time()).toEqual(afterwards);
    expect(timers.timers.counts('report').overlapped).toBe(overlap === 'skip' ? 2 : 0);
  });

  test('only the owner starts a timer; who takes it over makes good what fell between', async () => {
    const kept = memory();
    let owner = 'a';
    const a = host('2026-05-01T00:00:30Z', { memory: kept, isOwner: () => owner === 'a' });
    const b = host('2026-05-01T00:00:30Z', { memory: kept, isOwner: () => owner === 'b' });
    const advance = async (ms: number) => {
      for (let left = ms; left > 0; left -= 1000) {
        await a.advance(1000, 1000);
        await b.advance(1000, 1000);
      }
    };
    for (const one of [a, b]) await one.timers.apply([deployed({ cron: '* * * * *' })]);
    await advance(3 * MINUTE);
    expect([a.calls.length, b.calls.length]).toEqual([3, 0]);
    expect(b.timers.nextRuns().size).toBe(0);
    owner = 'nobody';
    await advance(45_000);
    owner = 'b';
    await advance(2 * MINUTE);
    expect(a.calls.length).toBe(3);
    expect(b.times().map((time) => time.slice(11, 16))).toEqual(['00:04', '00:05', '00:06']);
  });

  test('what is counted of a timer stays while it is paused, and goes with its function', async () => {
    const [every, other] = ['* * * * *', '*/2 * * * *'].map((cron) => ({ type: 'timer', cron }));
    const both = deployed({ cron: '* * * * *' });
    const definition = functionSchema.parse({ ...both.definition, triggers: [every, other] });
    const timers = host('2026-05-01T00:00:30Z');
    const counts = () => definition.triggers.map((one) => timers.timers.counts('report', one as TimerTrigger).runs);
    await timers.timers.apply([{ ...both, definition }]);
    await settle();
    await timers.advance(4 * MINUTE);
    expect(counts()).toEqual([4, 2]);
    expect(timers.timers.counts('report').runs).toBe(6);
    await timers.timers.apply([{ ...both, definition: { ...definition, triggers: [] } }]);
    await timers.timers.apply([{ ...both, definition }]);
    await settle();
    await timers.advance(MINUTE);
    expect(counts()).toEqual([5, 2]);
    await timers.timers.apply([]);
    expect(timers.timers.counts('report').runs).toBe(0);
  });

  test('a failure is tried again with the same id, and in the end reported and delivered', async () => {
    const outcomes: unknown[] = [];
    const { IguanaError } = await import('../../../src/errors.js');
    const failing = host('2026-05-01T00:00:30Z', { deliver: async (outcome) => void outcomes.push(outcome) });
    failing.hold(true);
    await failing.timers.apply([deployed({ cron: '* * * * *' })]);
    await failing.advance(30_000);
    for (let i = 0; i < 3; i++) {
      failing.calls.at(-1)!.end(new IguanaError('IGU_FUNCTION_FAILED', { name: 'report', what: 'no' }));
      await settle();
      await failing.advance(2_000, 500);
    }
    expect(failing.calls.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(new Set(failing.calls.map(({ id }) => id)).size).toBe(1);
    expect(outcomes).toMatchObject([{ function: 'report', attempts: 3 }]);
    expect(String(failing.errors[0])).toContain('IGU_FUNCTION_FAILED');
    expect(failing.timers.counts('report')).toMatchObject({ runs: 1, failures: 1 });
  });

  test('a timer that cannot be read is reported and keeps no other from working', async () => {
    const mixed = host('2026-05-01T00:00:30Z');
    await mixed.timers.apply([deployed({ cron: 'often' }, 'wrong'), deployed({ cron: '* * * * *' }, 'right')]);
    await mixed.advance(MINUTE);
    expect(mixed.calls.map(({ name }) => name)).toEqual(['right']);
    expect(String(mixed.errors[0])).toContain('IGU_CONFIG');
    await mixed.timers.apply([]);
    await mixed.advance(HOUR);
    expect(mixed.calls.length).toBe(1);
  });

  test('a function that was deleted and comes again has missed nothing; one that was paused, or its process down, has', async () => {
    const kept = memory();
    const timer = deployed({ cron: '0 * * * *', missed: 'all' });
    const hourly = host('2026-05-01T00:30Z', { memory: kept });
    await hourly.timers.apply([timer]);
    await hourly.advance(HOUR);
    await hourly.timers.apply([]);
    expect(kept.kept.size).toBe(0);
    await hourly.advance(5 * HOUR);
    await hourly.timers.apply([timer]);
    await hourly.advance(HOUR);
    expect(hourly.times()).toEqual(['2026-05-01T01:00Z', '2026-05-01T07:00Z']);
    const paused = { ...timer, definition: { ...timer.definition, triggers: [] } };
    await hourly.timers.apply([paused]);
    await hourly.advance(2 * HOUR);
    expect(hourly.calls.length).toBe(2);
    await hourly.timers.apply([timer]);
    for (let i = 0; i < 5; i++) await settle();
    expect(hourly.times().slice(2)).toEqual(['2026-05-01T08:00Z', '2026-05-01T09:00Z']);
    await hourly.timers.stop();
    expect(kept.kept.size).toBe(1);
    const other = host('2026-05-01T10:30Z', { memory: kept, isOwner: () => false });
    await other.timers.apply([timer]);
    await other.timers.apply([]);
    expect(kept.kept.size).toBe(1);
    // while it is paused too
    const owner = host('2026-05-01T11:30Z', { memory: kept });
    await owner.timers.apply([deployed({ cron: '0 * * * *' }), deployed({ cron: '0 * * * *' }, 'reports')]);
    await owner.timers.apply([paused, deployed({ cron: '0 * * * *' }, 'reports')]);
    await owner.timers.apply([deployed({ cron: '0 * * * *' }, 'reports')]);
    expect([...kept.kept.keys()]).toEqual(['reports UTC 0 * * * *']);
    await owner.timers.stop();
  });

  test('stop when it is kept what has run, in the order of the runs', async () => {
    const kept = memory();
    const writes: (() => void)[] = [];
    const slow: TimerMemory = {
      ...kept,
      save: (timer, at) =>
        new Promise((resolve) => {
          writes.push(() => {
            kept.kept.set(timer, at);
            resolve();
          });
        }),
    };
    kept.kept.set('report UTC * * * * *', utc('2026-05-01T00:00Z'));
    const timers = host('2026-05-01T00:00:30Z', { memory: slow });
    await timers.timers.apply([deployed({ cron: '* * * * *' })]);
    await settle();
    await timers.advance(2 * MINUTE);
    let stopped = false;
    const stopping = timers.timers.stop().then(() => {
      stopped = true;
    });
    await settle();
    expect([stopped, writes.length]).toEqual([false, 1]);
    writes[0]!();
    await settle();
    expect([stopped, writes.length]).toEqual([false, 2]);
    writes[1]!();
    await stopping;
    expect(kept.kept.get('report UTC * * * * *')).toBe(utc('2026-05-01T00:02Z'));
  });
});
