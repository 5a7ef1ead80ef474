import { SourceMap } from 'node:module';

/** A frame of Iguana, with those that led to it. */
const OURS = /\n *at [^\n]*\/functions\/javascript\/[a-z-]+\.[jt]s[^\n]*(?:\n *at [^\n]*)*/g;
/** Frames of what brings a module, a timer or a promise to run. */
const NODES = /\n *at [^\n]*node:internal\/(?:modules\/esm|process\/|timers)[^\n]*/g;
/** The address of a module that is its text. */
const WHOLE = /data:text\/javascript;charset=utf-8,[^\s:"]*/g;

/** A place in a function's module; what is called there may have anything in its name. */
const PLACE = /(\n *at (?:[^\n]* \(|async )?)([a-z0-9][a-z0-9-]*):(\d+):(\d+)/g;

/** Of functions in TypeScript by name; parsed when the first place is asked for. */
const maps = new Map<string, string | SourceMap>();

/** From now on places in the JavaScript of that name are told as those in what it was made of. @param map version 3, JSON; undefined: it was made of nothing else */
export function setSourceMap(name: string, map: string | undefined): void {
  if (map === undefined) maps.delete(name);
  else maps.set(name, map);
}

/** `name:line:column` of what a module was made of. */
export function sourcePlace(name: string, line: number, column: number): string {
  let map = maps.get(name);
  if (typeof map === 'string') {
    map = new SourceMap(JSON.parse(map));
    maps.set(name, map);
  }
  const entry = map?.findEntry(line - 1, column - 1);
  if (!entry || !('originalLine' in entry)) return `${name}:${line}:${column}`;
  return `${name}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
}

/** A text with the stacks in it cut to the function's own frames, and without the function's whole code as an address. */
export function shortened(text: string): string {
  const stacks = text.includes('\n    at ') ? cutStacks(text) : text;
  return stacks.includes('data:text/javascript;charset=utf-8,') ? stacks.replace(WHOLE, 'the function') : stacks;
}

function cutStacks(text: string): string {
  const cut = text.replace(OURS, endOf).replace(NODES, endOf);
  if (maps.size === 0) return cut;
  return cut.replace(PLACE, (_, before: string, name: string, line: string, column: string) => {
    return before + sourcePlace(name, Number(line), Number(column));
  });
}

/** What is shown of an error beside its stack begins on the last line of that. */
function endOf(cut: string): string {
  return cut.endsWith(' {') ? ' {' : '';
}
