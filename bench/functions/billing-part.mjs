// A process of the billing benchmark: makes its share of the month's calls from its last checkpoint on, until it is done or killed.
// node billing-part.mjs BROKER TOPIC DIRECTORY PART PARTS CALLS
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { usageRecord } from '../../dist/src/functions/billing.js';
import { usageTopic } from '../../dist/src/operators/usage-topic.js';
import { callAt, triesOf } from './month.mjs';

const [broker, topic, directory, part, parts, count] = process.argv.slice(2);
const checkpoint = join(directory, 'checkpoint');
/** Calls between two checkpoints: what comes again after a kill, under the same ids. */
const BATCH = 500;

let next = Number(part);
try {
  next = Number(readFileSync(checkpoint, 'utf8'));
} catch {
  // the first start
}
const usage = await usageTopic({
  connection: { brokers: [broker] },
  topic,
  keys: ['key'],
  journal: join(directory, 'journal'),
});
process.stdout.write('ready\n');
let sinceCheckpoint = 0;
const took = [];
for (; next < Number(count); next += Number(parts)) {
  for (const one of triesOf(callAt(next, Number(count)))) {
    const record = usageRecord(one, 'key');
    const began = performance.now();
    usage.record(record);
    if (next % 64 === Number(part)) took.push(performance.now() - began);
    // some are told twice at once
    if (next % 97 === 0) usage.record(record);
  }
  if (++sinceCheckpoint === BATCH) {
    sinceCheckpoint = 0;
    writeFileSync(checkpoint, String(next + Number(parts)));
    await new Promise((resolve) => setImmediate(resolve));
    // as long as the topic has not what was recorded the calls wait, so that figures are of a steady state
    while (usage.counts.waiting > 20_000) await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
await usage.stop();
took.sort((a, b) => a - b);
const quantile = (q) => took[Math.min(took.length - 1, Math.floor(q * took.length))] ?? 0;
process.stdout.write(`${JSON.stringify({ p50: quantile(0.5), p99: quantile(0.99), lost: usage.counts.lost })}\n`);
