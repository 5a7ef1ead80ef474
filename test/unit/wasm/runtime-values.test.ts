import { describe, expect, it } from 'vitest';
import { IguanaError } from '../../../src/errors.js';
import { parseValue } from '../../../src/wasm/runtime/values.js';

describe('values from text', () => {
  it('are read by the type of the parameter', () => {
    expect(parseValue('f', 'i32', '42').value).toBe(42);
    expect(parseValue('f', 'i32', '-1').value).toBe(-1);
    expect(parseValue('f', 'i32', '0xffffffff').value).toBe(0xffff_ffff);
    expect(parseValue('f', 'i64', '-9223372036854775808').value).toBe(-(2n ** 63n));
    expect(parseValue('f', 'i64', '0x10').value).toBe(16n);
    expect(parseValue('f', 'f64', '1e3').value).toBe(1000);
    expect(parseValue('f', 'f32', '-inf').value).toBe(-Infinity);
    expect(parseValue('f', 'f64', 'nan').value).toBeNaN();
    expect(parseValue('f', 'externref', 'null').value).toBeNull();
  });

  it.each([
    ['i32', '1.5'],
    ['i32', '4294967296'],
    ['i32', ''],
    ['i64', '9223372036854775808000'],
    ['i64', 'ten'],
    ['f64', 'abc'],
    ['f32', ''],
    ['v128', '0'],
    ['funcref', '3'],
  ] as const)('%s refuses %j', (type, text) => {
    expect(() => parseValue('f', type, text)).toThrow(IguanaError);
  });
});
