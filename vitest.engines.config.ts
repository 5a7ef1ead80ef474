import { defineConfig } from 'vitest/config';
import { patience } from './test/support/patience.js';

/** Whatever runs WebAssembly, on every engine that is there, in threads as users run them. */
export default defineConfig({
  test: {
    include: [
      'test/contract/wasm-engine.test.ts',
      'test/unit/wasm/**/*.test.ts',
      'test/integration/wasm-*.test.ts',
      'test/engines/*.test.ts',
    ],
    ...patience,
    pool: 'threads',
    maxWorkers: 2,
  },
});
