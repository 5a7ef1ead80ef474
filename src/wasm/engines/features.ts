/** Smallest modules that need one proposal each: an engine is asked, not believed. Header left out. */
const probes: readonly (readonly [feature: string, hex: string])[] = [
  ['multi-value', '010601600002 7f7f 03020100 0a0801060041004100 0b'],
  ['sign-extension', '0105016000017f 03020100 0a070105004100c0 0b'],
  ['non-trapping-conversion', '0105016000017f 03020100 0a0b010900 4300000000 fc00 0b'],
  ['bulk-memory', '01040160000003020100 0503010001 0a0d010b00 410041004100 fc0b00 0b'],
  ['reference-types', '01040160000003020100 0a07010500d0701a 0b'],
  ['simd', '0105016000017b 03020100 0a16011400 fd0c 00000000000000000000000000000000 0b'],
  ['tail-calls', '01040160000003020100 0a0601040012000b'],
  ['mutable-globals', '0606017f0141000b 070501016703 00'],
  ['extended-const', '0609017f00410141016a0b'],
  ['threads', '01040160000003020100 0504010301 01 0a0b010900 4100fe100200 1a0b'],
  ['exception-handling', '01040160000003020100 0d03010000 0a0a010800 0640 0800 19 0b 0b'],
];

/** The words of `ModuleInfo.features` whose module the engine finds valid. */
export function featuresOf(valid: (bytes: Uint8Array<ArrayBuffer>) => boolean): string[] {
  const bytes = (hex: string) => new Uint8Array(Buffer.from(`0061736d01000000${hex.replaceAll(' ', '')}`, 'hex'));
  return probes.filter(([, hex]) => valid(bytes(hex))).map(([feature]) => feature);
}
