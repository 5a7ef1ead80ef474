import type { RawValue } from '../types.js';

/** Types of values that pass between a library and its host as numbers in memory. */
export type NumberType = 'i32' | 'i64' | 'f32' | 'f64';

export const numberWriters: Readonly<Record<NumberType, (view: DataView, at: number, value: RawValue) => void>> = {
  i32: (view, at, value) => view.setInt32(at, value as number, true),
  i64: (view, at, value) => view.setBigInt64(at, value as bigint, true),
  f32: (view, at, value) => view.setFloat32(at, value as number, true),
  f64: (view, at, value) => view.setFloat64(at, value as number, true),
};

export const numberReaders: Readonly<Record<NumberType, (view: DataView, at: number) => RawValue>> = {
  i32: (view, at) => view.getInt32(at, true),
  i64: (view, at) => view.getBigInt64(at, true),
  f32: (view, at) => view.getFloat32(at, true),
  f64: (view, at) => view.getFloat64(at, true),
};
