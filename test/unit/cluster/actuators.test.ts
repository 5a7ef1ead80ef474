import { expect, it } from 'vitest';
import { Actuators } from '../../../src/cluster/actuators.js';
import { until } from '../../support/kafka.js';

it('carries out what policies with a cluster want, the newest last, and never a dry run', async () => {
  const done: number[] = [];
  let finish: () => void = () => undefined;
  const cluster = {
    name: 'c',
    instances: () => [],
    restart: async () => undefined,
    scaleTo: (count: number) =>
      new Promise<void>((resolve) => {
        done.push(count);
        finish = resolve;
      }),
  };
  const actuators = new Actuators(new Map([['p', cluster]]), (error) => expect.fail(String(error)));
  expect(actuators.want('p', 9, true)).toBe(false);
  expect(actuators.want('other', 9, false)).toBe(false);
  expect(done).toEqual([]);
  expect(actuators.want('p', 2, false)).toBe(true);
  actuators.want('p', 3, false);
  actuators.want('p', 4, false);
  expect(done).toEqual([2]);
  finish();
  await until('the newest', () => done.length === 2);
  expect(done).toEqual([2, 4]);
  finish();
});

it('reports what fails and goes on with the next wish', async () => {
  const errors: unknown[] = [];
  let calls = 0;
  const cluster = {
    name: 'c',
    instances: () => [],
    restart: async () => undefined,
    scaleTo: async () => void (calls++ === 0 ? expect.fail('no') : undefined),
  };
  const actuators = new Actuators(new Map([['p', cluster]]), (error) => errors.push(error));
  actuators.want('p', 2, false);
  await until('the failure', () => errors.length === 1);
  actuators.want('p', 3, false);
  await until('the next', () => calls === 2);
  expect(errors.length).toBe(1);
});

it('starts nothing again once it is stopped, whatever was wanted meanwhile', async () => {
  const done: number[] = [];
  const finish: (() => void)[] = [];
  const cluster = {
    name: 'c',
    instances: () => [],
    restart: async () => undefined,
    scaleTo: (count: number) =>
      new Promise<void>((resolve) => {
        done.push(count);
        finish.push(resolve);
      }),
  };
  const actuators = new Actuators(new Map([['p', cluster]]), (error) => expect.fail(String(error)));
  actuators.want('p', 2, false);
  actuators.want('p', 3, false);
  const stopped = actuators.stop();
  expect(actuators.want('p', 4, false)).toBe(false);
  for (const one of finish) one();
  await stopped;
  expect(done).toEqual([2, 0]);
});

it('carries out what came while a change was failing', async () => {
  const done: number[] = [];
  const errors: unknown[] = [];
  let fail: (error: Error) => void = () => undefined;
  const cluster = {
    name: 'c',
    instances: () => [],
    restart: async () => undefined,
    scaleTo: (count: number) => {
      done.push(count);
      if (done.length > 1) return Promise.resolve();
      return new Promise<void>((_, reject) => {
        fail = reject;
      });
    },
  };
  const actuators = new Actuators(new Map([['p', cluster]]), (error) => errors.push(error));
  actuators.want('p', 2, false);
  actuators.want('p', 3, false);
  fail(new Error('no'));
  await until('the newer one', () => done.length === 2);
  expect([done, errors.length]).toEqual([[2, 3], 1]);
});
