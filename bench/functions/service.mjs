// What the benchmarks of function calls share: a service with all runtimes, the functions that are called, quantiles, and a child process per call to compare with.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, getPriority, loadavg, platform, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { wallClock } from '../../dist/src/clock.js';
import { functionSchema } from '../../dist/src/functions/definition.js';
import { FunctionService } from '../../dist/src/functions/function-service.js';
import { instanceFactories } from '../../dist/src/functions/instance-factories.js';
import { FunctionPool } from '../../dist/src/functions/pool.js';

export function serviceOf(options) {
  const factories = instanceFactories(options);
  const service = new FunctionService({
    clock: wallClock,
    factory: (deployment, env) => factories.of(deployment, env),
  });
  return {
    service,
    deploy: (name, code, definition) =>
      service.deploy({ definition: functionSchema.parse({ name, code: { file: 'f' }, ...definition }), code }),
    call: (name, input) => service.invoke(name, { trigger: 'call', input }),
    async close() {
      await service.close();
      await factories.close();
    },
  };
}

/** The instances of one function alone: scaled by hand, where a service waits for its windows. */
export function poolOf(options, code, given) {
  const factories = instanceFactories(options);
  const definition = functionSchema.parse({ name: 'f', code: { file: 'f' }, ...given });
  const { name, concurrency, maxConcurrency, scaling } = definition;
  const limits = { name, concurrency, maxConcurrency, maxInstances: scaling.maxInstances };
  const pool = new FunctionPool(limits, factories.of({ definition, code }, {}), wallClock);
  return {
    pool,
    call(input) {
      const context = { function: name, version: 1, invocationId: 'i', attempt: 1, deadline: Date.now() + 60_000 };
      return pool.run({ trigger: 'call', input }, context);
    },
    async close() {
      await pool.close();
      await factories.close();
    },
  };
}

export const ECHO = Buffer.from('export const handle = ({ input }) => input;');
const example = fileURLToPath(new URL('../../examples/functions/', import.meta.url));
/** C with a table that it fills once: examples/functions/text-processor.c. */
export const TEXT_PROCESSOR = readFileSync(`${example}text-processor.wasm`);
/** The smallest thing that a child process can do: read JSON, answer JSON. */
const CHILD = `let text = ''; process.stdin.on('data', (d) => (text += d)).on('end', () => process.stdout.write(JSON.stringify(JSON.parse(text))))`;

export async function childProcessCall(input) {
  const child = spawn(process.execPath, ['-e', CHILD], { stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (data) => {
    text += data;
  });
  child.stdin.end(JSON.stringify(input));
  await new Promise((resolve) => child.once('close', resolve));
  return JSON.parse(text);
}

export const quantile = (values, q) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
};
export const spread = (values) => [quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1)];
export const row = (...cells) => `| ${cells.join(' | ')} |`;
export const ms = (value) => (value < 1 ? value.toFixed(3) : value < 100 ? value.toFixed(2) : value.toFixed(0));
export const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));

/** Where it was measured; the load says how far to believe it. */
export function machine() {
  const load = loadavg()[0];
  const busy =
    load > cpus().length / 2
      ? ' **The machine was busy with other work: preliminary, run it again on an idle one.**'
      : '';
  const nice = getPriority() === 0 ? '' : ` Priority ${getPriority()}.`;
  return `${cpus().length} × ${cpus()[0].model}, ${platform()} ${release()}, Node ${process.version}. Load average when it began: ${load.toFixed(1)}.${nice}${busy}`;
}
