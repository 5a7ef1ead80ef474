import { sourcePlace } from './short-stacks.js';

/** Why code could not be loaded. */
export interface LoadProblem {
  readonly what: string;
  /** It cannot be parsed, and the engine does not say where. */
  readonly unplaced: boolean;
}

/** What to do about an import of what is not there: the code is one text that travels alone. */
const ALONE = 'a function is one file, so what it imports has to be bundled into it';

/** @param name of the function, which its module has as its address in stacks. @param described message and stack as they are told */
export function loadProblem(
  error: unknown,
  name: string,
  code: string,
  { message, stack }: { readonly message: string; readonly stack: string },
): LoadProblem {
  const specifier = importedSpecifier(error);
  const at = specifier === undefined ? placeInStack(stack, name) : (importPlace(code, specifier, name) ?? name);
  const unplaced = error instanceof SyntaxError && at === undefined;
  return { what: at === undefined ? message : `${message} (${at})`, unplaced };
}

/** In place of Node's words for an import of a file or a package, which have all of the code in them. */
export function importMessage(error: unknown): string | undefined {
  const specifier = importedSpecifier(error);
  return specifier === undefined ? undefined : `it imports ${JSON.stringify(specifier)}: ${ALONE}`;
}

/** No module has this address: with an import of it, code is linked and never run. */
const NEVER = 'iguana-never-runs:';

/**
 * What code imports that a function cannot have, with its line; undefined when there is nothing. The code is not run.
 * @param source that the code was made of, where the line is looked for
 */
export async function importProblem(code: string, source: string): Promise<string | undefined> {
  try {
    await import(moduleAddress(`${code}\nimport '${NEVER}';`));
  } catch (error) {
    const what = importMessage(error);
    if (what === undefined) return undefined;
    const line = importPlace(source, importedSpecifier(error)!, '')?.split(':')[1];
    return line === undefined ? what : `line ${line}: ${what}`;
  }
  return undefined;
}

/** @param part told apart from others with the same text */
export function moduleAddress(code: string, part = ''): string {
  return `data:text/javascript;charset=utf-8,${encodeURIComponent(code)}${part}`;
}

function importedSpecifier(error: unknown): string | undefined {
  if (!(error instanceof Error) || (error as NodeJS.ErrnoException).code !== 'ERR_UNSUPPORTED_RESOLVE_REQUEST')
    return undefined;
  return /^Failed to resolve module specifier "(.*?)" from "data:/s.exec(error.message)?.[1];
}

/** Of the import's specifier; undefined for one that is put together. */
function importPlace(code: string, specifier: string, name: string): string | undefined {
  const literal = specifier.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const found = new RegExp(`\\b(?:from|import)\\s*\\(?\\s*(?=(['"\`])${literal}\\1)`).exec(code);
  if (!found) return undefined;
  const before = code.slice(0, found.index + found[0].length);
  return sourcePlace(name, before.split('\n').length, before.length - before.lastIndexOf('\n'));
}

/** Where it was thrown, or, of what cannot be linked, which line is shown above it, with a mark below. */
function placeInStack(stack: string, name: string): string | undefined {
  const own = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const shown = new RegExp(`^${own}:(\\d+)\\n.*\\n( *)\\^`).exec(stack);
  if (shown) return sourcePlace(name, Number(shown[1]), shown[2]!.length + 1);
  return new RegExp(`\\n *at (?:.*\\()?(${own}:\\d+:\\d+)`).exec(stack)?.[1];
}
