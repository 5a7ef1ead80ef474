/**
 * A throw-away process: compiles the module on its standard input with V8's optimising compiler and writes V8's serialised form of it to a file. V8 ends the
 * whole process when there is nothing to serialise, which is why this is one.
 *
 * Arguments: output file, the state of the V8 that will load it, its flags. V8 notes the hash of its flags in what it serialises and refuses to load under
 * another, so the flags that make it compile everything are taken back first.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { v8State, withNatives } from './v8-natives.js';

const [output = '', state, ...flags] = process.argv.slice(2);
for (const flag of flags) setFlagsFromString(flag);
if (v8State() !== state) throw new Error('V8 has flags that its command line does not tell, set while it ran');
for (const flag of ['--no-wasm-lazy-compilation', '--no-liftoff']) setFlagsFromString(flag);
const module = new WebAssembly.Module(readFileSync(0));
// --no-liftoff implies --no-wasm-dynamic-tiering
for (const flag of ['--wasm-lazy-compilation', '--liftoff', '--wasm-dynamic-tiering', ...flags])
  setFlagsFromString(flag);
if (v8State() !== state) throw new Error('V8 cannot go back to its flags');
const serialise = withNatives<[WebAssembly.Module], ArrayBuffer>(
  'function (module) { return %SerializeWasmModule(module); }',
);
writeFileSync(output, new Uint8Array(serialise(module)), { mode: 0o600, flag: 'wx' });
