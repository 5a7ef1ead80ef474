// Checks the floors of the house and says how many files it read; fails when it read fewer than exist.
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cruise } from 'dependency-cruiser';
import extractTSConfig from 'dependency-cruiser/config-utl/extract-ts-config';

const config = createRequire(import.meta.url)('../.dependency-cruiser.cjs');
const sources = ['src', 'pipelines'].flatMap((folder) =>
  readdirSync(folder, { recursive: true })
    .filter((name) => String(name).endsWith('.ts'))
    .map((name) => `${folder}/${name}`),
);
const result = await cruise(['src', 'pipelines'], { ruleSet: config, validate: true, ...config.options }, undefined, {
  tsConfig: extractTSConfig('tsconfig.json'),
});
const { modules, summary } = result.output;
const read =
  new Set(modules.map((m) => m.source)).intersection?.(new Set(sources)).size ??
  modules.filter((m) => sources.includes(m.source)).length;
for (const violation of summary.violations)
  console.error(`${violation.rule.name}: ${violation.from} -> ${violation.to}`);
if (sources.length === 0 || read < sources.length) {
  console.error(`architecture: read ${read} of ${sources.length} files`);
  process.exit(1);
}
if (summary.violations.length > 0) {
  console.error(`architecture: ${summary.violations.length} violations in ${read} files`);
  process.exit(1);
}
console.log(`architecture: ${read} files read, ${summary.totalDependenciesCruised ?? 0} imports, no violation`);
