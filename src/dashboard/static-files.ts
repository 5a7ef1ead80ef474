import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
/** The page's files stay in `src/` (no build step): beside this file in sources, three folders up from `dist/src/dashboard`. */
const publicDir =
  [join(here, 'public'), join(here, '../../../src/dashboard/public')].find((dir) => existsSync(dir)) ?? here;
const plotDir = dirname(createRequire(import.meta.url).resolve('uplot'));

const html = 'text/html; charset=utf-8';
const js = 'text/javascript; charset=utf-8';
const css = 'text/css; charset=utf-8';

/** All that is served from disk, by path: a list, so that no request can name another file. */
const files: Readonly<Record<string, readonly [string, string]>> = {
  '/': [join(publicDir, 'index.html'), html],
  '/app.js': [join(publicDir, 'app.js'), js],
  '/chart.js': [join(publicDir, 'chart.js'), js],
  '/format.js': [join(publicDir, 'format.js'), js],
  '/gpus.js': [join(publicDir, 'gpus.js'), js],
  '/style.css': [join(publicDir, 'style.css'), css],
  '/icon.svg': [join(publicDir, 'icon.svg'), 'image/svg+xml'],
  '/node_modules/uplot/dist/uPlot.esm.js': [join(plotDir, 'uPlot.esm.js'), js],
  '/uplot.css': [join(plotDir, 'uPlot.min.css'), css],
};

/** The file served at `path`, if there is one. */
export async function staticFile(path: string): Promise<{ body: Buffer; type: string } | undefined> {
  const entry = Object.hasOwn(files, path) ? files[path] : undefined;
  return entry && { body: await readFile(entry[0]), type: entry[1] };
}
