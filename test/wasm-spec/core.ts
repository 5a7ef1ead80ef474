/**
 * The WebAssembly core test suite on V8, each script twice: its modules as they are, and metered. What passes plain must pass metered, with equal
 * results. `npm run test:wasm -- core [FOLDER]`; without a folder the scripts come from a crate, by cargo.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import wabtModule from 'wabt';
import { messageOf } from '../../src/errors.js';
import { obtainSuite, scriptsIn } from './obtain.js';
import { type Assembler, type CommandResult, runScript } from './runner.js';
import { readForms } from './script.js';

const features = {
  exceptions: true,
  mutable_globals: true,
  sat_float_to_int: true,
  sign_extension: true,
  simd: true,
  threads: true,
  function_references: true,
  multi_value: true,
  tail_call: true,
  bulk_memory: true,
  reference_types: true,
  annotations: true,
  code_metadata: true,
  gc: true,
  memory64: true,
  extended_const: true,
  relaxed_simd: true,
};

interface FileResult {
  plain: number;
  metered: number;
  readonly differences: string[];
  /** Commands that cannot run, by reason. */
  readonly left: Map<string, number>;
  readonly refused: Map<string, number>;
}

function compare(plain: readonly CommandResult[], metered: readonly CommandResult[]): FileResult {
  const result: FileResult = { plain: 0, metered: 0, differences: [], left: new Map(), refused: new Map() };
  for (const [i, before] of plain.entries()) {
    const after = metered[i]!;
    if (before.status === 'passed') result.plain++;
    else note(result.left, shortReason(before));
    if (before.status === 'passed' && after.status === 'refused') note(result.refused, after.reason ?? '');
    else if (before.status === 'passed') {
      if (after.status === 'passed' && before.seen === after.seen) result.metered++;
      else {
        const was = `${after.status} ${after.reason ?? after.seen ?? ''}`;
        result.differences.push(`${before.line}: ${before.command}: plain ${before.seen ?? 'passed'}, metered ${was}`);
      }
    }
  }
  return result;
}

function shortReason({ status, reason = '', command }: CommandResult): string {
  if (status === 'failed') return `${command} fails plain too: ${reason.slice(0, 120)}`;
  return reason
    .replace(/^parseWat failed:\s*/, 'text: ')
    .replace(/[^ ]*:\d+:\d+: error: /, '')
    .split('\n')[0]!
    .slice(0, 120);
}

function note(counts: Map<string, number>, reason: string): void {
  counts.set(reason, (counts.get(reason) ?? 0) + 1);
}

interface CoreOptions {
  /** Where scripts lie; else they are fetched. */
  readonly folder: string | undefined;
  /** Only files whose path has it. */
  readonly part: string | undefined;
  /** All reasons of each file. */
  readonly verbose: boolean;
}

/** @returns exit status */
export async function core({ folder: given, part: only, verbose }: CoreOptions): Promise<number> {
  const suite = given ? { folder: given } : obtainSuite();
  if ('missing' in suite) {
    console.log(`core test suite skipped: ${suite.missing}`);
    return 0;
  }
  const wabt = await wabtModule();
  const assemble: Assembler = (text) => {
    // A buffer of its own: wabt takes the whole buffer behind a view.
    const module = wabt.parseWat('script.wat', new Uint8Array(Buffer.from(text)), features);
    try {
      module.resolveNames();
      return new Uint8Array(module.toBinary({ write_debug_names: true }).buffer);
    } finally {
      module.destroy();
    }
  };
  const totals = { files: 0, commands: 0, plain: 0, metered: 0, differences: 0 };
  const left = new Map<string, number>();
  const refused = new Map<string, number>();
  for (const file of scriptsIn(suite.folder)) {
    if (only && !file.includes(only)) continue;
    const source = readFileSync(join(suite.folder, file), 'utf8');
    let forms: ReturnType<typeof readForms>;
    try {
      forms = readForms(source);
    } catch (error) {
      console.log(`${file}: not read: ${messageOf(error)}`);
      note(left, `script not read: ${messageOf(error)}`);
      continue;
    }
    const result = compare(runScript(source, forms, false, assemble), runScript(source, forms, true, assemble));
    totals.files++;
    totals.commands += forms.length;
    totals.plain += result.plain;
    totals.metered += result.metered;
    totals.differences += result.differences.length;
    for (const [reason, count] of result.left) left.set(reason, (left.get(reason) ?? 0) + count);
    for (const [reason, count] of result.refused) refused.set(reason, (refused.get(reason) ?? 0) + count);
    const notRun = [...result.left.values()].reduce((a, b) => a + b, 0);
    const named = [...result.refused.values()].reduce((a, b) => a + b, 0);
    console.log(
      `${file}: plain ${result.plain}, metered ${result.metered}, refused by name ${named}, not runnable ${notRun}`,
    );
    if (verbose) for (const [reason, count] of result.left) console.log(`    ${count} × ${reason}`);
    for (const difference of result.differences.slice(0, verbose ? undefined : 5))
      console.log(`  DIFFERS ${difference}`);
  }
  if (totals.plain === 0) {
    console.log('no command ran: nothing was shown');
    return 1;
  }
  console.log('\nRefused by the rewriter, by name:');
  for (const [reason, count] of refused) console.log(`  ${count} × ${reason}`);
  console.log('Not runnable plain, most frequent reasons:');
  for (const [reason, count] of [...left].sort(([, a], [, b]) => b - a).slice(0, 25))
    console.log(`  ${count} × ${reason}`);
  console.log(
    `\n${totals.files} scripts, ${totals.commands} commands: ${totals.plain} pass plain, of those ${totals.metered} metered with equal results, ` +
      `${totals.plain - totals.metered - totals.differences} refused by name, ${totals.differences} differ`,
  );
  return totals.differences === 0 ? 0 : 1;
}
