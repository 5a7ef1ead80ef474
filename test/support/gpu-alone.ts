import { writeFileSync } from 'node:fs';
import path from 'node:path';

/**
 * A program that is no more than `iguana gpu`, which starts in a quarter of the time of all commands; an error is its line and status 1.
 * @returns its file, in a folder of the test's own
 */
export function gpuAlone(folder: string): string {
  const from = (file: string): string => JSON.stringify(path.resolve('dist/src', file));
  const file = path.join(folder, 'gpu-alone.mjs');
  writeFileSync(
    file,
    `import { gpuCommand } from ${from('cli/gpu.js')};
import { messageOf } from ${from('errors.js')};
try {
  await gpuCommand().parseAsync(process.argv.slice(2), { from: 'user' });
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 1;
}
`,
  );
  return file;
}
