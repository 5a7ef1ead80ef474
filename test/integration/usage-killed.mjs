// A process that records usage as fast as it can, and says on a line of its own output how many records it had recorded, until it is killed.
// node usage-killed.mjs DIST BROKERS TOPIC JOURNAL|-
const [dist, brokers, topic, journal] = process.argv.slice(2);
const { usageTopic } = await import(new URL('src/operators/usage-topic.js', dist));
const { usageRecord } = await import(new URL('src/functions/billing.js', dist));
const { writeSync } = await import('node:fs');

const usage = await usageTopic({
  connection: { brokers: [brokers] },
  topic,
  keys: ['key'],
  ...(journal === '-' ? {} : { journal }),
});
const rest = { function: 'f', version: 1, initMs: 0, memoryMb: 512, gasUsed: 0, success: true };
for (let i = 0; ; i++) {
  usage.record(
    usageRecord({ ...rest, invocationId: `call-${i}`, startedAt: Date.now(), durationMs: 1 + (i % 50) }, 'key'),
  );
  // as whoever made a call hears of its end
  await undefined;
  writeSync(1, `${i + 1} ${Date.now()}\n`);
  if (i % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
}
