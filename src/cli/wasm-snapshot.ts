import { Command } from 'commander';
import { WasmRuntime } from '../wasm/runtime/runtime.js';
import { SNAPSHOT_PAGE } from '../wasm/snapshot/page-scan.js';
import { SnapshotStore } from '../wasm/snapshot/snapshot-store.js';
import { aligned } from './terminal.js';
import { invocationOf } from './wasm-options.js';
import { endingOf, invoke, makeGuest, meteredOptions, type RunOptions, trapText } from './wasm-run.js';

/** `iguana wasm snapshot`: a module's state after its initialisation or a call, kept to begin with. */
export function wasmSnapshotCommand(): Command {
  return meteredOptions(new Command('snapshot'))
    .description('Keep the state of a module after its start, or after the call of --invoke')
    .argument('<file>', 'module in binary format')
    .argument('[args...]', 'arguments of the guest, after --')
    .requiredOption('--store <directory>', 'where snapshots are kept; made when it is not there')
    .option('--json', 'print it as JSON')
    .addHelpText(
      'after',
      '\nWhat the call saw is in the snapshot for good: time, random numbers, environment, files.\n\nExamples:\n  iguana wasm snapshot app.wasm --store ./snapshots --invoke init\n  iguana wasm run app.wasm --store ./snapshots --snapshot ID --invoke handle 7',
    )
    .action(async (file: string, args: string[], options: RunOptions & { store: string }) => {
      const runtime = new WasmRuntime({ workers: 1 });
      try {
        const module = await runtime.loadModule(file);
        const invocation = options.invoke ? invocationOf(module, options.invoke) : undefined;
        const instance = await makeGuest(runtime, module, options, [file, ...args], options.json === true);
        try {
          const initialise = module.exports.some(({ kind, name }) => kind === 'function' && name === '_initialize');
          if (invocation) await invoke(runtime, module, instance, invocation, false);
          else if (initialise) await runtime.callFunction(instance, '_initialize');
        } catch (error) {
          const { exitCode, trap } = endingOf(error);
          if (trap) process.stderr.write(`${trapText(trap)}\n`);
          process.exitCode = exitCode;
          if (trap) return;
        }
        const snapshot = await runtime.snapshotCreate(instance);
        const id = await (await SnapshotStore.open(options.store)).save(snapshot);
        const report = {
          id,
          module: module.id,
          store: options.store,
          pages: snapshot.pages.length / SNAPSHOT_PAGE,
          bytes: snapshot.pages.length,
          memoryBytes: (await runtime.info(instance)).memoryBytes,
          gasUsed: Number(snapshot.gasUsed),
        };
        if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
        else
          process.stdout.write(
            `${aligned([
              ['snapshot', id],
              ['pages that differ', `${report.pages} of 4 KiB`],
              ['memory', `${report.memoryBytes} bytes`],
              ['gas so far', String(report.gasUsed)],
              ['begin with it', `iguana wasm run ${file} --store ${options.store} --snapshot ${id}`],
            ])}\n`,
          );
      } finally {
        await runtime.close();
      }
    });
}
