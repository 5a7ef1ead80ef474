/**
 * Reads a module's sections. Over 300 lines because the binary format is one thing: each section is a few lines, and all share what came before.
 * Bodies are left as ranges; what a module means (types match, indices exist in code) is for the engine's validation, which runs first.
 * Source: WebAssembly Core Specification 2.0, chapter 5 (binary format).
 */
import { IguanaError } from '../../errors.js';
import type { ExportInfo, FunctionType, ImportInfo, Limits, ValueType } from '../types.js';
import { ByteReader } from './byte-reader.js';
import { Immediate, immediates, Op } from './opcodes.js';

/** A range of the module's bytes: [from, to). */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/** One entry of an element segment: a function's index, null, or the value of an imported global. */
export type ElementItem = { readonly function: number } | { readonly global: number } | 'null';

export interface ElementSegment {
  readonly mode: 'active' | 'passive' | 'declarative';
  readonly table: number;
  /** Of an active segment: its offset expression with its end. */
  readonly offset?: Range;
  readonly element: ValueType;
  readonly items: readonly ElementItem[];
}

export interface GlobalInfo {
  readonly type: ValueType;
  readonly mutable: boolean;
  readonly imported: boolean;
  /** Expression with its end; absent when imported. */
  readonly init?: Range;
  readonly references: readonly number[];
}

export interface ParsedModule {
  readonly bytes: Uint8Array;
  readonly types: readonly FunctionType[];
  readonly imports: readonly ImportInfo[];
  /** Each import as it stands in the import section. */
  readonly importRanges: readonly Range[];
  readonly importedFunctions: number;
  /** Type index of every function, imported ones first. */
  readonly functionTypes: readonly number[];
  readonly tables: readonly (Limits & { readonly element: ValueType; readonly imported: boolean })[];
  readonly memories: readonly (Limits & { readonly shared: boolean; readonly imported: boolean })[];
  readonly globals: readonly GlobalInfo[];
  readonly exports: readonly ExportInfo[];
  readonly start?: number;
  readonly elements: readonly ElementSegment[];
  readonly dataCount?: number;
  /** Number of data segments, and the section's content with its count. */
  readonly dataSegments: number;
  readonly data?: Range;
  /** Bodies: declarations of locals and code, without the size before them. */
  readonly code: readonly Range[];
  readonly functionNames: ReadonlyMap<number, string>;
  readonly moduleName?: string;
  /** Proposals seen outside code. */
  readonly features: Set<string>;
}

const NAMES: Readonly<Record<number, ValueType>> = {
  127: 'i32',
  126: 'i64',
  125: 'f32',
  124: 'f64',
  123: 'v128',
  112: 'funcref',
  111: 'externref',
};
const KINDS = ['function', 'table', 'memory', 'global'] as const;

function unsupported(what: string): never {
  throw new IguanaError('IGU_WASM_UNSUPPORTED', {
    what: `the WebAssembly feature ${what}`,
    where: '',
    fix: `compile the module without ${what}`,
  });
}

/** @throws IguanaError `IGU_WASM_MALFORMED` with the byte's offset, `IGU_WASM_UNSUPPORTED` with the feature's name. Cost: O(bytes outside code). */
export function parseModule(bytes: Uint8Array): ParsedModule {
  const reader = new ByteReader(bytes);
  if (bytes.length < 8 || reader.u8() !== 0 || reader.u8() !== 0x61 || reader.u8() !== 0x73 || reader.u8() !== 0x6d) {
    const text = bytes[0] === 0x28 || (bytes[0] === 0x3b && bytes[1] === 0x3b);
    const hint = text ? '; it looks like the text format, which wat2wasm makes a module of' : '';
    throw new IguanaError('IGU_WASM_MALFORMED', { what: `it does not begin with \\0asm${hint}`, offset: 0 });
  }
  const version = reader.u8() + reader.u8() * 0x100;
  const layer = reader.u8() + reader.u8() * 0x100;
  if (layer === 1) unsupported('component-model');
  if (version !== 1 || layer !== 0) reader.fail(`version ${version} is unknown`, 4);

  const sections = new Sections(bytes);
  let last = 0;
  while (!reader.done) {
    const at = reader.position;
    const id = reader.u8();
    const size = reader.u32();
    const from = reader.position;
    reader.skip(size);
    const content = new ByteReader(bytes, from, reader.position);
    if (id === 0) {
      sections.custom(content);
      continue;
    }
    if (id === 13) unsupported('exception-handling');
    if (id > 13) reader.fail(`unknown section ${id}`, at);
    const place = placeOf(id);
    if (place <= last) reader.fail(`section ${id} is out of order`, at);
    last = place;
    sections.read(id, content);
    if (!content.done) content.fail(`section ${id} is longer than its content`);
  }
  return sections.finish(reader);
}

/** Data count (12) stands before code (10). */
function placeOf(id: number): number {
  return id === 12 ? 9.5 : id;
}

class Sections implements ParsedModule {
  readonly types: FunctionType[] = [];
  readonly imports: ImportInfo[] = [];
  readonly importRanges: Range[] = [];
  importedFunctions = 0;
  readonly functionTypes: number[] = [];
  readonly tables: (Limits & { element: ValueType; imported: boolean })[] = [];
  readonly memories: (Limits & { shared: boolean; imported: boolean })[] = [];
  readonly globals: GlobalInfo[] = [];
  readonly exports: ExportInfo[] = [];
  declare start?: number;
  readonly elements: ElementSegment[] = [];
  declare dataCount?: number;
  dataSegments = 0;
  declare data?: Range;
  readonly code: Range[] = [];
  functionNames: Map<number, string> = new Map();
  declare moduleName?: string;
  readonly features = new Set<string>();

  constructor(readonly bytes: Uint8Array) {}

  read(id: number, reader: ByteReader): void {
    switch (id) {
      case 1:
        this.each(reader, () => this.readType(reader));
        return;
      case 2:
        this.each(reader, () => this.readImport(reader));
        return;
      case 3:
        this.each(reader, () => this.functionTypes.push(this.typeIndex(reader)));
        return;
      case 4:
        this.each(reader, () => this.tables.push({ ...this.tableType(reader), imported: false }));
        return;
      case 5:
        this.each(reader, () => this.memories.push({ ...this.memoryType(reader), imported: false }));
        return;
      case 6:
        this.each(reader, () => {
          const { type, mutable } = this.globalType(reader);
          this.globals.push({ type, mutable, imported: false, ...this.expression(reader) });
        });
        return;
      case 7:
        this.each(reader, () => this.readExport(reader));
        return;
      case 8:
        this.start = reader.u32();
        return;
      case 9:
        this.each(reader, () => this.elements.push(this.readElements(reader)));
        return;
      case 10:
        this.each(reader, () => {
          const size = reader.u32();
          const from = reader.position;
          reader.skip(size);
          this.code.push({ from, to: reader.position });
        });
        return;
      case 11: {
        const from = reader.position;
        this.each(reader, () => this.readData(reader));
        this.data = { from, to: reader.position };
        return;
      }
      case 12:
        this.dataCount = reader.u32();
        this.features.add('bulk-memory');
        return;
    }
  }

  finish(reader: ByteReader): ParsedModule {
    if (this.functionTypes.length - this.importedFunctions !== this.code.length) {
      reader.fail('functions and bodies differ in number');
    }
    if (this.dataCount !== undefined && this.dataCount !== this.dataSegments) reader.fail('data count is wrong');
    if (this.start !== undefined && this.start >= this.functionTypes.length) reader.fail('start function is unknown');
    if (this.memories.length > 1) unsupported('multi-memory');
    if (this.tables.length > 1) this.features.add('reference-types');
    return this;
  }

  private each(reader: ByteReader, one: () => unknown): void {
    for (let count = reader.count(); count > 0; count--) one();
  }

  private valueType(reader: ByteReader): ValueType {
    const byte = reader.u8();
    const type = NAMES[byte];
    if (type === undefined) {
      if (byte === 0x69) unsupported('exception-handling');
      if (byte >= 0x62 && byte <= 0x74) unsupported('garbage-collection');
      reader.fail(`unknown value type 0x${byte.toString(16)}`, reader.position - 1);
    }
    if (type === 'v128') this.features.add('simd');
    if (type === 'externref') this.features.add('reference-types');
    return type;
  }

  private referenceType(reader: ByteReader): ValueType {
    const type = this.valueType(reader);
    if (type !== 'funcref' && type !== 'externref') reader.fail(`${type} is no reference type`);
    return type;
  }

  /** Skips what `ref.null` is null of: a signed number here, which may be written longer than it must. */
  private heapType(reader: ByteReader): void {
    const type = reader.s33();
    if (type !== -16 && type !== -17) unsupported('function-references');
  }

  private valueTypes(reader: ByteReader): ValueType[] {
    const types: ValueType[] = [];
    this.each(reader, () => types.push(this.valueType(reader)));
    return types;
  }

  private readType(reader: ByteReader): void {
    const form = reader.u8();
    if (form !== 0x60) {
      if (form === 0x4e || form === 0x50 || form === 0x4f || form === 0x5f || form === 0x5e) {
        unsupported('garbage-collection');
      }
      reader.fail(`unknown type form 0x${form.toString(16)}`);
    }
    const params = this.valueTypes(reader);
    const results = this.valueTypes(reader);
    if (results.length > 1) this.features.add('multi-value');
    this.types.push({ params, results });
  }

  private typeIndex(reader: ByteReader): number {
    const index = reader.u32();
    if (index >= this.types.length) reader.fail(`unknown type ${index}`);
    return index;
  }

  private limits(reader: ByteReader, flags: number): Limits {
    const min = reader.u32();
    return flags & 1 ? { min, max: reader.u32() } : { min };
  }

  private tableType(reader: ByteReader): Limits & { element: ValueType } {
    if (reader.bytes[reader.position] === 0x40) unsupported('function-references');
    const element = this.referenceType(reader);
    const flags = reader.u8();
    if (flags > 1) reader.fail('unknown table limits');
    return { element, ...this.limits(reader, flags) };
  }

  private memoryType(reader: ByteReader): Limits & { shared: boolean } {
    const flags = reader.u8();
    if (flags & 4) unsupported('memory64');
    if (flags > 3) reader.fail('unknown memory limits');
    if (flags & 2) unsupported('shared memory (threads)');
    return { ...this.limits(reader, flags), shared: false };
  }

  private globalType(reader: ByteReader): { type: ValueType; mutable: boolean } {
    const type = this.valueType(reader);
    const mutable = reader.u8();
    if (mutable > 1) reader.fail('unknown mutability');
    return { type, mutable: mutable === 1 };
  }

  private readImport(reader: ByteReader): void {
    const from = reader.position;
    const module = reader.name();
    const name = reader.name();
    const kind = KINDS[reader.u8()];
    if (kind === 'function') {
      const index = this.typeIndex(reader);
      this.functionTypes.push(index);
      this.importedFunctions++;
      this.imports.push({ module, name, kind, type: this.types[index]! });
    } else if (kind === 'table') {
      const { element, ...limits } = this.tableType(reader);
      this.tables.push({ element, ...limits, imported: true });
      this.imports.push({ module, name, kind, element, limits });
    } else if (kind === 'memory') {
      const { shared, ...limits } = this.memoryType(reader);
      this.memories.push({ shared, ...limits, imported: true });
      this.imports.push({ module, name, kind, limits, shared });
    } else if (kind === 'global') {
      const global = this.globalType(reader);
      this.globals.push({ ...global, imported: true, references: [] });
      if (global.mutable) this.features.add('mutable-globals');
      this.imports.push({ module, name, kind, ...global });
    } else unsupported('exception-handling');
    this.importRanges.push({ from, to: reader.position });
  }

  private readExport(reader: ByteReader): void {
    const name = reader.name();
    const kind = KINDS[reader.u8()];
    const index = reader.u32();
    const unknown = (): never => reader.fail(`export ${name} of unknown ${kind} ${index}`);
    if (kind === 'function') {
      const type = this.types[this.functionTypes[index] ?? unknown()]!;
      this.exports.push({ name, index, kind, type });
    } else if (kind === 'table') {
      const { element, imported: _, ...limits } = this.tables[index] ?? unknown();
      this.exports.push({ name, index, kind, element, limits });
    } else if (kind === 'memory') {
      const { shared, imported: _, ...limits } = this.memories[index] ?? unknown();
      this.exports.push({ name, index, kind, limits, shared });
    } else if (kind === 'global') {
      const { type, mutable } = this.globals[index] ?? unknown();
      if (mutable) this.features.add('mutable-globals');
      this.exports.push({ name, index, kind, type, mutable });
    } else unsupported('exception-handling');
  }

  /** A constant expression up to and with its end, and the functions it refers to. */
  private expression(reader: ByteReader): { init: Range; references: number[] } {
    const from = reader.position;
    const references: number[] = [];
    let instructions = 0;
    for (;;) {
      const opcode = reader.u8();
      if (opcode === Op.end) break;
      instructions++;
      const code = opcode === 0xfd ? 0x200 + reader.u32() : opcode;
      if (code === Op.refFunc) references.push(reader.u32());
      else {
        const kind = immediates[code] ?? Immediate.unknown;
        if (kind === Immediate.i32) reader.s33();
        else if (kind === Immediate.i64) reader.skipS64();
        else if (kind === Immediate.f32) reader.skip(4);
        else if (kind === Immediate.f64) reader.skip(8);
        else if (kind === Immediate.v128) reader.skip(16);
        else if (kind === Immediate.index) reader.u32();
        else if (code === Op.refNull) this.heapType(reader);
        else if (kind !== Immediate.none) reader.fail('not a constant expression');
      }
    }
    if (instructions > 1) this.features.add('extended-const');
    return { init: { from, to: reader.position }, references };
  }

  private readElements(reader: ByteReader): ElementSegment {
    const flags = reader.u32();
    if (flags > 7) reader.fail('unknown element segment');
    const active = (flags & 1) === 0;
    const explicit = (flags & 2) !== 0;
    const expressions = (flags & 4) !== 0;
    if (flags !== 0) this.features.add('bulk-memory');
    const mode = active ? 'active' : explicit ? 'declarative' : 'passive';
    const table = active && explicit ? reader.u32() : 0;
    const offset = active ? this.expression(reader).init : undefined;
    let element: ValueType = 'funcref';
    if (flags & 3) {
      if (expressions) element = this.referenceType(reader);
      else if (reader.u8() !== 0) reader.fail('unknown element kind');
    }
    const items: ElementItem[] = [];
    this.each(reader, () => items.push(expressions ? this.elementItem(reader) : { function: reader.u32() }));
    return { mode, table, element, items, ...(offset && { offset }) };
  }

  private elementItem(reader: ByteReader): ElementItem {
    const opcode = reader.u8();
    let item: ElementItem = 'null';
    if (opcode === Op.refFunc) item = { function: reader.u32() };
    else if (opcode === Op.globalGet) item = { global: reader.u32() };
    else if (opcode === Op.refNull) this.heapType(reader);
    else reader.fail('unknown element expression');
    if (reader.u8() !== Op.end) reader.fail('element expression does not end');
    return item;
  }

  private readData(reader: ByteReader): void {
    const flags = reader.u32();
    if (flags > 2) reader.fail('unknown data segment');
    if (flags !== 0) this.features.add('bulk-memory');
    if (flags === 2) reader.u32();
    if (flags !== 1) this.expression(reader);
    reader.skip(reader.u32());
    this.dataSegments++;
  }

  /** Names are an aid: a name section that cannot be read is left out, as engines do. */
  custom(reader: ByteReader): void {
    if (reader.name() !== 'name') return;
    try {
      while (!reader.done) {
        const id = reader.u8();
        const size = reader.u32();
        const part = new ByteReader(this.bytes, reader.position, reader.position + size);
        reader.skip(size);
        if (id === 0) this.moduleName = part.name();
        else if (id === 1) this.each(part, () => this.functionNames.set(part.u32(), part.name()));
      }
    } catch (error) {
      if (!(error instanceof IguanaError)) throw error;
      this.functionNames = new Map();
    }
  }
}
