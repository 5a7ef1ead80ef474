import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { TraceWriter } from '../simulator/trace.js';
import { collectHostSamples } from './host-metrics.js';
import { wholeNumber } from './suggest.js';
import { progress } from './terminal.js';
import { untilStopped } from './until-stopped.js';

interface RecordOptions {
  seconds?: number;
  every: number;
  json?: boolean;
}

/** `iguana record`: this machine's metrics to a trace file that `iguana replay` reads. */
export function recordCommand(): Command {
  return new Command('record')
    .description("Record this machine's metrics to a trace file for replay")
    .argument('<file>', 'NDJSON, packed when the name ends in .gz')
    .option('--seconds <n>', 'stop after so long (default: at q or Ctrl-C)', wholeNumber(1, 31_536_000))
    .option('--every <ms>', 'time between two readings', wholeNumber(100, 3_600_000), 1000)
    .option('--json', 'what was recorded as one object')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana record trace.ndjson.gz --seconds 600\n  iguana record trace.ndjson && iguana replay trace.ndjson --metric cpu_usage',
    )
    .action(async (file: string, { seconds, every, json }: RecordOptions) => {
      const stop = new AbortController();
      let code = 0;
      void untilStopped().then((asked) => {
        code = asked;
        stop.abort();
      });
      const writer = new TraceWriter(file);
      const bar = progress('record', seconds ?? 1);
      const begun = performance.now();
      const names = new Set<string>();
      let samples = 0;
      for (let round = 1; !stop.signal.aborted; round++) {
        const read = await collectHostSamples();
        await writer.write(read);
        samples += read.length;
        for (const { name, labels } of read) names.add(JSON.stringify([name, labels]));
        const elapsed = performance.now() - begun;
        if (seconds !== undefined) {
          bar.update(elapsed / 1000);
          if (round * every >= seconds * 1000) break;
        }
        await delay(Math.max(0, round * every - elapsed), undefined, { signal: stop.signal }).catch(() => undefined);
      }
      await writer.close();
      bar.end();
      const took = (performance.now() - begun) / 1000;
      const report = { file, samples, series: names.size, seconds: Number(took.toFixed(1)) };
      process.stdout.write(
        json
          ? `${JSON.stringify(report)}\n`
          : `${file}: ${samples} samples of ${names.size} series in ${report.seconds} s\n`,
      );
      // the wait for keys and signals would keep the process alive
      process.exit(code);
    });
}
