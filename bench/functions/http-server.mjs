/**
 * A server for functions-http.mjs, in a process of its own. `node http-server.mjs plain|function`; says its port on a line, the
 * processor time it took in microseconds for each line of input, and ends with its input.
 * `plain` is a handler on node:http, as short as one writes it; `function` the same as an HTTP-triggered function of Iguana.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { wallClock } from '../../dist/src/clock.js';
import { LiveModel } from '../../dist/src/dashboard/live-model.js';
import { startDashboard } from '../../dist/src/dashboard/server.js';
import { functionSchema } from '../../dist/src/functions/definition.js';
import { FunctionService } from '../../dist/src/functions/function-service.js';
import { WarmWorkers } from '../../dist/src/functions/javascript/warm-workers.js';
import { usageLimits } from '../../dist/src/limits.js';
import { UsageJournal } from '../../dist/src/operators/usage-journal.js';

const [way] = process.argv.slice(2);

if (way === 'plain') {
  const server = createServer((request, response) => {
    const pieces = [];
    request.on('data', (piece) => pieces.push(piece));
    request.on('end', () => {
      const { a, b } = JSON.parse(Buffer.concat(pieces));
      const body = JSON.stringify({ sum: a + b });
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
      response.end(body);
    });
  });
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
} else {
  const code = 'export function handle({ body: { a, b } }) { return { sum: a + b }; }';
  const workers = new WarmWorkers(0);
  // As `iguana start` has it: each call's record of usage is signed and written to a journal before whoever called goes on; the journal lets go of
  // those of a fifth of a second together.
  const directory = mkdtempSync(join(tmpdir(), 'iguana-usage-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const journal = new UsageJournal(directory, (error) => {
    throw error;
  });
  setInterval(() => {
    const segment = journal.cut();
    if (segment !== undefined) journal.remove(segment);
  }, usageLimits.flushMs);
  const functions = new FunctionService({
    clock: wallClock,
    factory: ({ definition }, env) => {
      const { name, handler, memoryMb, isolation } = definition;
      return workers.factory({ name, handler, env, code }, memoryMb, isolation);
    },
    onUsage: (record) => journal.append(JSON.stringify(record)),
    usageKey: 'benchmark',
  });
  const definition = functionSchema.parse({
    name: 'sum',
    runtime: 'javascript',
    code: { inline: code },
    concurrency: 1_000,
    scaling: { minInstances: 1, maxInstances: 1 },
    triggers: [{ type: 'http', method: 'POST', path: '/sum' }],
  });
  await functions.deploy({ definition, code: Buffer.from(code) });
  const api = {
    list: () => functions.list(),
    onChange: (listener) => functions.onChange(listener),
    invoke: (name, event, options) => functions.invoke(name, event, options),
    metrics: (name) => functions.metrics(name),
    stats: (name) => ({ paused: false, keepAlive: functions.keepAlive(name), triggers: [] }),
    billing: () => ({ estimatedCostUsd: 0 }),
  };
  const { port } = await startDashboard({ port: 0, model: new LiveModel(), functions: api });
  console.log(port);
}
/** All threads together; a line of input asks. */
process.stdin.on('data', () => {
  const { user, system } = process.cpuUsage();
  console.log(user + system);
});
process.stdin.on('end', () => process.exit());
