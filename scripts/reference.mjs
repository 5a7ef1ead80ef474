// Writes docs/reference/ from the code: error codes, commands, limits, schemas. With --check it writes nothing and fails when a page is not what it would write.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { program } from '../dist/src/cli/main.js';
import { errorTable } from '../dist/src/errors.js';
import { functionSchema } from '../dist/src/functions/definition.js';

const folder = 'docs/reference';
const check = process.argv.includes('--check');
const cell = (text) => String(text).replaceAll('|', '\\|').replaceAll('\n', ' ');
const head = (title) => `# ${title}\n\nMade from the code by \`npm run reference\`; do not edit.\n\n`;

const pages = {
  'errors.md': errors(),
  'commands.md': await commands(),
  'functions.md': functions(),
  'limits.md': limits(),
  'schemas.md': schemas(),
};
let stale = 0;
mkdirSync(folder, { recursive: true });
for (const [name, text] of Object.entries(pages)) {
  const file = `${folder}/${name}`;
  if (existsSync(file) && readFileSync(file, 'utf8') === text) continue;
  stale++;
  if (check) console.error(`${file} is not what the code says; run npm run reference`);
  else writeFileSync(file, text);
}
console.log(`reference: ${Object.keys(pages).length} pages, ${stale} ${check ? 'stale' : 'written'}`);
if (check && stale > 0) process.exit(1);

function errors() {
  const rows = Object.entries(errorTable).map(
    ([code, { message, fix, retriable }]) =>
      `| \`${code}\` | ${cell(message)} | ${cell(fix)} | ${retriable ? 'yes' : 'no'} |`,
  );
  return `${head('Error codes')}| code | what happened | what to do | worth trying again |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
}

async function commands() {
  const all = (await program()).commands.flatMap((command) => [command, ...command.commands]);
  const parts = all.map((command) => {
    let text = '';
    command.configureOutput({
      writeOut: (part) => {
        text += part;
      },
      getOutHelpWidth: () => 120,
      getOutHasColors: () => false,
    });
    command.outputHelp();
    const group = command.parent?.parent ? `${command.parent.name()} ` : '';
    return `## iguana ${group}${command.name()}\n\n\`\`\`\n${text.trim()}\n\`\`\`\n`;
  });
  return `${head('Commands')}${parts.join('\n')}`;
}

/** `export const xLimits = {…}` with a comment before each bound, as src/limits.ts is written. */
function limits() {
  const rows = [];
  let area = '';
  let comment = '';
  for (const line of readFileSync('src/limits.ts', 'utf8').split('\n')) {
    const start = /^export const (\w+) = \{/.exec(line);
    const note = /^\s*\/\*\* (.*?) ?\*\/$/.exec(line);
    const bound = /^\s{2}(\w+): (.*),$/.exec(line);
    if (start) {
      area = start[1];
      comment = '';
    } else if (note) comment = note[1];
    else if (bound) rows.push(`| ${area} | \`${bound[1]}\` | ${bound[2]} | ${cell(comment)} |`);
  }
  return `${head('Limits')}| area | bound | value | what for |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
}

/** Settings of `functions/*.yaml`: types and defaults as the schema has them, what for from the comments beside them. */
function functions() {
  const blocks = commentsOf(readFileSync('src/functions/definition.ts', 'utf8'));
  let comments = blocks.get('keptFunctionSchema');
  const { properties, required } = z.toJSONSchema(functionSchema, { io: 'input', unrepresentable: 'any' });
  const row = (path, name, schema, needed) => {
    const standard = 'default' in schema ? `\`${JSON.stringify(schema.default)}\`` : needed ? 'needed' : '';
    return `| \`${path}${name}\` | ${cell(shapeOf(schema))} | ${cell(standard)} | ${cell(comments.get(name) ?? '')} |`;
  };
  const table = (path, object) =>
    Object.entries(object.properties).flatMap(([name, schema]) => [
      row(path, name, schema, object.required?.includes(name)),
      ...(schema.type === 'object' && schema.properties ? table(`${path}${name}.`, schema) : []),
    ]);
  const title = '| setting | what | default | meaning |\n| --- | --- | --- | --- |\n';
  const { triggers, ...rest } = properties;
  const parts = [`## A function\n\n${title}${table('', { properties: { ...rest, triggers }, required }).join('\n')}\n`];
  for (const trigger of triggers.items.oneOf ?? triggers.items.anyOf) {
    const type = trigger.properties.type.const;
    comments = new Map([...blocks.get('failure'), ...blocks.get(`${type}Trigger`)]);
    parts.push(`## Trigger: ${type}\n\n${title}${table('', trigger).join('\n')}\n`);
  }
  return `${head('Functions: what a definition may say')}${parts.join('\n')}`;
}

/** Constant → name in it → the comment that stands before it. */
function commentsOf(source) {
  const blocks = new Map();
  let found = new Map();
  let comment = '';
  for (const line of source.split('\n')) {
    const block = /^(?:export )?const (\w+)/.exec(line)?.[1];
    const whole = /^\s*\/\*\* (.*?) ?\*\/$/.exec(line);
    const name = /^\s+(\w+)(?:[:,]|$)/.exec(line)?.[1];
    if (block) {
      found = new Map();
      blocks.set(block, found);
      comment = '';
    } else if (whole) comment = whole[1];
    else if (name) {
      if (comment && !found.has(name)) found.set(name, comment);
      comment = '';
    }
  }
  return blocks;
}

function shapeOf(schema) {
  if (schema.const !== undefined) return `\`${schema.const}\``;
  if (schema.enum) return schema.enum.map((one) => `\`${one}\``).join(', ');
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives) return alternatives.map(shapeOf).join(', or ');
  if (schema.type === 'array') return 'list';
  if (schema.type === 'object') {
    if (!schema.properties) return 'name → text';
    return `{${Object.keys(schema.properties).join(', ')}}`;
  }
  if (schema.type === 'integer' || schema.type === 'number') {
    const { minimum, maximum } = schema;
    return minimum === undefined
      ? 'number'
      : `${schema.type === 'integer' ? 'whole ' : ''}number, ${minimum} to ${maximum}`;
  }
  if (schema.type === 'boolean') return '`true`, `false`';
  return schema.type === 'string' ? 'text' : 'condition';
}

function schemas() {
  const parts = readdirSync('schemas')
    .sort()
    .map((file) => {
      const schema = JSON.parse(readFileSync(`schemas/${file}`, 'utf8'));
      const rows = schema.fields.map(
        ({ name, type, doc }) => `| \`${name}\` | ${cell(typeOf(type))} | ${cell(doc ?? '')} |`,
      );
      return `## ${file.replace('.avsc', '')}\n\n${schema.doc ?? ''}\n\n| field | type | meaning |\n| --- | --- | --- |\n${rows.join('\n')}\n`;
    });
  return `${head('Schemas')}${parts.join('\n')}`;
}

function typeOf(type) {
  if (Array.isArray(type)) return type.map(typeOf).join(' or ');
  if (typeof type === 'string') return type;
  if (type.type === 'array') return `array of ${typeOf(type.items)}`;
  if (type.type === 'map') return `map of ${typeOf(type.values)}`;
  if (type.type === 'record') return `${type.name} {${type.fields.map((f) => f.name).join(', ')}}`;
  if (type.type === 'enum') return type.symbols.join(' \\| ');
  return type.type;
}
