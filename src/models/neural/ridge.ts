import { AHEAD, INPUTS } from './window.js';
import type { TrainingWindows } from './window-pool.js';

/**
 * The linear way's matrix by ridge regression, W = (XᵀX + λ·n·I)⁻¹ XᵀY over some windows, for each λ. Neighbouring steps of a series are
 * nearly alike, so gradient descent alone would take thousands of passes to find what this finds at once. Cost: n · INPUTS² / 2, 5 ms for
 * 1,000 windows.
 * Hoerl & Kennard 1970; solved by Cholesky's decomposition.
 */
export function ridge(windows: TrainingWindows, rows: readonly number[], lambdas: readonly number[]): Float32Array[] {
  const gram = new Float64Array(INPUTS * INPUTS);
  const right = new Float64Array(INPUTS * AHEAD);
  for (const row of rows) {
    const x = windows.inputs.subarray(row * INPUTS, (row + 1) * INPUTS);
    const y = windows.targets.subarray(row * AHEAD, (row + 1) * AHEAD);
    for (let i = 0; i < INPUTS; i++) {
      const value = x[i]!;
      for (let j = 0; j <= i; j++) gram[i * INPUTS + j]! += value * x[j]!;
      for (let h = 0; h < AHEAD; h++) right[i * AHEAD + h]! += value * y[h]!;
    }
  }
  return lambdas.map((lambda) => solve(gram, right, lambda * Math.max(1, rows.length)));
}

/** (A + penalty·I)⁻¹ B for a symmetric A given by its lower half. */
function solve(gram: Float64Array, right: Float64Array, penalty: number): Float32Array {
  const n = INPUTS;
  const lower = Float64Array.from(gram);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = gram[i * n + j]! + (i === j ? penalty : 0);
      for (let k = 0; k < j; k++) sum -= lower[i * n + k]! * lower[j * n + k]!;
      lower[i * n + j] = i === j ? Math.sqrt(sum) : sum / lower[j * n + j]!;
    }
  }
  const out = Float64Array.from(right);
  for (let h = 0; h < AHEAD; h++) {
    for (let i = 0; i < n; i++) {
      let sum = out[i * AHEAD + h]!;
      for (let k = 0; k < i; k++) sum -= lower[i * n + k]! * out[k * AHEAD + h]!;
      out[i * AHEAD + h] = sum / lower[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = out[i * AHEAD + h]!;
      for (let k = i + 1; k < n; k++) sum -= lower[k * n + i]! * out[k * AHEAD + h]!;
      out[i * AHEAD + h] = sum / lower[i * n + i]!;
    }
  }
  return Float32Array.from(out);
}
