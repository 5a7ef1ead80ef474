/*
 * Seven kernels for measuring WebAssembly engines and gas: each takes a size and returns a checksum, so that results can be compared between
 * engines and with native code. Built by build.sh, for wasm32 and natively, from this one file; no library is used.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __wasm__
#define EXPORT(name) __attribute__((export_name(#name), noinline))
#else
#define EXPORT(name) __attribute__((visibility("default"), noinline))
#endif

static u8 heap[16 << 20] __attribute__((aligned(64)));

static u32 seed;
static u32 next_random(void) {
  seed ^= seed << 13;
  seed ^= seed >> 17;
  seed ^= seed << 5;
  return seed;
}

/* Product of two n × n matrices of doubles, rows times columns; n ≤ 512. */
EXPORT(matmul) u32 matmul(u32 n) {
  double *a = (double *)heap, *b = a + n * n, *c = b + n * n;
  for (u32 i = 0; i < n * n; i++) {
    a[i] = (double)(i % 17) * 0.25;
    b[i] = (double)(i % 13) - 6.0;
    c[i] = 0.0;
  }
  for (u32 i = 0; i < n; i++)
    for (u32 k = 0; k < n; k++) {
      double x = a[i * n + k];
      for (u32 j = 0; j < n; j++) c[i * n + j] += x * b[k * n + j];
    }
  u32 sum = 0;
  for (u32 i = 0; i < n * n; i++) sum = sum * 31 + (u32)(int)(c[i] * 4.0);
  return sum;
}

static const u32 round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static u32 rotate(u32 x, u32 n) { return (x >> n) | (x << (32 - n)); }

static void sha256_block(u32 *state, const u8 *p) {
  u32 w[64];
  for (u32 i = 0; i < 16; i++) w[i] = ((u32)p[4 * i] << 24) | ((u32)p[4 * i + 1] << 16) | ((u32)p[4 * i + 2] << 8) | p[4 * i + 3];
  for (u32 i = 16; i < 64; i++) {
    u32 x = w[i - 15], y = w[i - 2];
    w[i] = w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ (x >> 3)) + w[i - 7] + (rotate(y, 17) ^ rotate(y, 19) ^ (y >> 10));
  }
  u32 a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
  for (u32 i = 0; i < 64; i++) {
    u32 t = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
    u32 s = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + s;
  }
  state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

/* First word of the SHA-256 of n bytes (a multiple of 64, ≤ 16 MiB) of which byte i is 7 i + i / 256 modulo 256. */
EXPORT(sha256) u32 sha256(u32 n) {
  u32 state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  u8 last[64];
  for (u32 i = 0; i < n; i++) heap[i] = (u8)(i * 7 + (i >> 8));
  for (u32 i = 0; i + 64 <= n; i += 64) sha256_block(state, heap + i);
  for (u32 i = 0; i < 64; i++) last[i] = 0;
  last[0] = 0x80;
  for (u32 i = 0; i < 8; i++) last[63 - i] = (u8)(((u64)n * 8) >> (8 * i));
  sha256_block(state, last);
  return state[0];
}

/* How many primes are less than n; n ≤ 16 Mi. */
EXPORT(sieve) u32 sieve(u32 n) {
  u32 count = 0;
  for (u32 i = 0; i < n; i++) heap[i] = 1;
  for (u32 i = 2; i < n; i++) {
    if (!heap[i]) continue;
    count++;
    if ((u64)i * i < n)
      for (u32 j = i * i; j < n; j += i) heap[j] = 0;
  }
  return count;
}

/* Sum of the iterations over n × n points, at most 64 each. */
EXPORT(mandelbrot) u32 mandelbrot(u32 n) {
  u32 total = 0;
  for (u32 py = 0; py < n; py++)
    for (u32 px = 0; px < n; px++) {
      double cr = 3.0 * px / n - 2.0, ci = 2.0 * py / n - 1.0, r = 0.0, i = 0.0;
      u32 step = 0;
      while (step < 64 && r * r + i * i < 4.0) {
        double t = r * r - i * i + cr;
        i = 2.0 * r * i + ci;
        r = t;
        step++;
      }
      total += step;
    }
  return total;
}

static void sort_range(int *a, int low, int high) {
  while (low < high) {
    int i = low, j = high, pivot = a[(u32)(low + high) >> 1];
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i <= j) {
        int t = a[i];
        a[i++] = a[j];
        a[j--] = t;
      }
    }
    if (j - low < high - i) {
      sort_range(a, low, j);
      low = i;
    } else {
      sort_range(a, i, high);
      high = j;
    }
  }
}

/* Sorts n random integers (≤ 4 Mi) and returns a checksum of the order. */
EXPORT(quicksort) u32 quicksort(u32 n) {
  int *a = (int *)heap;
  seed = 2463534242u;
  for (u32 i = 0; i < n; i++) a[i] = (int)next_random();
  sort_range(a, 0, (int)n - 1);
  u32 sum = 0;
  for (u32 i = 0; i < n; i++) sum = sum * 31 + (u32)a[i];
  return sum;
}

/* Fibonacci number n, by definition. */
EXPORT(fib) u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

/* Writes about n bytes (≤ 16 MiB) of JSON-like text, then scans it: depth, strings with escapes, numbers, names. */
EXPORT(json) u32 json(u32 n) {
  static const char record[] = "{\"id\": 40961, \"name\": \"iguana \\\"green\\\"\", \"tags\": [\"a\", \"bc\", true, null], \"score\": -12.75e3},\n";
  const u32 length = sizeof record - 1;
  u32 end = 0;
  while (end + length <= n) {
    for (u32 i = 0; i < length; i++) heap[end + i] = (u8)record[i];
    end += length;
  }
  u32 depth = 0, deepest = 0, strings = 0, numbers = 0, words = 0, sum = 0;
  for (u32 i = 0; i < end;) {
    u8 c = heap[i];
    if (c == '"') {
      strings++;
      for (i++; i < end && heap[i] != '"'; i++) {
        if (heap[i] == '\\') i++;
        sum = sum * 33 + heap[i];
      }
      i++;
    } else if (c == '{' || c == '[') {
      if (++depth > deepest) deepest = depth;
      i++;
    } else if (c == '}' || c == ']') {
      depth--;
      i++;
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      u32 value = 0;
      numbers++;
      do {
        if (c >= '0' && c <= '9') value = value * 10 + (c - '0');
        c = heap[++i];
      } while (i < end && ((c >= '0' && c <= '9') || c == '.' || c == 'e' || c == '-' || c == '+'));
      sum += value;
    } else if (c >= 'a' && c <= 'z') {
      words++;
      while (i < end && heap[i] >= 'a' && heap[i] <= 'z') i++;
    } else
      i++;
  }
  return sum ^ (strings * 3) ^ (numbers * 5) ^ (words * 7) ^ (deepest << 28) ^ (depth << 24);
}
