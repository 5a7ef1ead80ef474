import { existsSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { type TemplateLanguage, templateLanguages, writeTemplate } from '../functions/templates/write-template.js';
import { readConfig } from './config.js';
import { oneOf } from './suggest.js';
import { paint } from './terminal.js';

interface InitOptions {
  readonly template: TemplateLanguage;
  readonly directory?: string;
  readonly config?: string;
  readonly json?: boolean;
}

/** `iguana function init NAME`: a first function to change, in the directory that a running Iguana follows. */
export function functionInitCommand(): Command {
  return new Command('init')
    .description('Write a first function: its definition and its code')
    .argument('<name>', 'lower-case letters, digits and hyphens')
    .option('--template <language>', templateLanguages.join(', '), oneOf(templateLanguages), 'javascript' as const)
    .option('--directory <directory>', 'where to put it (default: the configured directory of functions)')
    .option('--config <file>', 'configuration (default: iguana.yaml here, if there is one)')
    .option('--json', 'print what was written as JSON')
    .addHelpText('after', '\nExamples:\n  iguana function init hello\n  iguana function init resize --template rust')
    .action((name: string, options: InitOptions) => {
      const directory = options.directory ?? readConfig(options.config).functions.directory;
      const written = writeTemplate(options.template, directory, name);
      const files = written.files.map((file) => path.join(directory, file));
      if (options.json) {
        process.stdout.write(`${JSON.stringify({ ...written, files })}\n`);
        return;
      }
      for (const file of files) process.stdout.write(`${paint('green', 'wrote')} ${file}\n`);
      if (written.notBuilt !== undefined)
        process.stderr.write(`${paint('yellow', `not built: ${written.notBuilt}`, process.stderr)}\n`);
      for (const line of nextSteps(name, files[0]!, directory, written.build, options))
        process.stdout.write(`${line}\n`);
    });
}

function nextSteps(
  name: string,
  definition: string,
  directory: string,
  build: string | undefined,
  options: InitOptions,
): string[] {
  const steps = ['', 'Next:'];
  if (build !== undefined) steps.push(`  (cd ${directory} && ${build})   # after each change`);
  const followed = options.directory === undefined && existsSync(definition);
  steps.push(
    followed
      ? '  iguana start                      # deploys it, and again when it changes'
      : `  iguana function deploy ${definition}`,
    `  iguana function invoke ${name} --input '{"name": "Ada"}'`,
  );
  return steps;
}
