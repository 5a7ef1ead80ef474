import type { Template } from './template.js';

export const typescript: Template = {
  files: {
    'NAME.yaml': `name: NAME
runtime: javascript
code: { file: NAME.ts }
memoryMb: 64
timeoutMs: 5000
triggers:
  - { type: http, method: POST, path: /NAME }
`,
    'NAME.ts': `interface Person {
  readonly name?: string;
}

type Event =
  | { readonly trigger: 'http'; readonly method: string; readonly path: string; readonly body: Person | null }
  | { readonly trigger: 'call'; readonly input: Person | null };

interface Context {
  readonly invocationId: string;
  /** Aborted when the call is given up. */
  readonly signal: AbortSignal;
  readonly log: Readonly<Record<'debug' | 'info' | 'warn' | 'error', (...values: unknown[]) => void>>;
}

/** Called once for each event. Types are taken away, not checked: let your editor or \`tsc --noEmit\` do that. */
export async function handle(event: Event, { log }: Context): Promise<{ greeting: string }> {
  const { name = 'world' } = (event.trigger === 'http' ? event.body : event.input) ?? {};
  log.info('greeting', name);
  return { greeting: \`Hello, \${name}\` };
}
`,
  },
};
