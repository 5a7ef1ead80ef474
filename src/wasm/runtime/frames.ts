import type { PreparedModule } from '../module/prepared.js';
import type { WasmTrap } from '../trap.js';

/**
 * The functions on the guest's stack as its author knows them: by the name section, else by an export, else by the index in the original module. What metering
 * added is left out. Engines say `wasm-function[N]`, counted in the prepared module, where a function has no name.
 */
export function readableFrames(trap: WasmTrap, module: PreparedModule): readonly string[] {
  const { imports, exports, functionCount, functionNames } = module.info;
  const imported = imports.filter(({ kind }) => kind === 'function').length;
  const frames: string[] = [];
  for (const frame of trap.frames) {
    const place = /^wasm-function\[(\d+)\]$/.exec(frame);
    if (!place) {
      frames.push(frame);
      continue;
    }
    // our own imports stand right after the module's
    const prepared = Number(place[1]);
    const index = prepared < imported ? prepared : prepared - module.hostImports.length;
    if (index >= imported + functionCount) continue;
    const exported = exports.find((one) => one.kind === 'function' && one.index === index)?.name;
    frames.push(functionNames.get(index) ?? exported ?? `function ${index}`);
  }
  // an exported function is entered through one of its name that brings the gas along
  if (module.metered && frames.length > 1 && frames.at(-1) === frames.at(-2)) frames.pop();
  return frames;
}
