// A process that may decide about GPUs, until it is killed; prints a line when it does, or when it runs.
// node gpu-scheduler-killed.mjs PLACE acting|running
import { scheduleGpus } from '../../dist/pipelines/schedule-gpus.js';

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const [place, when] = process.argv.slice(2);
const gpus = await scheduleGpus({ ...JSON.parse(place), sessionTimeoutMs: 6_000 });
const looking = setInterval(() => {
  if (when === 'acting' && gpus.role !== 'acting') return;
  process.stdout.write(`${gpus.role}\n`);
  clearInterval(looking);
}, 20);
