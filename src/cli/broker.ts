import { Command } from 'commander';
import { startBrokerThread } from '../broker/broker-thread.js';
import { wholeNumber } from './suggest.js';
import { aligned, paint } from './terminal.js';
import { untilStopped } from './until-stopped.js';

/** `iguana broker`: the embedded Kafka broker alone, for any Kafka client. */
export function brokerCommand(): Command {
  return new Command('broker')
    .description('Run the embedded Kafka broker alone')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .option('--advertised-host <address>', 'address told to clients (default: the one they came in at)')
    .option('--port <n>', 'port; 0: any free one', wholeNumber(0, 65_535), 9092)
    .option('--data <dir>', 'keep records and offsets in this directory (default: in memory)')
    .option('--partitions <n>', 'partitions of topics created on first use', wholeNumber(1, 1000), 4)
    .option('--json', 'print the address as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana broker\n  iguana broker --port 0 --data ./kafka-data\n  kcat -b 127.0.0.1:9092 -L',
    )
    .action(
      async (options: {
        host: string;
        advertisedHost?: string;
        port: number;
        data?: string;
        partitions: number;
        json?: boolean;
      }) => {
        const broker = await startBrokerThread({
          host: options.host,
          ...(options.advertisedHost ? { advertisedHost: options.advertisedHost } : {}),
          port: options.port,
          dataDir: options.data ?? null,
          defaultPartitions: options.partitions,
        });
        const stopped = untilStopped();
        if (options.json)
          process.stdout.write(
            `${JSON.stringify({ host: broker.host, port: broker.port, data: options.data ?? null })}\n`,
          );
        else {
          const rows: [string, string][] = [
            ['broker', `${broker.host}:${broker.port}`],
            ['data', options.data ?? 'in memory, lost at the end'],
            ['stop', 'q or Ctrl-C'],
          ];
          process.stdout.write(`${paint('bold', 'iguana broker')}\n${aligned(rows)}\n`);
        }
        const code = await stopped;
        await broker.stop();
        process.exitCode = code;
      },
    );
}
