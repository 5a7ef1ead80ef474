import { IguanaError } from '../../errors.js';
import { ByteWriter } from '../module/byte-writer.js';
import type { ParsedModule } from '../module/parse-module.js';
import type { FunctionType, ValueType } from '../types.js';
import { runtimeAfter, runtimeBefore } from './wasm2c-runtime.js';

const letters: Partial<Record<ValueType, string>> = { i32: 'i', i64: 'j', f32: 'f', f64: 'd' };
const cTypes: Partial<Record<ValueType, string>> = { i32: 'u32', i64: 'u64', f32: 'f32', f64: 'f64' };
const kinds = { function: 0, table: 1, memory: 2, global: 3 } as const;

const maxTypes = 4_096;
const maxTypeSlots = 64;

/** Whether values of the type can go in and out as 8-byte slots. */
export function callable(type: FunctionType): boolean {
  return [...type.params, ...type.results].every((value) => cTypes[value] !== undefined);
}

/** Exports by number: the module's own, then the memories that it does not export, which the fault handler must know. */
function exportsOf(
  module: ParsedModule,
): readonly { readonly kind: keyof typeof kinds; readonly index: number; readonly type?: FunctionType }[] {
  const exported = new Set(module.exports.filter(({ kind }) => kind === 'memory').map(({ index }) => index));
  const hidden = module.memories.map((_, index) => index).filter((index) => !exported.has(index));
  return [
    ...module.exports.map((item) =>
      item.kind === 'function'
        ? { kind: item.kind, index: item.index, type: item.type }
        : { kind: item.kind, index: item.index },
    ),
    ...hidden.map((index) => ({ kind: 'memory' as const, index })),
  ];
}

/**
 * The module with names that are C names as they stand: import k is `h.ik`, export k is `ek`; the name section is left out. So nothing that a guest chose
 * reaches the C source.
 */
export function renamed(module: ParsedModule): Uint8Array<ArrayBuffer> {
  const { bytes } = module;
  const out = new ByteWriter(bytes.length + 1024);
  out.copy(bytes, 0, 8);
  let exported = false;
  const writeExports = () => {
    if (exported) return;
    exported = true;
    const list = exportsOf(module);
    out.u8(7).sized((section) => {
      section.u32(list.length);
      list.forEach(({ kind, index }, number) => {
        section.name(`e${number}`).u8(kinds[kind]).u32(index);
      });
    });
  };
  for (let at = 8; at < bytes.length; ) {
    const id = bytes[at]!;
    const [size, from] = leb(bytes, at + 1);
    // the section of tags, 13, stands before that of globals; that of the number of data segments, 12, after exports
    if (id >= 7 && id !== 13) writeExports();
    if (id === 2) {
      out.u8(2).sized((section) => {
        section.u32(module.imports.length);
        module.importRanges.forEach(({ from: start, to }, index) => {
          const [moduleLength, afterModule] = leb(bytes, start);
          const [nameLength, afterName] = leb(bytes, afterModule + moduleLength);
          section
            .name('h')
            .name(`i${index}`)
            .copy(bytes, afterName + nameLength, to);
        });
      });
    } else if (id !== 0 && id !== 7) out.copy(bytes, at, from + size);
    at = from + size;
  }
  writeExports();
  return out.bytes.slice();
}

function leb(bytes: Uint8Array, at: number): [value: number, after: number] {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++]!;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
}

/**
 * What wasm2c 1.0.32 wrote, with traps told apart as the engine port's words do: it has one code for memory and table, and one for every fault of an
 * indirect call.
 */
export function patched(source: string): string {
  const between = (text: string, from: string, to: string, change: (part: string) => string) => {
    const begin = text.indexOf(from);
    const end = text.indexOf(to, begin);
    if (begin < 0 || end < 0) throw unknownSource(from);
    return text.slice(0, begin) + change(text.slice(begin, end)) + text.slice(end);
  };
  let text = between(source, '#define CALL_INDIRECT(', '#define RANGE_CHECK(', (part) =>
    part.replace(
      'TRAP(CALL_INDIRECT)',
      '(wasm_rt_trap((x) < table.size ? WASM_RT_TRAP_CALL_INDIRECT : TRAP_UNDEFINED_ELEMENT), 0)',
    ),
  );
  text = between(text, '#define TRUNC_S(', '#define TRUNC_SAT_S(', (part) =>
    part.replaceAll('TRAP(INT_OVERFLOW)', 'TRAP(INVALID_CONVERSION)'),
  );
  return between(text, 'static inline void funcref_table_init', 'DEFINE_TABLE_FILL(externref)', (part) =>
    part.replaceAll('TRAP(OOB)', '(wasm_rt_trap(TRAP_TABLE), 0)'),
  );
}

function unknownSource(part: string): IguanaError {
  return new IguanaError('IGU_WASM_ENGINE_MISSING', {
    engine: 'wasm2c',
    what: `this wasm2c writes other C than the one known here (no ${part})`,
    fix: 'install wabt 1.0.32, as Debian 12 has it',
  });
}

/** The one C file that is compiled: runtime, translated module, and what joins both. */
export function sourceOf(module: ParsedModule, translated: string): string {
  return `${runtimeBefore}
${translated}
#define TYPES ${Math.max(1, module.types.length)}
#define TYPE_SLOTS ${maxTypeSlots}
#define MEMORIES ${module.memories.length}
${runtimeAfter(joints(module))}`;
}

/** @throws IguanaError `IGU_WASM_UNSUPPORTED` */
export function checkTranslatable(module: ParsedModule, where: string): void {
  const refuse = (what: string) => {
    const fix = 'choose another engine (`iguana engines list`)';
    throw new IguanaError('IGU_WASM_UNSUPPORTED', { what, where, fix });
  };
  for (const item of module.imports) {
    const name = `${item.module}.${item.name}`;
    if (item.kind !== 'function') refuse(`an imported ${item.kind} (${name})`);
    else if (!callable(item.type)) refuse(`import ${name} with a reference or vector in its type`);
  }
  if (module.types.length > maxTypes) refuse(`a module of ${module.types.length} types`);
  const wide = module.types.find((type) => type.params.length + type.results.length > maxTypeSlots);
  if (wide) refuse(`a function of ${wide.params.length} parameters and ${wide.results.length} results`);
}

const toC = (type: ValueType, slot: string) =>
  type === 'f32' ? `as_f32(${slot})` : type === 'f64' ? `as_f64(${slot})` : type === 'i32' ? `(u32)${slot}` : slot;
const fromC = (type: ValueType, value: string) =>
  type === 'f32' ? `of_f32(${value})` : type === 'f64' ? `of_f64(${value})` : value;

function resultType({ results }: FunctionType): string {
  if (results.length === 0) return 'void';
  if (results.length === 1) return cTypes[results[0]!]!;
  return `struct wasm_multi_${results.map((type) => letters[type]).join('')}`;
}

function joints(module: ParsedModule): string {
  const lines: string[] = [];
  module.imports.forEach((item, index) => {
    if (item.kind !== 'function') return;
    const { params, results } = item.type;
    const list = params.map((type, at) => `, ${cTypes[type]} p${at}`).join('');
    const send = params.map((type, at) => `slots[${at}] = ${fromC(type, `p${at}`)};`).join(' ');
    const single = results.length === 1 ? `return ${toC(results[0]!, 'slots[0]')};` : '';
    const many = `${resultType(item.type)} r; ${results
      .map((type, at) => `r.${letters[type]}${at} = ${toC(type, `slots[${at}]`)};`)
      .join(' ')} return r;`;
    lines.push(
      `${resultType(item.type)} Z_hZ_i${index}(struct Z_h_instance_t *of${list}) {`,
      `  instance_t *instance = (instance_t *)of; uint64_t *slots = instance->host_slots; (void)slots;`,
      `  ${send} call_host(instance, ${index}); ${results.length > 1 ? many : single}`,
      '}',
    );
  });
  const list = exportsOf(module);
  const cases = (kind: keyof typeof kinds, write: (number: number, type: FunctionType | undefined) => string) =>
    list.flatMap((item, number) => (item.kind === kind ? [write(number, item.type)] : []));
  const call = cases('function', (number, type) => {
    if (!type || !callable(type)) return '';
    const args = type.params.map((param, at) => `, ${toC(param, `slots[${at}]`)}`).join('');
    const invoke = `Z_gZ_e${number}(&instance->module${args})`;
    if (type.results.length === 0) return `case ${number}: ${invoke}; break;`;
    if (type.results.length === 1) return `case ${number}: slots[0] = ${fromC(type.results[0]!, invoke)}; break;`;
    const receive = type.results.map((result, at) => `slots[${at}] = ${fromC(result, `r.${letters[result]}${at}`)};`);
    return `case ${number}: { ${resultType(type)} r = ${invoke}; ${receive.join(' ')} break; }`;
  });
  const memories = cases('memory', (number) => `case ${number}: return Z_gZ_e${number}(&instance->module);`);
  const byIndex = new Map<number, number>();
  list.forEach(({ kind, index }, number) => {
    if (kind === 'memory') byIndex.set(index, number);
  });
  const listed = [...byIndex].map(([index, number]) => `case ${index}: return Z_gZ_e${number}(&instance->module);`);
  const globals = cases('global', (number) => `case ${number}: return Z_gZ_e${number}(&instance->module);`);
  const data = cases('memory', (number) => `case ${number}: return Z_gZ_e${number}(&instance->module)->data;`);
  lines.push(
    'static void instantiate(instance_t *instance) {',
    `  Z_g_instantiate(&instance->module${module.imports.length > 0 ? ', (struct Z_h_instance_t *)instance' : ''});`,
    '}',
    'static void call(instance_t *instance, uint32_t index, uint64_t *slots) {',
    `  switch (index) { ${call.join('\n  ')} }`,
    '}',
    'static wasm_rt_memory_t *memory_of(instance_t *instance, uint32_t index) {',
    `  switch (index) { ${memories.join('\n  ')} }`,
    '  return NULL;',
    '}',
    'static wasm_rt_memory_t *guest_memory(instance_t *instance, uint32_t number) {',
    `  switch (number) { ${listed.join('\n  ')} }`,
    '  return NULL;',
    '}',
    'static void *address_of(instance_t *instance, uint32_t index) {',
    `  switch (index) { ${[...globals, ...data].join('\n  ')} }`,
    '  return NULL;',
    '}',
  );
  return lines.join('\n');
}
