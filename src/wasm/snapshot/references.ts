import type { EngineInstance } from '../engines/engine.js';
import type { PreparedModule } from '../module/prepared.js';
import type { RawValue } from '../types.js';

/** Stands for the null reference where function indices stand otherwise. */
export const NULL_REFERENCE = -1;

const exportsOf = new WeakMap<PreparedModule, ReadonlyMap<number, string>>();

function namesOf(module: PreparedModule): ReadonlyMap<number, string> {
  let names = exportsOf.get(module);
  if (!names) {
    names = new Map(module.references.map(({ index, export: name }) => [index, name]));
    exportsOf.set(module, names);
  }
  return names;
}

/**
 * The functions of one instance that may stand in tables and globals: from a reference to the function's index and
 * back.
 */
export class References {
  readonly #instance: EngineInstance;
  readonly #exports: ReadonlyMap<number, string>;
  readonly #known = new Map<number, RawValue>();
  /**
   * Reference → index; filled when first asked. Engines whose references are fresh objects each time are asked with
   * `same` instead.
   */
  #indices: Map<RawValue, number> | undefined;

  constructor(instance: EngineInstance, module: PreparedModule) {
    this.#instance = instance;
    this.#exports = namesOf(module);
  }

  has(index: number): boolean {
    return index === NULL_REFERENCE || this.#exports.has(index);
  }

  /** The reference of a function; null for `NULL_REFERENCE`. Ask `has` before. */
  at(index: number): RawValue {
    if (index === NULL_REFERENCE) return null;
    let reference = this.#known.get(index);
    if (reference === undefined) {
      reference = this.#instance.tables?.reference(this.#exports.get(index)!);
      this.#known.set(index, reference);
    }
    return reference;
  }

  /**
   * Index of the function, `NULL_REFERENCE` for null, undefined when it is none of the module's functions. `guess` is
   * looked at first.
   */
  indexOf(reference: RawValue, guess = NULL_REFERENCE): number | undefined {
    if (reference === null || reference === undefined) return NULL_REFERENCE;
    const tables = this.#instance.tables;
    if (!tables) return undefined;
    if (guess !== NULL_REFERENCE && this.has(guess) && tables.same(reference, this.at(guess))) return guess;
    if (!this.#indices) {
      this.#indices = new Map();
      for (const index of this.#exports.keys()) this.#indices.set(this.at(index), index);
    }
    const index = this.#indices.get(reference);
    if (index !== undefined) return index;
    for (const [known, candidate] of this.#indices) if (tables.same(reference, known)) return candidate;
    return undefined;
  }
}
