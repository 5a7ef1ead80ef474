/*
 * Runs the kernels as machine code for bench/wasm.mjs: reads lines "plain NAME SIZE" (or "metered"), answers "CPU-MICROSECONDS CHECKSUM", and the gas.
 * Built three ways: with kernels.c itself (native), and with the C that wasm2c makes of the plain and of the metered module. For these, AOT_HEADER is
 * a header that includes wasm2c's and says PREFIX (of the module's functions), INSTANCE (its struct), START (a function) and, if metered, GAS.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#ifdef AOT_HEADER
#include AOT_HEADER
#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
static INSTANCE instance;
/* Units of gas that a call is given; what is left stands above bit 20 of the global, see src/wasm/gas/packed.ts. */
#define FULL (1ull << 42)
#define CALL(name, size) JOIN(PREFIX, name)(&instance, size)
#else
#include "kernels.c"
#define CALL(name, size) name(size)
#endif

static unsigned run(const char *name, unsigned size) {
  if (strcmp(name, "matmul") == 0) return CALL(matmul, size);
  if (strcmp(name, "sha256") == 0) return CALL(sha256, size);
  if (strcmp(name, "sieve") == 0) return CALL(sieve, size);
  if (strcmp(name, "mandelbrot") == 0) return CALL(mandelbrot, size);
  if (strcmp(name, "quicksort") == 0) return CALL(quicksort, size);
  if (strcmp(name, "fib") == 0) return CALL(fib, size);
  return CALL(json, size);
}

static double cpu_micros(void) {
  struct timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

int main(void) {
  char which[16], name[16];
  unsigned size;
#ifdef AOT_HEADER
  wasm_rt_init();
  START(&instance);
#endif
  while (scanf("%15s %15s %u", which, name, &size) == 3) {
#ifdef GAS
    *GAS(&instance) = (FULL << 20) + (1ull << 19) - 1;
#endif
    double start = cpu_micros();
    unsigned result = run(name, size);
    printf("%.1f %u", cpu_micros() - start, result);
#ifdef GAS
    printf(" %llu", FULL - (*GAS(&instance) >> 20));
#endif
    printf("\n");
    fflush(stdout);
  }
  return 0;
}
