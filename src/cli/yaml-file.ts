import { readFileSync } from 'node:fs';
import { type Document, LineCounter, parseDocument } from 'yaml';
import { z } from 'zod';
import { IguanaError, messageOf } from '../errors.js';
import { nearest } from './suggest.js';

/** Text of a file. @throws IguanaError `IGU_FILE_MISSING` */
export function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new IguanaError('IGU_FILE_MISSING', { path: file }, { cause });
  }
}

/** YAML that says what a schema asks for, and where in the text it says it. */
export interface CheckedYaml<T> {
  readonly value: T;
  /** `file:line:col` of a path in it; of what is missing, of its nearest parent that is there. */
  placeOf(path: readonly PropertyKey[]): string;
}

/**
 * Reads and checks YAML.
 * @param file for messages
 * @param fixOf what to do about a wrong value; for a word that is not known the one that was perhaps meant is found here
 * @throws IguanaError `IGU_CONFIG` with file:line:col and the fix
 */
export function checkedYaml<S extends z.ZodType>(
  file: string,
  text: string,
  schema: S,
  fixOf: (path: readonly PropertyKey[]) => string,
): CheckedYaml<z.output<S>> {
  const lines = new LineCounter();
  // the place is told as everywhere else
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const placed = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const syntax = document.errors[0];
  if (syntax) {
    const several = syntax.code === 'MULTIPLE_DOCS';
    const what = several ? 'another document begins (---)' : syntax.message;
    const fix = several ? 'write one a file' : 'mend the YAML';
    throw new IguanaError('IGU_CONFIG', { where: placed(syntax.pos[0]), what, fix }, { cause: syntax });
  }
  const placeOf = (path: readonly PropertyKey[]): string => placed(offsetOf(document, path));
  const parsed = schema.safeParse(contentOf(document, file) ?? {});
  if (parsed.success) return { value: parsed.data, placeOf };
  // a misspelt word is also why another one is missing
  const issue = parsed.error.issues.find((one) => one.code === 'unrecognized_keys') ?? parsed.error.issues[0]!;
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys[0]! : undefined;
  const path = unknown === undefined ? issue.path : [...issue.path, unknown];
  throw new IguanaError('IGU_CONFIG', {
    where: placeOf(path),
    what: `${path.join('.')}${path.length > 0 ? ': ' : ''}${issue.message}`,
    fix: unknown === undefined ? fixOf(path) : unknownKeyFix(unknown, wordsAt(schema, issue.path)),
  });
}

/** @throws IguanaError `IGU_CONFIG` for a name (`*x`) of what is nowhere, or names that stand for too much */
function contentOf(document: Document, file: string): unknown {
  try {
    return document.toJS();
  } catch (cause) {
    throw new IguanaError('IGU_CONFIG', { where: file, what: messageOf(cause), fix: 'mend the YAML' }, { cause });
  }
}

function unknownKeyFix(key: string, words: readonly string[]): string {
  const near = nearest(key, words);
  return near ? `did you mean ${near}?` : `known here: ${words.join(', ')}`;
}

/** Words that a schema knows at a path; of all alternatives where there are several. */
function wordsAt(schema: unknown, path: readonly PropertyKey[]): string[] {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault)
    return wordsAt(schema.unwrap(), path);
  if (schema instanceof z.ZodUnion) return [...new Set(schema.options.flatMap((one) => wordsAt(one, path)))];
  const [step, ...rest] = path;
  if (schema instanceof z.ZodArray) return wordsAt(schema.element, rest);
  if (!(schema instanceof z.ZodObject)) return [];
  return step === undefined ? Object.keys(schema.shape) : wordsAt(schema.shape[step as string], rest);
}

function offsetOf(document: Document, path: readonly PropertyKey[]): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true) as { range?: [number, number, number] } | undefined;
    if (node?.range) return node.range[0];
  }
  return 0;
}
