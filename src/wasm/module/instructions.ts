import { IguanaError } from '../../errors.js';
import { ByteReader } from './byte-reader.js';
import { BEYOND_TABLE, Immediate, immediates, Op, proposalOf } from './opcodes.js';

/** Block type of a block without parameters and results. */
export const EMPTY_BLOCK = -64;

/**
 * The instructions of one body as parallel arrays, in order. One object is used for many bodies: reading the next one overwrites it.
 * Cost: O(bytes); 17 bytes of memory an instruction of the largest body.
 */
export class Instructions {
  /** Number of instructions. */
  count = 0;
  /** Opcode as `opcodes.ts` numbers it. */
  op = new Uint16Array(1024);
  /** Where it begins; `at[count]` is the end of the body. */
  at = new Uint32Array(1025);
  /** First index, constant, block type or number of branch targets. */
  a = new Int32Array(1024);
  /** Second index, or for a branch table where its targets begin in `labels`. */
  b = new Int32Array(1024);
  /** Targets of all branch tables, the default last. */
  readonly labels: number[] = [];
  /** Declarations of locals: count and type byte, in order. */
  readonly locals: { readonly count: number; readonly type: number }[] = [];
  localCount = 0;

  constructor(readonly bytes: Uint8Array) {}

  private grow(): void {
    const size = this.op.length * 2;
    const copy = <T extends Uint16Array | Uint32Array | Int32Array>(from: T, to: T): T => {
      to.set(from);
      return to;
    };
    this.op = copy(this.op, new Uint16Array(size));
    this.at = copy(this.at, new Uint32Array(size + 1));
    this.a = copy(this.a, new Int32Array(size));
    this.b = copy(this.b, new Int32Array(size));
  }

  /** @throws IguanaError `IGU_WASM_UNSUPPORTED` naming the proposal of an instruction that cannot be metered. */
  read(from: number, to: number): void {
    const reader = new ByteReader(this.bytes, from, to);
    this.readLocals(reader);
    this.labels.length = 0;
    let count = 0;
    while (reader.position < to) {
      if (count === this.op.length) this.grow();
      this.at[count] = reader.position;
      let op = reader.u8();
      if (op >= 0xfc && op <= 0xfe) {
        const sub = reader.u32();
        op = sub < 0x100 ? (op - 0xfb) * 0x100 + sub : BEYOND_TABLE;
      }
      this.op[count] = op;
      this.a[count] = 0;
      switch (immediates[op]) {
        case Immediate.none:
          break;
        case Immediate.index:
          this.a[count] = reader.u32();
          break;
        case Immediate.twoIndices:
          this.a[count] = reader.u32();
          this.b[count] = reader.u32();
          break;
        case Immediate.blockType:
        case Immediate.i32:
          this.a[count] = reader.s33();
          break;
        case Immediate.branchTable: {
          const targets = reader.count() + 1;
          this.a[count] = targets;
          this.b[count] = this.labels.length;
          for (let i = 0; i < targets; i++) this.labels.push(reader.u32());
          break;
        }
        case Immediate.valueTypes:
          reader.skip(reader.u32());
          break;
        case Immediate.i64:
          reader.skipS64();
          break;
        case Immediate.f32:
          reader.skip(4);
          break;
        case Immediate.f64:
          reader.skip(8);
          break;
        case Immediate.memory:
          reader.u32();
          reader.u32();
          break;
        case Immediate.memoryAndLane:
          reader.u32();
          reader.u32();
          reader.skip(1);
          break;
        case Immediate.byte:
          this.a[count] = reader.u8();
          break;
        case Immediate.v128:
          reader.skip(16);
          break;
        case Immediate.heapType:
          reader.s33();
          break;
        default:
          throw new IguanaError('IGU_WASM_UNSUPPORTED', {
            what: `the WebAssembly feature ${proposalOf(op)} (byte ${this.at[count]})`,
            where: '',
            fix: 'compile the module without it',
          });
      }
      count++;
    }
    if (count === 0 || this.op[count - 1] !== Op.end) reader.fail('body does not end');
    this.at[count] = reader.position;
    this.count = count;
  }

  private readLocals(reader: ByteReader): void {
    this.locals.length = 0;
    this.localCount = 0;
    for (let groups = reader.count(); groups > 0; groups--) {
      const count = reader.u32();
      const type = reader.u8();
      this.locals.push({ count, type });
      this.localCount += count;
    }
    if (this.localCount > MAX_LOCALS) reader.fail(`${this.localCount} locals, engines allow ${MAX_LOCALS}`);
  }
}

/** The common bound of engines (WebAssembly JavaScript Interface, implementation limits). */
const MAX_LOCALS = 50_000;
