/* Takes memory: at once, page by page, by growing nothing for ever, or by filling what it has again and again. */
#define EXPORT(name) __attribute__((export_name(#name)))
#define PAGE 65536u

static volatile unsigned char *const memory = 0;

/* Grows by so many MiB at once and touches every new page. Returns the pages there are then, −1 when it was refused. */
EXPORT(take) int take(unsigned mib) {
  unsigned pages = mib * 16, first = __builtin_wasm_memory_grow(0, pages);
  if (first == ~0u) return -1;
  for (unsigned page = first; page < first + pages; page++) memory[page * PAGE] = 1;
  return (int)__builtin_wasm_memory_size(0);
}

/* Grows page by page until it is refused, and touches each. Returns the pages there are then. */
EXPORT(take_all) int take_all(void) {
  unsigned page;
  while ((page = __builtin_wasm_memory_grow(0, 1)) != ~0u) memory[page * PAGE] = 1;
  return (int)__builtin_wasm_memory_size(0);
}

/* Asks for more for ever, whatever the answer is. */
EXPORT(ask_for_ever) void ask_for_ever(unsigned pages) {
  for (;;) __builtin_wasm_memory_grow(0, pages);
}

/* Fills all but the first page for ever, by one instruction each time. */
EXPORT(fill_for_ever) void fill_for_ever(void) {
  for (unsigned char value = 0;; value++)
    __builtin_memset((void *)(unsigned long)PAGE, value, (__builtin_wasm_memory_size(0) - 1) * PAGE);
}
