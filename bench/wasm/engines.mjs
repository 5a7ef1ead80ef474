/** The engines that this machine has, for the benchmarks. Native libraries are opened in child processes only: set IGUANA_WASM_CHILD there. */
export { openEngine } from '../../dist/src/wasm/engines/open-engine.js';
