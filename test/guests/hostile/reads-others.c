/* Keeps a secret in its memory, and looks for the secrets of others: in all of its own memory, beyond its end, and at any address it is told. */
#define EXPORT(name) __attribute__((export_name(#name)))
#define PAGE 65536u

static volatile unsigned secret[64];

EXPORT(keep) void keep(unsigned value) {
  for (unsigned i = 0; i < 64; i++) secret[i] = value;
}

/* How many words of the memory hold the value. The value itself is taken apart, so that no copy of it lies on the stack. */
EXPORT(count) unsigned count(unsigned high, unsigned low) {
  unsigned found = 0, end = __builtin_wasm_memory_size(0) * PAGE;
  for (unsigned address = 0; address < end; address += 4)
    if (*(volatile unsigned *)(unsigned long)address == ((high << 16) | low)) found++;
  return found;
}

EXPORT(peek) unsigned peek(unsigned address) { return *(volatile unsigned *)(unsigned long)address; }
EXPORT(poke) void poke(unsigned address, unsigned value) { *(volatile unsigned *)(unsigned long)address = value; }

/* Grows by pages and counts the new bytes that are not zero: what another one may have left there. */
EXPORT(leftovers) unsigned leftovers(unsigned pages) {
  unsigned first = __builtin_wasm_memory_grow(0, pages), found = 0;
  if (first == ~0u) return ~0u;
  for (unsigned address = first * PAGE; address < (first + pages) * PAGE; address++)
    if (*(volatile unsigned char *)(unsigned long)address != 0) found++;
  return found;
}
