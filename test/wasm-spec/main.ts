/**
 * `npm run test:wasm -- core [FOLDER [PART]] [--verbose]`, `-- generated [--seed S] [--count N] [--seconds T] [--engines A,B]`,
 * `-- mutated [--seed S] [--count N]`. Without a lane: all three, the latter two briefly. Each runs in a worker thread, where native engines may be used.
 */
import { parseArgs } from 'node:util';
import { isMainThread, Worker } from 'node:worker_threads';
import { core } from './core.js';
import { generated } from './generated.js';
import { mutated } from './mutated.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string' },
    seconds: { type: 'string', default: '100000' },
    engines: { type: 'string' },
    verbose: { type: 'boolean', default: false },
  },
});
const [lane, folder, part] = positionals;
const seed = Number(values.seed);
const seconds = Number(values.seconds);
const count = (usual: number) => Number(values.count ?? usual);

const lanes: Readonly<Record<string, () => Promise<number> | number>> = {
  core: () => core({ folder, part, verbose: values.verbose }),
  generated: () =>
    generated({ seed, count: count(1000), seconds, ...(values.engines !== undefined && { engines: values.engines }) }),
  mutated: () => mutated({ seed, count: count(10_000) }),
};

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url), {
    argv: process.argv.slice(2),
    resourceLimits: { stackSizeMb: 4 },
  });
  worker.on('error', (error) => {
    console.error(error);
    process.exitCode = 1;
  });
  worker.on('exit', (code) => {
    process.exitCode = Math.max(Number(process.exitCode ?? 0), code);
  });
} else {
  const wanted = lane === undefined ? Object.keys(lanes) : [lane];
  let status = 0;
  for (const name of wanted) {
    const run = lanes[name];
    if (!run) throw new Error(`no lane ${name}: ${Object.keys(lanes).join(', ')}`);
    status = Math.max(status, await run());
  }
  process.exitCode = status;
}
