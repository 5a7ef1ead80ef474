/**
 * Every instruction that can be metered: what follows its opcode, and what it does to the height of the operand stack. One table, since reading,
 * metering and measuring frames must agree. Prefixed opcodes are numbered `0x100 + n` (0xFC), `0x200 + n` (0xFD, SIMD) and `0x300 + n` (0xFE, atomics).
 */

/** What follows an opcode. */
export const Immediate = {
  unknown: 0,
  none: 1,
  /** One index: local, global, function, label, table, segment. */
  index: 2,
  /** Two: type and table, segment and memory, … */
  twoIndices: 3,
  blockType: 4,
  branchTable: 5,
  valueTypes: 6,
  i32: 7,
  i64: 8,
  f32: 9,
  f64: 10,
  /** Alignment and offset. */
  memory: 11,
  memoryAndLane: 12,
  /** One byte: lane, reserved memory index. */
  byte: 13,
  v128: 14,
  /** Signed LEB128, so that one type has several spellings. */
  heapType: 15,
} as const;

export const Op = {
  unreachable: 0x00,
  nop: 0x01,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  end: 0x0b,
  br: 0x0c,
  brIf: 0x0d,
  brTable: 0x0e,
  return: 0x0f,
  call: 0x10,
  callIndirect: 0x11,
  returnCall: 0x12,
  returnCallIndirect: 0x13,
  drop: 0x1a,
  select: 0x1b,
  selectTyped: 0x1c,
  localGet: 0x20,
  localSet: 0x21,
  localTee: 0x22,
  globalGet: 0x23,
  globalSet: 0x24,
  tableGet: 0x25,
  tableSet: 0x26,
  memorySize: 0x3f,
  memoryGrow: 0x40,
  i32Const: 0x41,
  i64Const: 0x42,
  f32Const: 0x43,
  f64Const: 0x44,
  i32Eqz: 0x45,
  i32Eq: 0x46,
  i32Ne: 0x47,
  i32LtS: 0x48,
  i32LtU: 0x49,
  i32GtS: 0x4a,
  i32GtU: 0x4b,
  i32LeS: 0x4c,
  i32LeU: 0x4d,
  i32GeS: 0x4e,
  i32GeU: 0x4f,
  i64Eqz: 0x50,
  i64Ne: 0x52,
  i64LtS: 0x53,
  i64GtU: 0x56,
  i64LeU: 0x58,
  i64GeS: 0x59,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i32And: 0x71,
  i32Shl: 0x74,
  i32ShrU: 0x76,
  i32Rotr: 0x78,
  i64Add: 0x7c,
  i64Sub: 0x7d,
  i64Mul: 0x7e,
  i64And: 0x83,
  i64Shl: 0x86,
  i64ShrU: 0x88,
  i32WrapI64: 0xa7,
  i64ExtendI32U: 0xad,
  refNull: 0xd0,
  refIsNull: 0xd1,
  refFunc: 0xd2,
  memoryInit: 0x108,
  dataDrop: 0x109,
  memoryCopy: 0x10a,
  memoryFill: 0x10b,
  tableInit: 0x10c,
  elementDrop: 0x10d,
  tableCopy: 0x10e,
  tableGrow: 0x10f,
  tableSize: 0x110,
  tableFill: 0x111,
} as const;

const SIZE = 0x400;
export const immediates = new Uint8Array(SIZE);
/** Change of the operand stack's height. Control instructions and calls depend on types and are 0 here. */
export const heightChange = new Int8Array(SIZE);

function define(from: number, to: number, immediate: number, change: number): void {
  immediates.fill(immediate, from, to + 1);
  heightChange.fill(change, from, to + 1);
}

const I = Immediate;
define(0x00, 0x01, I.none, 0); // unreachable, nop
define(0x02, 0x03, I.blockType, 0);
define(0x04, 0x04, I.blockType, -1);
define(0x05, 0x05, I.none, 0);
define(0x0b, 0x0b, I.none, 0);
define(0x0c, 0x0c, I.index, 0);
define(0x0d, 0x0d, I.index, -1);
define(0x0e, 0x0e, I.branchTable, -1);
define(0x0f, 0x0f, I.none, 0);
define(0x10, 0x10, I.index, 0);
define(0x11, 0x11, I.twoIndices, -1);
define(0x12, 0x12, I.index, 0);
define(0x13, 0x13, I.twoIndices, -1);
define(0x1a, 0x1a, I.none, -1);
define(0x1b, 0x1b, I.none, -2);
define(0x1c, 0x1c, I.valueTypes, -2);
define(0x20, 0x20, I.index, 1);
define(0x21, 0x21, I.index, -1);
define(0x22, 0x22, I.index, 0);
define(0x23, 0x23, I.index, 1);
define(0x24, 0x24, I.index, -1);
define(0x25, 0x25, I.index, 0);
define(0x26, 0x26, I.index, -2);
define(0x28, 0x35, I.memory, 0); // loads
define(0x36, 0x3e, I.memory, -2); // stores
define(0x3f, 0x3f, I.byte, 1);
define(0x40, 0x40, I.byte, 0);
define(0x41, 0x41, I.i32, 1);
define(0x42, 0x42, I.i64, 1);
define(0x43, 0x43, I.f32, 1);
define(0x44, 0x44, I.f64, 1);
define(0x45, 0xc4, I.none, -1); // two operands, save those of one that follow
for (const [from, to] of [
  [0x45, 0x45], // i32.eqz
  [0x50, 0x50], // i64.eqz
  [0x67, 0x69], // i32 clz ctz popcnt
  [0x79, 0x7b], // i64 clz ctz popcnt
  [0x8b, 0x91], // f32 abs … sqrt
  [0x99, 0x9f], // f64 abs … sqrt
  [0xa7, 0xc4], // conversions, sign extension
] as const) {
  define(from, to, I.none, 0);
}
define(0xd0, 0xd0, I.heapType, 1);
define(0xd1, 0xd1, I.none, 0);
define(0xd2, 0xd2, I.index, 1);
define(0x100, 0x107, I.none, 0); // saturating conversion
define(0x108, 0x108, I.twoIndices, -3);
define(0x109, 0x109, I.index, 0);
define(0x10a, 0x10a, I.twoIndices, -3);
define(0x10b, 0x10b, I.index, -3);
define(0x10c, 0x10c, I.twoIndices, -3);
define(0x10d, 0x10d, I.index, 0);
define(0x10e, 0x10e, I.twoIndices, -3);
define(0x10f, 0x10f, I.index, -1);
define(0x110, 0x110, I.index, 1);
define(0x111, 0x111, I.index, -3);
// SIMD: two operands unless said otherwise.
define(0x200, 0x2ff, I.none, -1);
define(0x200, 0x20a, I.memory, 0);
define(0x20b, 0x20b, I.memory, -2);
define(0x20c, 0x20c, I.v128, 1);
define(0x20d, 0x20d, I.v128, -1);
define(0x20f, 0x214, I.none, 0); // splats
define(0x215, 0x222, I.byte, 0); // extract lane
for (const replace of [0x217, 0x21a, 0x21c, 0x21e, 0x220, 0x222]) define(replace, replace, I.byte, -1);
define(0x24d, 0x24d, I.none, 0); // not
define(0x252, 0x252, I.none, -2); // bitselect
define(0x253, 0x253, I.none, 0); // any_true
define(0x254, 0x257, I.memoryAndLane, -1);
define(0x258, 0x25b, I.memoryAndLane, -2);
define(0x25c, 0x25d, I.memory, 0);
for (const [from, to] of [
  [0x25e, 0x264], // demote, promote, i8x16 abs neg popcnt all_true bitmask
  [0x267, 0x26a], // f32x4 ceil floor trunc nearest
  [0x274, 0x275], // f64x2 ceil floor
  [0x27a, 0x27a], // f64x2 trunc
  [0x27c, 0x281], // extadd_pairwise, i16x8 abs neg
  [0x283, 0x284], // all_true bitmask
  [0x287, 0x28a], // extend
  [0x294, 0x294], // f64x2 nearest
  [0x2a0, 0x2a1],
  [0x2a3, 0x2a4],
  [0x2a7, 0x2aa],
  [0x2c0, 0x2c1],
  [0x2c3, 0x2c4],
  [0x2c7, 0x2ca],
  [0x2e0, 0x2e1],
  [0x2e3, 0x2e3],
  [0x2ec, 0x2ed],
  [0x2ef, 0x2ef],
  [0x2f8, 0x2ff],
] as const) {
  define(from, to, I.none, 0);
}
for (const hole of [
  0x29a, 0x2a2, 0x2a5, 0x2a6, 0x2af, 0x2b0, 0x2b2, 0x2b3, 0x2b4, 0x2bb, 0x2c2, 0x2c5, 0x2c6, 0x2cf, 0x2d0, 0x2d2, 0x2d3,
  0x2d4, 0x2e2, 0x2ee,
]) {
  define(hole, hole, I.unknown, 0);
}
define(0x300, 0x300, I.memory, -1); // notify
define(0x301, 0x302, I.memory, -2); // wait
define(0x303, 0x303, I.byte, 0); // fence
define(0x310, 0x316, I.memory, 0);
define(0x317, 0x31d, I.memory, -2);
define(0x31e, 0x347, I.memory, -1);
define(0x348, 0x34e, I.memory, -2);

/** Stands for what follows a prefix with a number beyond the table: relaxed SIMD is all there is. */
export const BEYOND_TABLE = SIZE - 1;

/** The proposal an opcode that is not in the table belongs to, for a refusal that names it. */
export function proposalOf(opcode: number): string {
  if (opcode >= 0x06 && opcode <= 0x0a) return 'exception-handling';
  if (opcode === 0x18 || opcode === 0x19 || opcode === 0x1f) return 'exception-handling';
  if (opcode === 0x14 || opcode === 0x15 || (opcode >= 0xd3 && opcode <= 0xd6)) return 'function-references';
  if (opcode === 0xfb) return 'garbage-collection';
  if (opcode === BEYOND_TABLE) return 'relaxed-simd';
  if (opcode >= 0x300) return 'threads';
  return `opcode 0x${opcode.toString(16)}`;
}

/** The proposal beyond the first release that an instruction needs; undefined for the first release's. */
export function featureOf(opcode: number): string | undefined {
  if (opcode >= 0xc0 && opcode <= 0xc4) return 'sign-extension';
  if (opcode >= 0x300) return 'threads';
  if (opcode >= 0x200) return 'simd';
  if (opcode >= 0x108 && opcode <= 0x10e) return 'bulk-memory';
  if (opcode >= 0x10f) return 'reference-types';
  if (opcode >= 0x100) return 'non-trapping-conversion';
  if (opcode === Op.returnCall || opcode === Op.returnCallIndirect) return 'tail-calls';
  if (opcode === Op.selectTyped || opcode === Op.tableGet || opcode === Op.tableSet) return 'reference-types';
  if (opcode >= 0xd0 && opcode <= 0xd2) return 'reference-types';
  return undefined;
}
