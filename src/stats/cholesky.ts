/**
 * Solves A·x = b for a symmetric positive definite A of n rows, row by row, of which the lower half is read. Neither is changed. Cost: n³ / 6.
 * Where rounding leaves a pivot that is not positive the unknown is 0, so that the answer is always finite. Source: Cholesky's decomposition.
 */
export function solvePositive(matrix: Float64Array, right: Float64Array, n: number): Float64Array {
  const lower = new Float64Array(n * n);
  const out = Float64Array.from(right);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= lower[i * n + k]! * lower[j * n + k]!;
      if (i === j) lower[i * n + i] = sum > 1e-13 * matrix[i * n + i]! ? Math.sqrt(sum) : 0;
      else lower[i * n + j] = lower[j * n + j]! > 0 ? sum / lower[j * n + j]! : 0;
    }
  }
  for (let i = 0; i < n; i++) {
    let sum = out[i]!;
    for (let k = 0; k < i; k++) sum -= lower[i * n + k]! * out[k]!;
    out[i] = lower[i * n + i]! > 0 ? sum / lower[i * n + i]! : 0;
  }
  for (let i = n - 1; i >= 0; i--) {
    let sum = out[i]!;
    for (let k = i + 1; k < n; k++) sum -= lower[k * n + i]! * out[k]!;
    out[i] = lower[i * n + i]! > 0 ? sum / lower[i * n + i]! : 0;
  }
  return out;
}
