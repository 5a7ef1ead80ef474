import { gpuToolLimits } from '../../limits.js';

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export interface JsonBlocks {
  readonly blocks: readonly Json[];
  readonly problems: readonly string[];
}

/**
 * The JSON values (objects and arrays) in the answer of a tool, in order: between and before them tools print warnings, and some print one array after the other.
 * What is cut off at the end is not guessed at: of an outer value that is not closed, the inner ones that are closed are taken.
 */
export function jsonBlocks(text: string): JsonBlocks {
  const blocks: Json[] = [];
  const problems: string[] = [];
  let falseStarts = 0;
  let between = '';
  for (let at = 0; at < text.length; ) {
    const start = nextOf(text, at);
    if (start < 0) {
      between += text.slice(at);
      break;
    }
    between += text.slice(at, start);
    const end = endOf(text, start);
    let value: Json | undefined;
    if (end > 0) value = parse(text.slice(start, end));
    if (value !== undefined) {
      // `[0]` in a warning is JSON too, but nothing that is looked for
      if (isObject(value) || (Array.isArray(value) && value.every((one) => isObject(one)))) blocks.push(value);
      at = end;
      continue;
    }
    if (++falseStarts > gpuToolLimits.maxFalseStarts) {
      problems.push('too much in it that is no JSON');
      break;
    }
    between += text[start];
    at = start + 1;
  }
  const said = between
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => /[a-z]/i.test(line));
  if (falseStarts > 0 || said.length > 0)
    problems.push(said.length > 0 ? `beside the JSON: ${said.slice(0, 2).join(' / ').slice(0, 200)}` : 'broken JSON');
  return { blocks, problems };
}

function nextOf(text: string, from: number): number {
  for (let at = from; at < text.length; at++) if (text[at] === '{' || text[at] === '[') return at;
  return -1;
}

/** One past the bracket that closes the one at `start`, or -1. */
function endOf(text: string, start: number): number {
  let depth = 0;
  for (let at = start; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22: // a string is passed over
        for (at++; at < text.length && text[at] !== '"'; at++) if (text[at] === '\\') at++;
        break;
      case 0x7b:
      case 0x5b:
        depth++;
        break;
      case 0x7d:
      case 0x5d:
        if (--depth === 0) return at + 1;
        break;
      default:
    }
  }
  return -1;
}

function parse(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    // not JSON: the caller goes on behind the bracket and says so
    return undefined;
  }
}

/** What is at `path`, or undefined. */
export function jsonAt(value: Json | undefined, ...path: readonly string[]): Json | undefined {
  let here = value;
  for (const key of path) here = isObject(here) ? here[key] : undefined;
  return here;
}

/** A leaf as a tool would print it in a table: `{"value": 5, "unit": "W"}` → `5 W`. Undefined: there is none. */
export function jsonText(value: Json | undefined): string | undefined {
  if (value === undefined) return undefined;
  if (value === null) return '';
  if (typeof value === 'object') {
    if (!isObject(value) || !('value' in value)) return undefined;
    const inner = jsonText(value.value);
    const unit = jsonText(value.unit) ?? '';
    return inner === undefined ? undefined : `${inner} ${unit}`.trim();
  }
  return String(value);
}
