import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readConfig } from '../../../src/cli/config.js';
import { sharingBy } from '../../../src/gpu/sharing-rules.js';
import { gpuOf } from './gpu-fixture.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'sharing-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function rulesOf(rule: string) {
  const file = path.join(folder, 'iguana.yaml');
  writeFileSync(file, `gpu:\n  sharing:\n    - { ${rule} }\n`);
  return readConfig(file).gpu.sharing;
}

test('an MPS server takes at most 48 clients: more places are an error of the configuration', () => {
  expect(sharingBy(rulesOf('mode: mps, replicas: 48'))('n', gpuOf('GPU-1'))).toEqual({ mode: 'mps', replicas: 48 });
  expect(() => rulesOf('mode: mps, replicas: 49')).toThrow(
    /IGU_CONFIG .*gpu\.sharing\.0\.replicas: an MPS server takes at most 48 clients/,
  );
  expect(rulesOf('mode: time-slicing, replicas: 49')).toHaveLength(1);
  expect(() => rulesOf('mode: time-slicing, replicas: 65')).toThrow(/IGU_CONFIG/);
});
