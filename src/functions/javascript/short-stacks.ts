/** Frames of Iguana and of Node's loader, with what called them. */
const FOREIGN =
  /\n *at [^\n]*(?:\/functions\/javascript\/[a-z-]+\.[jt]s|node:internal\/modules\/esm)[^\n]*(?:\n *at [^\n]*)*/g;
/** The address of a module that is its text. */
const WHOLE = /data:text\/javascript;charset=utf-8,[^\s:"]*/g;

/** A text with the stacks in it cut to the function's own frames, and without the function's whole code as an address. */
export function shortened(text: string): string {
  const stacks = text.includes('\n    at ') ? text.replace(FOREIGN, (cut) => (cut.endsWith(' {') ? ' {' : '')) : text;
  return stacks.includes('data:text/javascript;charset=utf-8,') ? stacks.replace(WHOLE, 'the function') : stacks;
}
