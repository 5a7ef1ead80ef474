import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { encodeAvro } from '../../../src/codec/avro.js';
import { readGpuCommand } from '../../../src/gpu/commands.js';
import { type GpuEvent, GpuScheduler } from '../../../src/gpu/scheduler.js';
import { absent, type Gpu, known } from '../../../src/gpu/types.js';
import {
  decodeGpuCommand,
  decodeGpuEvent,
  decodeGpuInventory,
  encodeGpuCommand,
  encodeGpuEvent,
  encodeGpuInventory,
} from '../../../src/operators/gpu-records.js';
import { gpuOf, healthOf } from './gpu-fixture.js';

const formats = ['json', 'avro'] as const;

describe.each(formats)('as %s', (format) => {
  test('an inventory comes back as it was, absences with their reasons', () => {
    const plain = gpuOf('GPU-1');
    const rich: Gpu = {
      ...plain,
      utilization: known(0),
      temperature: absent('no-permission'),
      health: healthOf('lost'),
      signals: { ...plain.signals, remapPending: known(false), throttleReasons: known(['sw-thermal']) },
      partitions: [
        {
          id: 'MIG-1',
          profile: known('1g.5gb'),
          gpuInstance: known(7),
          computeInstance: known(0),
          placement: known({ start: 6, size: 1 }),
          memoryTotalMb: known(4_864),
          memoryUsedMb: absent('not-supported'),
        },
      ],
      processes: [{ pid: 4_000_000_000, name: known('train'), memoryMb: absent('invalid'), partition: known('7/0') }],
    };
    const record = {
      node: 'n1',
      timestamp: 1_700_000_000_000,
      gpus: [rich, { ...plain, id: 'GPU-2', processes: null }],
    };
    expect(decodeGpuInventory(encodeGpuInventory(record, format))).toEqual(record);
  });

  test('every kind of event comes back as it was', () => {
    const clock = new VirtualClock(1_000);
    const scheduler = new GpuScheduler({
      clock,
      sharing: (node) => (node === 'mig' ? { mode: 'mig', layout: 'dynamic' } : { mode: 'open' }),
    });
    scheduler.setNode('n1', [gpuOf('GPU-1')]);
    scheduler.setNode('mig', [gpuOf('GPU-2', { partitionMode: known('enabled') })]);
    let n = 0;
    const take = (command: object): void => scheduler.take(readGpuCommand({ id: `c${++n}`, ...command }));
    take({ action: 'reserve', owner: 'a', request: {}, ttlMs: 5_000 });
    take({ action: 'allocate', instance: 'a', request: { priority: -1, leaseMs: null } });
    take({ action: 'allocate', instance: 'b', request: { profile: '3g.20gb' } });
    take({ action: 'allocate', instance: 'c', waitMs: 9_000 });
    take({ action: 'allocate-gang', gang: 'g', members: [{ instance: 'd' }, { instance: 'e' }], waitMs: 9_000 });
    take({ action: 'allocate', instance: 'f' });
    take({ action: 'renew', allocation: 'b' });
    take({ action: 'allocate', instance: 'h', request: { preempt: true } });
    take({ action: 'release', allocation: 'c' });
    const events = scheduler.drain();
    const types = new Set(events.map(({ type }) => type));
    for (const type of ['reserved', 'used', 'allocated', 'waiting', 'refused', 'renewed', 'preempted', 'forgotten'])
      expect(types).toContain(type);
    expect(events.some(({ steps }) => steps.length > 0)).toBe(true);
    expect(events.some(({ denial }) => (denial?.gpus.length ?? 0) > 0)).toBe(true);
    for (const event of events) expect(decodeGpuEvent(encodeGpuEvent(event, format))).toEqual(event);
  });
});

const nothing = {
  ...{ instance: null, request: null, gang: null, members: null, waitMs: null },
  ...{ owner: null, ttlMs: null, allocation: null },
};
const needs = {
  ...{ gpuCount: null, memoryMb: null, computeShare: null, exclusive: null, minComputeCapability: null },
  ...{ model: null, vendor: null, mode: null, profile: null, node: null, owner: null, priority: null },
  ...{ preempt: null, leaseMs: null },
};

test('a command may be JSON with little in it, or Avro with all of it', () => {
  const command = { id: 'c', action: 'allocate', instance: 'w', request: { gpuCount: 2 }, waitMs: 0 } as const;
  expect(decodeGpuCommand(encodeGpuCommand(command))).toEqual(command);
  expect(decodeGpuCommand(Buffer.from('{"id":"c","action":"allocate","instance":"w"}'))).toEqual({
    ...command,
    request: {},
  });
  const avro = encodeAvro('gpu-requests', {
    ...{ ...nothing, id: 'c', action: 'allocate', instance: 'w' },
    request: { ...needs, gpuCount: 2, leaseMs: 0 },
  });
  expect(decodeGpuCommand(avro)).toEqual({ ...command, request: { gpuCount: 2, leaseMs: null } });
});

test.each([
  ['{', /JSON/],
  ['[]', /gpu-requests/],
  ['{"id":"c","action":"take"}', /action/],
  ['{"id":"c","action":"allocate"}', /instance/],
  ['{"id":"c","action":"reserve","owner":"o","ttlMs":-1}', /ttlMs/],
  ['{"id":"c","action":"allocate","instance":"w","gpus":2}', /gpus/],
])('what is no command is told: %s', (text, what) => {
  expect(() => decodeGpuCommand(Buffer.from(text))).toThrow(what);
});

test.each([null, 20_480])('what is held may have memory that is not known: %s', (memoryMb) => {
  const holding = { node: 'n', gpuId: 'GPU-1', mode: 'exclusive', memoryMb, shareMilli: 1_000 } as const;
  const event: GpuEvent = {
    ...{ type: 'reserved', sequence: 1, id: 'r', at: 1, why: 'kept', request: null, answers: 0 },
    ...{ waitedMs: 0, steps: [], preempted: [], waiting: null, denial: null },
    record: { kind: 'reservation', id: 'r', owner: 'o', request: '{}', holdings: [holding], since: 1, expiresAt: 2 },
  };
  for (const format of ['json', 'avro'] as const)
    expect(decodeGpuEvent(encodeGpuEvent(event, format)).record).toEqual(event.record);
});

test('a torn event, or one whose parts have the wrong kind, is told', () => {
  const event: GpuEvent = {
    ...{ type: 'refused', sequence: 1, id: 'refused/w', at: 1, why: 'none', record: null, request: 'c', answers: 1 },
    ...{ waitedMs: 0, steps: [], preempted: [], waiting: null, denial: null },
  };
  const bytes = encodeGpuEvent(event, 'avro');
  expect(() => decodeGpuEvent(bytes.subarray(0, bytes.length - 2))).toThrow(/torn/);
  expect(() => decodeGpuEvent(Buffer.from(JSON.stringify({ ...event, sequence: 'one' })))).toThrow(/sequence/);
});
