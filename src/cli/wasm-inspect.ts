import { Command } from 'commander';
import { prices } from '../wasm/gas/prices.js';
import { wasiModulesOf } from '../wasm/runtime/guest-wasi.js';
import { type ModuleHandle, WasmRuntime } from '../wasm/runtime/runtime.js';
import { aligned, paint } from './terminal.js';
import { signatureText } from './wasm-options.js';

/** `iguana wasm inspect`: what a module needs, offers and may grow to. Nothing of it is run. */
export function wasmInspectCommand(): Command {
  return new Command('inspect')
    .description('Tell what a module needs and offers, without running it')
    .argument('<file>', 'module in binary format')
    .option('--json', 'print it as JSON')
    .addHelpText('after', '\nExamples:\n  iguana wasm inspect tool.wasm\n  iguana wasm inspect tool.wasm --json')
    .action(async (file: string, options: { json?: boolean }) => {
      const runtime = new WasmRuntime({ workers: 1 });
      try {
        const module = await runtime.loadModule(file);
        if (options.json) process.stdout.write(`${JSON.stringify({ file, ...module, gasPrices: prices }, null, 2)}\n`);
        else process.stdout.write(`${describe(file, module)}\n`);
      } finally {
        await runtime.close();
      }
    });
}

function describe(file: string, module: ModuleHandle): string {
  const wasi = wasiModulesOf(module);
  const others = module.imports.filter((one) => !wasi.some((name) => name === one.module));
  const functions = module.exports.filter((one) => one.kind === 'function');
  const rest = module.exports.filter((one) => one.kind !== 'function');
  const facts: [string, string][] = [
    ['file', file],
    ['id', module.id],
    ['size', `${module.size} bytes`],
    ['functions', String(module.functions)],
    ['memory', module.memory.map(memoryText).join(', ') || 'none'],
    ['features', module.features.join(', ') || 'those of the first release'],
    ['start function', module.hasStart ? 'yes' : 'no'],
    [
      'WASI',
      wasi.map((name) => `${name} (${module.imports.filter((one) => one.module === name).length})`).join(', ') || 'no',
    ],
    ['run by', howToRun(module)],
  ];
  const parts = [aligned(facts)];
  if (functions.length > 0)
    parts.push(
      list(
        'exported functions',
        functions.map(({ name, type }) => [name, signatureText(type)]),
      ),
    );
  if (rest.length > 0)
    parts.push(
      list(
        'other exports',
        rest.map(({ name, kind }) => [name, kind]),
      ),
    );
  if (others.length > 0)
    parts.push(
      list(
        'imports that the host must give',
        others.map((one) => [
          `${one.module}.${one.name}`,
          one.kind === 'function' ? signatureText(one.type) : one.kind,
        ]),
      ),
    );
  return parts.join('\n\n');
}

function list(title: string, rows: readonly (readonly [string, string])[]): string {
  const shown = rows.slice(0, MOST_ROWS);
  const more = rows.length > shown.length ? `\n  … and ${rows.length - shown.length} more (--json has all)` : '';
  return `${paint('bold', title)}\n${aligned(shown)}${more}`;
}

const MOST_ROWS = 60;

function memoryText({ initial, maximum }: ModuleHandle['memory'][number]): string {
  return `${mebibytes(initial)} MiB, ${maximum === undefined ? 'no maximum' : `at most ${mebibytes(maximum)} MiB`}`;
}

const mebibytes = (bytes: number): string => String(Math.round((bytes / 2 ** 20) * 100) / 100);

function howToRun(module: ModuleHandle): string {
  const names = new Set(module.exports.filter(({ kind }) => kind === 'function').map(({ name }) => name));
  if (names.has('_start')) return '_start (a command)';
  if (names.size === 0) return 'nothing: it exports no function';
  return `--invoke EXPORT ARG…${names.has('_initialize') ? ' (a library: _initialize is called first)' : ''}`;
}
