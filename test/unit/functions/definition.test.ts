import { describe, expect, test } from 'vitest';
import { functionSchema } from '../../../src/functions/definition.js';

const smallest = { name: 'resize', runtime: 'javascript', code: { inline: 'export const handle = () => 1' } };

function problems(definition: object): string[] {
  const result = functionSchema.safeParse(definition);
  return result.success ? [] : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

describe('definition', () => {
  test('needs a name, a runtime and code; the rest has defaults', () => {
    expect(functionSchema.parse(smallest)).toMatchObject({
      handler: 'handle',
      memoryMb: 256,
      timeoutMs: 30_000,
      concurrency: 1,
      triggers: [],
      scaling: { minInstances: 0, maxInstances: 100, idleSeconds: 300 },
    });
    expect(
      functionSchema.parse({ ...smallest, triggers: [{ type: 'stream', topic: 'orders' }] }).triggers,
    ).toMatchObject([
      { from: 'latest', batch: { size: 100, windowMs: 0 }, order: 'partition', attempts: 3, bisect: true },
    ]);
  });

  test.each([
    [{ name: 'Resize!' }, /^name: lower-case/],
    [{ runtime: 'cobol' }, /^runtime: /],
    [{ memoryMb: 1 }, /^memoryMb: /],
    [{ timeout: 5 }, /Unrecognized key: "timeout"/],
    [{ scaling: { minInstances: 5, maxInstances: 2 } }, /^scaling.minInstances: is 5, above maxInstances \(2\)/],
    [{ triggers: [{ type: 'stream', topic: 'a', exactlyOnce: true }] }, /^triggers.0.exactlyOnce: needs output/],
    [{ output: 'a', triggers: [{ type: 'stream', topic: 'a' }] }, /^output: .*would start itself/],
    [{ triggers: [{ type: 'http', path: 'orders' }] }, /^triggers.0.path: a path that begins with \//],
    [{ env: { 'A B': '1' } }, /^env/],
  ])('%j is refused with its place', (change, expected) => {
    expect(problems({ ...smallest, ...change }).join('\n')).toMatch(expected);
  });
});
