/* Calls itself without end: directly, through another function, through the table, with large frames in linear memory. */
#define EXPORT(name) __attribute__((export_name(#name)))

EXPORT(recurse) unsigned recurse(unsigned n) { return recurse(n + 1) * 31 + n; }

EXPORT(odd) __attribute__((noinline)) unsigned odd(unsigned n);
EXPORT(even) __attribute__((noinline)) unsigned even(unsigned n) { return odd(n + 1) + 1; }
unsigned odd(unsigned n) { return even(n + 1) * 3; }

typedef unsigned (*step)(unsigned);
static unsigned indirect(unsigned n);
static volatile step next = indirect;
static unsigned indirect(unsigned n) { return next(n + 1) * 5 + n; }
EXPORT(recurse_indirect) unsigned recurse_indirect(unsigned n) { return indirect(n); }

/* Frames of 4 KiB on the stack that C keeps in linear memory; it ends below address 0. */
EXPORT(large_frames) unsigned large_frames(unsigned n) {
  volatile unsigned char frame[4096];
  frame[n & 4095] = (unsigned char)n;
  return large_frames(n + 1) + frame[n & 4095];
}

/* Ends: so deep and no deeper. */
EXPORT(depth) unsigned depth(unsigned n) { return n == 0 ? 0 : depth(n - 1) * 3 + 1; }
