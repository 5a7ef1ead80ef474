// A process with one stream-triggered function, to be killed: every thousandth record is poison, the others are answered as they are.
import { functionSchema } from '../../dist/src/functions/definition.js';
import { streamTriggers } from '../../dist/src/operators/stream-triggers.js';

const [brokers, group, topic, output, exactlyOnce, sessionTimeoutMs] = process.argv.slice(2);
let n = 0;
const service = {
  async invoke(_name, { records }) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    if (records.some(({ value }) => value % 1_000 === 500)) throw new Error('poison');
    const rest = { durationMs: 1, initMs: 0, cold: false, memoryUsedMb: 1, logs: [], logsTruncated: false };
    return { invocationId: `${process.pid}-${n++}`, output: records.map(({ value }) => value), ...rest };
  },
};
const definition = functionSchema.parse({
  name: 'f',
  runtime: 'javascript',
  code: { inline: 'x' },
  output,
  triggers: [
    {
      type: 'stream',
      topic,
      from: 'earliest',
      order: 'key',
      parallel: 4,
      attempts: 2,
      backoffMs: 1,
      exactlyOnce: exactlyOnce === 'true',
    },
  ],
});
const triggers = streamTriggers({
  connection: { brokers: brokers.split(',') },
  group,
  sessionTimeoutMs: Number(sessionTimeoutMs),
  service,
  deadLetters: `${group}-dead`,
  onError: (error) => console.error(error),
});
await triggers.apply([{ name: 'f', version: 1, definition, aliases: {} }]);
