import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { IguanaError } from '../../errors.js';
import { makeDirectories } from '../../make-directories.js';
import { assemblyscript } from './assemblyscript.js';
import { c } from './c.js';
import { javascript } from './javascript.js';
import { rust } from './rust.js';
import type { Template } from './template.js';
import { typescript } from './typescript.js';

const templates = { javascript, typescript, assemblyscript, c, rust } satisfies Record<string, Template>;
export type TemplateLanguage = keyof typeof templates;
export const templateLanguages = Object.keys(templates) as readonly TemplateLanguage[];

export interface WrittenTemplate {
  /** In the directory, the definition first. */
  readonly files: readonly string[];
  /** What makes it into WebAssembly, to be run in the directory after each change; absent where the code runs as it is. */
  readonly build?: string;
  /** Why that could not be done now, and what to install. */
  readonly notBuilt?: string;
}

/**
 * Writes a first function: its definition and code, and for a language that is compiled its module, where the compiler is there.
 * @param directory made when it is not there
 * @throws IguanaError `IGU_USAGE` for an unknown language, a name that no function may have, and where a file is in the way
 */
export function writeTemplate(language: string, directory: string, name: string): WrittenTemplate {
  const template = (templates as Record<string, Template>)[language];
  if (!template)
    throw new IguanaError('IGU_USAGE', {
      what: `no template for ${language}: there are ${templateLanguages.join(', ')}`,
    });
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name))
    throw new IguanaError('IGU_USAGE', {
      what: `${name} cannot name a function: lower-case letters, digits and hyphens`,
    });
  const named = (text: string): string => text.replaceAll('NAME', name);
  const files = Object.entries(template.files).map(([file, text]) => [named(file), named(text)] as const);
  const there = files.find(([file]) => existsSync(join(directory, file)));
  if (there) throw new IguanaError('IGU_USAGE', { what: `${join(directory, there[0])} is there already` });
  makeDirectories(directory);
  for (const [file, text] of files) writeFileSync(join(directory, file), text);
  const written = files.map(([file]) => file);
  const { build } = template;
  if (!build) return { files: written };
  const commands = build.commands.map((command) => command.map(named));
  const shown = commands.map((command) => command.join(' ')).join(' && ');
  const notBuilt = whyNotBuilt(commands, directory, build.tools);
  if (notBuilt !== undefined) return { files: written, build: shown, notBuilt };
  return { files: [...written, `${name}.wasm`], build: shown };
}

function whyNotBuilt(commands: readonly string[][], cwd: string, tools: string): string | undefined {
  for (const [tool = '', ...args] of commands) {
    const { error, status, stderr } = spawnSync(tool, args, { cwd, encoding: 'utf8', timeout: 120_000 });
    if (error && 'code' in error && error.code === 'ENOENT') return `${tool} is not there. It needs ${tools}`;
    if (error) return `${tool}: ${error.message}. It needs ${tools}`;
    if (status !== 0) return `${tool} ended with ${status}: ${firstLine(stderr)}. It needs ${tools}`;
  }
  return undefined;
}

function firstLine(text: string): string {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  return lines.find((line) => line.includes('error')) ?? lines[0] ?? 'it said nothing';
}
