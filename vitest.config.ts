import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { defineConfig } from 'vitest/config';
import { patience } from './test/support/patience.js';

/**
 * Engines that are native libraries are tested in a run of their own (`npm run test:engines`): this one is the same wherever it runs, and a fault in a
 * library ends the process it is in, and with it the tests of everything else.
 */
const withoutLibraries = {
  XDG_CACHE_HOME: join(tmpdir(), 'iguana-test-cache'),
  IGUANA_WASM2C: '/nonexistent/not-in-this-run/wasm2c',
};

export default defineConfig({
  test: {
    include: ['test/{unit,contract,integration}/**/*.test.ts'],
    ...patience,
    pool: 'threads',
    maxWorkers: 2,
    env: withoutLibraries,
  },
});
