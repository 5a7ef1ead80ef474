// Runs the benchmarks one after the other; each writes its own table into bench/results/. Usage: npm run bench [-- NAME…]
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';

const all = readdirSync(import.meta.dirname).filter((name) => name.endsWith('.mjs') && name !== 'run.mjs');
const wanted = process.argv.slice(2);
const chosen = wanted.length > 0 ? all.filter((name) => wanted.includes(name.replace('.mjs', ''))) : all;
if (chosen.length === 0) {
  console.error(
    `no benchmark named ${wanted.join(', ')}; there are: ${all.map((name) => name.replace('.mjs', '')).join(', ')}`,
  );
  process.exit(2);
}
for (const name of chosen) {
  const { status } = spawnSync(process.execPath, [`bench/${name}`], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
