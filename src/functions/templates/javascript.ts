import type { Template } from './template.js';

export const javascript: Template = {
  files: {
    'NAME.yaml': `name: NAME
runtime: javascript
code: { file: NAME.js }
memoryMb: 64
timeoutMs: 5000
triggers:
  - { type: http, method: POST, path: /NAME }
`,
    'NAME.js': `/** Called once for each event; \`event.trigger\` says what started it. */
export async function handle(event, { log }) {
  const { name = 'world' } = (event.trigger === 'http' ? event.body : event.input) ?? {};
  log.info('greeting', name);
  return { greeting: \`Hello, \${name}\` };
}
`,
  },
};
