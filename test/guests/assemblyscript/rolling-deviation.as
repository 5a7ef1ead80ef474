/**
 * Watches one series: how many standard deviations is each value away from the mean of the last WINDOW values before it? Keeps its state in linear
 * memory and globals, so that a snapshot of the instance is a checkpoint of the watch.
 */
const WINDOW: i32 = 32;
const values = memory.data(32 * 8);
let seen: i32 = 0;

function at(index: i32): f64 {
  return load<f64>(values + ((<usize>index) << 3));
}

/** Takes a value; returns its deviation from those before it, 0 while there are fewer than 8 or they do not vary. */
export function push(value: f64): f64 {
  const kept = min(seen, WINDOW);
  let deviation: f64 = 0;
  if (kept >= 8) {
    let mean: f64 = 0;
    for (let i = 0; i < kept; i++) mean += at(i);
    mean /= f64(kept);
    let square: f64 = 0;
    for (let i = 0; i < kept; i++) square += (at(i) - mean) * (at(i) - mean);
    const spread = Math.sqrt(square / f64(kept));
    if (spread > 0) deviation = (value - mean) / spread;
  }
  store<f64>(values + ((<usize>(seen % WINDOW)) << 3), value);
  seen++;
  return deviation;
}

/** How many values were taken. */
export function count(): i32 {
  return seen;
}

/** Forgets all. */
export function reset(): void {
  seen = 0;
}
