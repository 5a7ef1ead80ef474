/** `npm run test:wasm -- core [FOLDER [PART]] | generated … | mutated …`; without arguments all three, briefly. */
import { core } from './core.js';

const [lane = 'core', ...args] = process.argv.slice(2);
const lanes: Readonly<Record<string, (args: readonly string[]) => Promise<number>>> = { core };
const run = lanes[lane];
if (!run) {
  console.log(`no lane ${lane}: ${Object.keys(lanes).join(', ')}`);
  process.exit(2);
}
process.exit(await run(args));
