/** Powers are asked at the same few horizons all the time: one table for each base, shared by all series. */
const LONGEST = 64;
const tables = new Map<number, Float64Array>();

/** base^0 … base^64. Of one base always the same array. */
export function powersOf(base: number): Float64Array {
  let table = tables.get(base);
  if (!table) {
    table = Float64Array.from({ length: LONGEST + 1 }, (_, n) => base ** n);
    tables.set(base, table);
  }
  return table;
}
