import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import type { FunctionDefinition } from '../functions/definition.js';
import { importProblem } from '../functions/javascript/load-problem.js';
import { isTypeScript, javascriptOf } from '../functions/javascript/typescript.js';
import { readConfig } from './config.js';
import { functionFilesIn, readFunctionFile } from './function-files.js';
import { paint } from './terminal.js';

interface Finding {
  readonly file: string;
  readonly ok: boolean;
  readonly found: string;
}

/** `iguana function lint`: checks definitions and their code without running anything. Exit code 1 when something is wrong. */
export function functionLintCommand(): Command {
  return new Command('lint')
    .description('Check definitions and the code they name, without running them')
    .argument('[path...]', 'definitions, or directories of them (default: the configured directory)')
    .option('--config <file>', 'configuration (default: iguana.yaml here, if there is one)')
    .option('--json', 'print an array of findings')
    .addHelpText('after', '\nExamples:\n  iguana function lint\n  iguana function lint functions/orders.yaml')
    .action(async (paths: string[], options: { config?: string; json?: boolean }) => {
      const given = paths.length > 0 ? paths : [readConfig(options.config).functions.directory];
      const files = given.flatMap(filesOf);
      const findings = await Promise.all(files.map(examine));
      if (options.json) process.stdout.write(`${JSON.stringify(findings, null, 2)}\n`);
      else {
        for (const { file, ok, found } of findings)
          process.stdout.write(
            `${ok ? paint('green', 'ok') : paint('red', 'no')}  ${ok ? `${file}: ${found}` : found}\n`,
          );
        const wrong = findings.filter(({ ok }) => !ok).length;
        process.stdout.write(`${findings.length} read, ${wrong === 0 ? 'nothing wrong' : `${wrong} wrong`}\n`);
      }
      if (findings.some(({ ok }) => !ok)) process.exitCode = 1;
    });
}

/** @throws IguanaError when there is nothing to check */
function filesOf(given: string): string[] {
  const stat = statSync(given, { throwIfNoEntry: false });
  if (!stat) throw new IguanaError('IGU_FILE_MISSING', { path: given });
  if (!stat.isDirectory()) return [given];
  const files = functionFilesIn(given);
  if (files.length === 0) throw new IguanaError('IGU_USAGE', { what: `there is no *.yaml in ${given}` });
  return files;
}

async function examine(file: string): Promise<Finding> {
  try {
    const { deployment, codeFile } = readFunctionFile(file);
    const { definition, code } = deployment;
    const problem =
      definition.runtime === 'wasm'
        ? await wasmProblem(code)
        : await syntaxProblem(definition, Buffer.from(code).toString());
    if (problem !== undefined) return { file, ok: false, found: `${codeFile ?? file}: ${problem}` };
    const count = definition.triggers.length;
    return { file, ok: true, found: `${definition.name}, ${count} ${count === 1 ? 'trigger' : 'triggers'}` };
  } catch (error) {
    return { file, ok: false, found: messageOf(error) };
  }
}

async function wasmProblem(code: Uint8Array): Promise<string | undefined> {
  try {
    await WebAssembly.compile(new Uint8Array(code));
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** What keeps a module from being parsed or linked, with its line; Node itself says it. */
async function syntaxProblem(definition: FunctionDefinition, text: string): Promise<string | undefined> {
  const code = isTypeScript(definition) ? (await javascriptOf(definition.name, text)).code : text;
  const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-lint-'));
  try {
    const module = path.join(folder, 'module.mjs');
    writeFileSync(module, code);
    const { status, stderr } = spawnSync(process.execPath, ['--check', module], { encoding: 'utf8' });
    if (status === 0) return await importProblem(code, text);
    const line = /module\.mjs:(\d+)/.exec(stderr)?.[1];
    const what = /^\w*Error: .*$/m.exec(stderr)?.[0] ?? 'it cannot be parsed';
    return line === undefined ? what : `line ${line}: ${what}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
}
