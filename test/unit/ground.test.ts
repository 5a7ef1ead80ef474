import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/clock.js';
import { errorTable, IguanaError, messageOf } from '../../src/errors.js';
import { canonicalSeries, entityOf, hash64, SeriesTable } from '../../src/records.js';
import { StateReader, StateWriter } from '../../src/state.js';

describe('errors', () => {
  it('fills the message and the fix and carries the cause', () => {
    const cause = new Error('EACCES');
    const error = new IguanaError('IGU_DATA_DIR', { path: '/x', what: 'not writable' }, { cause });
    expect(error.message).toBe(
      'IGU_DATA_DIR cannot use data directory /x: not writable; give a writable directory with --data, or run with --memory',
    );
    expect(error.cause).toBe(cause);
    expect(messageOf('plain')).toBe('plain');
  });

  it('has a fix and a message in every row', () => {
    for (const [code, row] of Object.entries(errorTable)) {
      expect(code).toMatch(/^IGU_[A-Z_]+$/);
      expect(row.message.length).toBeGreaterThan(0);
      expect(row.fix.length).toBeGreaterThan(0);
    }
  });
});

describe('virtual clock', () => {
  it('fires timers in order of due time and then of creation', () => {
    const clock = new VirtualClock(1000);
    const fired: string[] = [];
    clock.after(20, () => fired.push(`b@${clock.now()}`));
    clock.after(10, () => fired.push(`a@${clock.now()}`));
    clock.after(20, () => fired.push(`c@${clock.now()}`));
    const cancel = clock.after(15, () => fired.push('cancelled'));
    cancel();
    const stop = clock.every(8, () => fired.push(`tick@${clock.now()}`));
    clock.advance(20);
    stop();
    clock.advance(100);
    expect(fired).toEqual(['tick@1008', 'a@1010', 'tick@1016', 'b@1020', 'c@1020']);
    expect(clock.now()).toBe(1120);
  });
});

describe('series', () => {
  it('has one canonical form and id whatever the order of the labels', () => {
    expect(canonicalSeries('cpu', { b: '2', a: 'x"y' })).toBe('cpu{a="x\\"y",b="2"}');
    const table = new SeriesTable();
    const first = table.intern('cpu', { a: '1', b: '2' });
    expect(table.intern('cpu', { b: '2', a: '1' })).toBe(first);
    expect(table.intern('cpu', { b: '2' })).not.toBe(first);
    expect(table.get(first).id).toBe(hash64('cpu{a="1",b="2"}'));
    expect(table.size).toBe(2);
    expect(() => table.get(7)).toThrow(RangeError);
  });

  it('belongs to its service before its instance and host', () => {
    expect(entityOf('cpu', { host: 'h', instance: 'i', service: 's' })).toBe('s');
    expect(entityOf('cpu', { host: 'h' })).toBe('h');
    expect(entityOf('cpu', {})).toBe('cpu');
  });
});

describe('state', () => {
  it('reads back what was written, whatever it is', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.double(),
        fc.string(),
        fc.boolean(),
        fc.array(fc.double()),
        fc.uint8Array(),
        (n, f, text, flag, list, bytes) => {
          const saved = new StateWriter().u32(n).f64(f).text(text).bool(flag).f64s(list).bytes(bytes).finish();
          const reader = new StateReader(saved);
          expect(reader.u32()).toBe(n);
          expect(reader.f64()).toBe(f);
          expect(reader.text()).toBe(Buffer.from(text).toString());
          expect(reader.bool()).toBe(flag);
          expect([...reader.f64s()]).toEqual(list);
          expect([...reader.bytes()]).toEqual([...bytes]);
          expect(reader.done).toBe(true);
        },
      ),
    );
  });

  it('refuses a record that ends too early', () => {
    const saved = new StateWriter().f64s([1, 2, 3]).finish();
    expect(() => new StateReader(saved.subarray(0, 20)).f64s()).toThrow(/IGU_STATE_INCOMPATIBLE/);
  });
});
