import { expect, test } from 'vitest';
import type { DeployedFunction } from '../../../src/functions/function-service.js';
import { hostTriggers } from '../../../src/functions/host-triggers.js';

test('hosts are told of the newest state, one call at a time; one that fails is told again of the next', async () => {
  let version = 1;
  const deployed = () => [{ name: 'f', version } as DeployedFunction];
  const seen: number[] = [];
  const errors: unknown[] = [];
  let running = 0;
  let go = (): void => undefined;
  const slow = {
    apply: async ([one]: readonly DeployedFunction[]) => {
      expect(++running).toBe(1);
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      running--;
      seen.push(one!.version);
      if (one!.version === 1) throw new Error('not this time');
    },
    stop: async () => void seen.push(-1),
  };
  const quick: number[] = [];
  const other = {
    apply: async ([one]: readonly DeployedFunction[]) => void quick.push(one!.version),
    stop: async () => undefined,
  };
  const hosted = hostTriggers([slow, other], deployed, (error) => errors.push(error));
  hosted.changed();
  for (version = 2; version < 5; version++) hosted.changed();
  const settled = hosted.settled();
  go();
  await Promise.resolve().then(() => undefined);
  while (running === 0) await Promise.resolve();
  go();
  await settled;
  // what came between was passed over
  expect(seen).toEqual([1, 5]);
  expect(quick.at(-1)).toBe(5);
  expect(errors).toEqual([new Error('not this time')]);
  await hosted.stop();
  expect(seen).toEqual([1, 5, -1]);
});
