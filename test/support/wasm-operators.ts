/** Operators of WebAssembly by what they take and give, for the generator. Opcodes from 0xfd00 and 0xfc00 on have that prefix. */

export type NumberType = 'i32' | 'i64' | 'f32' | 'f64';
export type StackType = NumberType | 'v128' | 'funcref' | 'externref';

export interface Operator {
  readonly opcode: number;
  readonly takes: readonly StackType[];
  readonly gives: StackType;
  /** Lanes that an immediate selects among. */
  readonly lanes?: number;
  /** Its result may be a NaN of any payload. */
  readonly float?: 'f32' | 'f64' | 'f32x4' | 'f64x2';
  readonly needs?: 'sign-extension' | 'saturating' | 'simd';
}

const operators: Operator[] = [];

function range(from: number, to: number, takes: readonly StackType[], gives: StackType, more: Partial<Operator> = {}) {
  for (let opcode = from; opcode <= to; opcode++) operators.push({ opcode, takes, gives, ...more });
}

range(0x45, 0x45, ['i32'], 'i32');
range(0x46, 0x4f, ['i32', 'i32'], 'i32');
range(0x50, 0x50, ['i64'], 'i32');
range(0x51, 0x5a, ['i64', 'i64'], 'i32');
range(0x5b, 0x60, ['f32', 'f32'], 'i32');
range(0x61, 0x66, ['f64', 'f64'], 'i32');
range(0x67, 0x69, ['i32'], 'i32');
range(0x6a, 0x78, ['i32', 'i32'], 'i32');
range(0x79, 0x7b, ['i64'], 'i64');
range(0x7c, 0x8a, ['i64', 'i64'], 'i64');
range(0x8b, 0x8c, ['f32'], 'f32');
range(0x8d, 0x91, ['f32'], 'f32', { float: 'f32' });
range(0x92, 0x97, ['f32', 'f32'], 'f32', { float: 'f32' });
range(0x98, 0x98, ['f32', 'f32'], 'f32');
range(0x99, 0x9a, ['f64'], 'f64');
range(0x9b, 0x9f, ['f64'], 'f64', { float: 'f64' });
range(0xa0, 0xa5, ['f64', 'f64'], 'f64', { float: 'f64' });
range(0xa6, 0xa6, ['f64', 'f64'], 'f64');
range(0xa7, 0xa7, ['i64'], 'i32');
range(0xa8, 0xa9, ['f32'], 'i32');
range(0xaa, 0xab, ['f64'], 'i32');
range(0xac, 0xad, ['i32'], 'i64');
range(0xae, 0xaf, ['f32'], 'i64');
range(0xb0, 0xb1, ['f64'], 'i64');
range(0xb2, 0xb3, ['i32'], 'f32');
range(0xb4, 0xb5, ['i64'], 'f32');
range(0xb6, 0xb6, ['f64'], 'f32', { float: 'f32' });
range(0xb7, 0xb8, ['i32'], 'f64');
range(0xb9, 0xba, ['i64'], 'f64');
range(0xbb, 0xbb, ['f32'], 'f64', { float: 'f64' });
range(0xbc, 0xbc, ['f32'], 'i32');
range(0xbd, 0xbd, ['f64'], 'i64');
range(0xbe, 0xbe, ['i32'], 'f32');
range(0xbf, 0xbf, ['i64'], 'f64');
range(0xc0, 0xc1, ['i32'], 'i32', { needs: 'sign-extension' });
range(0xc2, 0xc4, ['i64'], 'i64', { needs: 'sign-extension' });
range(0xfc00, 0xfc01, ['f32'], 'i32', { needs: 'saturating' });
range(0xfc02, 0xfc03, ['f64'], 'i32', { needs: 'saturating' });
range(0xfc04, 0xfc05, ['f32'], 'i64', { needs: 'saturating' });
range(0xfc06, 0xfc07, ['f64'], 'i64', { needs: 'saturating' });

const simd = { needs: 'simd' } as const;
const unary = (from: number, to = from, float?: Operator['float']) =>
  range(0xfd00 + from, 0xfd00 + to, ['v128'], 'v128', { ...simd, ...(float && { float }) });
const binary = (from: number, to = from, float?: Operator['float']) =>
  range(0xfd00 + from, 0xfd00 + to, ['v128', 'v128'], 'v128', { ...simd, ...(float && { float }) });
const shift = (from: number) => range(0xfd00 + from, 0xfd02 + from, ['v128', 'i32'], 'v128', simd);
const test = (...opcodes: number[]) => {
  for (const opcode of opcodes) range(0xfd00 + opcode, 0xfd00 + opcode, ['v128'], 'i32', simd);
};
const lanes: readonly (readonly [NumberType, number, number, number])[] = [
  ['i32', 0x0f, 0x15, 16],
  ['i32', 0x10, 0x18, 8],
  ['i32', 0x11, 0x1b, 4],
  ['i64', 0x12, 0x1d, 2],
  ['f32', 0x13, 0x1f, 4],
  ['f64', 0x14, 0x21, 2],
];
for (const [type, splat, extract, count] of lanes) {
  range(0xfd00 + splat, 0xfd00 + splat, [type], 'v128', simd);
  const ways = count > 4 ? 2 : 1;
  range(0xfd00 + extract, 0xfd00 + extract + ways - 1, ['v128'], type, { ...simd, lanes: count });
  range(0xfd00 + extract + ways, 0xfd00 + extract + ways, ['v128', type], 'v128', { ...simd, lanes: count });
}
binary(0x0e);
binary(0x23, 0x4c);
unary(0x4d);
binary(0x4e, 0x51);
range(0xfd52, 0xfd52, ['v128', 'v128', 'v128'], 'v128', simd);
test(0x53, 0x63, 0x64, 0x83, 0x84, 0xa3, 0xa4, 0xc3, 0xc4);
unary(0x5e, 0x5e, 'f32x4');
unary(0x5f, 0x5f, 'f64x2');
unary(0x60, 0x62);
binary(0x65, 0x66);
unary(0x67, 0x6a, 'f32x4');
shift(0x6b);
binary(0x6e, 0x73);
unary(0x74, 0x75, 'f64x2');
binary(0x76, 0x79);
unary(0x7a, 0x7a, 'f64x2');
binary(0x7b);
unary(0x7c, 0x7f);
unary(0x80, 0x81);
binary(0x82);
binary(0x85, 0x86);
unary(0x87, 0x8a);
shift(0x8b);
binary(0x8e, 0x93);
unary(0x94, 0x94, 'f64x2');
binary(0x95, 0x99);
binary(0x9b, 0x9f);
unary(0xa0, 0xa1);
unary(0xa7, 0xaa);
shift(0xab);
binary(0xae);
binary(0xb1);
binary(0xb5, 0xba);
binary(0xbc, 0xbf);
unary(0xc0, 0xc1);
unary(0xc7, 0xca);
shift(0xcb);
binary(0xce);
binary(0xd1);
binary(0xd5, 0xdf);
unary(0xe0, 0xe1);
unary(0xe3, 0xe3, 'f32x4');
binary(0xe4, 0xe9, 'f32x4');
binary(0xea, 0xeb);
unary(0xec, 0xed);
unary(0xef, 0xef, 'f64x2');
binary(0xf0, 0xf5, 'f64x2');
binary(0xf6, 0xf7);
unary(0xf8, 0xff);

export const allOperators: readonly Operator[] = operators;

/** Opcode, the type in memory's address on the stack aside, and bytes accessed. */
export const loads: readonly (readonly [opcode: number, type: StackType, bytes: number])[] = [
  [0x28, 'i32', 4],
  [0x29, 'i64', 8],
  [0x2a, 'f32', 4],
  [0x2b, 'f64', 8],
  [0x2c, 'i32', 1],
  [0x2d, 'i32', 1],
  [0x2e, 'i32', 2],
  [0x2f, 'i32', 2],
  [0x30, 'i64', 1],
  [0x31, 'i64', 1],
  [0x32, 'i64', 2],
  [0x33, 'i64', 2],
  [0x34, 'i64', 4],
  [0x35, 'i64', 4],
  [0xfd00, 'v128', 16],
  [0xfd01, 'v128', 8],
  [0xfd02, 'v128', 8],
  [0xfd07, 'v128', 1],
  [0xfd0a, 'v128', 8],
  [0xfd5c, 'v128', 4],
  [0xfd5d, 'v128', 8],
];

export const stores: readonly (readonly [opcode: number, type: StackType, bytes: number])[] = [
  [0x36, 'i32', 4],
  [0x37, 'i64', 8],
  [0x38, 'f32', 4],
  [0x39, 'f64', 8],
  [0x3a, 'i32', 1],
  [0x3b, 'i32', 2],
  [0x3c, 'i64', 1],
  [0x3d, 'i64', 2],
  [0x3e, 'i64', 4],
  [0xfd0b, 'v128', 16],
];
