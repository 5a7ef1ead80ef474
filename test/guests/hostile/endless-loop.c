/* Never returns: an empty loop, a loop that works, and loops in loops whose every part is short. */
#define EXPORT(name) __attribute__((export_name(#name)))

EXPORT(spin) void spin(void) {
  for (;;) __asm__ volatile("");
}

EXPORT(work) unsigned work(unsigned seed) {
  static volatile unsigned sink;
  for (;;) {
    seed = seed * 1664525u + 1013904223u;
    sink = seed;
  }
}

EXPORT(nested) unsigned nested(void) {
  static volatile unsigned sink;
  for (;;)
    for (unsigned i = 0; i < 7; i++)
      for (unsigned j = 0; j < 3; j++) sink += i ^ j;
}

/* Steps over its own end: the counter jumps from below the limit to above it. */
EXPORT(step_over) unsigned step_over(void) {
  unsigned i = 1, sum = 0;
  do {
    sum ^= i;
    __asm__ volatile("" : "+r"(sum));
    i += 2;
  } while (i != 1000);
  return sum;
}

/* What a host that survived can still ask for. */
EXPORT(add) int add(int a, int b) { return a + b; }
