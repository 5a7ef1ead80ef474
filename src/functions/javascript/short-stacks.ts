/** A frame of Iguana, with those that led to it. */
const OURS = /\n *at [^\n]*\/functions\/javascript\/[a-z-]+\.[jt]s[^\n]*(?:\n *at [^\n]*)*/g;
/** Frames of what brings a module, a timer or a promise to run. */
const NODES = /\n *at [^\n]*node:internal\/(?:modules\/esm|process\/|timers)[^\n]*/g;
/** The address of a module that is its text. */
const WHOLE = /data:text\/javascript;charset=utf-8,[^\s:"]*/g;

/** A text with the stacks in it cut to the function's own frames, and without the function's whole code as an address. */
export function shortened(text: string): string {
  const stacks = text.includes('\n    at ') ? text.replace(OURS, endOf).replace(NODES, endOf) : text;
  return stacks.includes('data:text/javascript;charset=utf-8,') ? stacks.replace(WHOLE, 'the function') : stacks;
}

/** What is shown of an error beside its stack begins on the last line of that. */
function endOf(cut: string): string {
  return cut.endsWith(' {') ? ' {' : '';
}
