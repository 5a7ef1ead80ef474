/* Looks for anything that differs between two runs: clocks, their resolution, random bytes, and time measured by counting. */
#define EXPORT(name) __attribute__((export_name(#name)))
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

WASI(clock_time_get) int clock_time_get(int id, unsigned long long precision, unsigned long long *time);
WASI(clock_res_get) int clock_res_get(int id, unsigned long long *resolution);
WASI(random_get) int random_get(void *to, unsigned length);
WASI(sched_yield) int sched_yield(void);

static unsigned long long hash;
static void mix(unsigned long long value) {
  hash = (hash ^ value) * 1099511628211ull;
  hash ^= hash >> 29;
}

/* A hash of all that was seen. */
EXPORT(look) unsigned long long look(void) {
  unsigned long long time = 0;
  unsigned char bytes[64];
  hash = 14695981039346656037ull;
  for (int id = 0; id < 4; id++) {
    mix((unsigned)clock_time_get(id, 1, &time));
    mix(time);
    mix((unsigned)clock_res_get(id, &time));
    mix(time);
  }
  for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = 0;
  mix((unsigned)random_get(bytes, sizeof bytes));
  for (unsigned i = 0; i < sizeof bytes; i++) mix(bytes[i]);
  unsigned long long begin = 0;
  clock_time_get(1, 1, &begin);
  for (unsigned i = 0; i < 100000; i++) __asm__ volatile("");
  clock_time_get(1, 1, &time);
  mix(time - begin);
  return hash;
}

/* Random bytes only. */
EXPORT(chance) unsigned long long chance(void) {
  unsigned long long value = 0;
  random_get(&value, sizeof value);
  return value;
}

EXPORT(now) unsigned long long now(int id) {
  unsigned long long time = 0;
  clock_time_get(id, 1, &time);
  return time;
}

/* Calls the host without end. */
EXPORT(flood) void flood(void) {
  for (;;) sched_yield();
}

/* Calls the host without end and has it do something each time: 64 KiB of random bytes. */
EXPORT(flood_random) void flood_random(void) {
  static unsigned char bytes[65536];
  for (;;) random_get(bytes, sizeof bytes);
}
