import { type Template, wasmDefinition } from './template.js';

export const c: Template = {
  files: {
    'NAME.yaml': wasmDefinition,
    'NAME.c': `// Greets: answers {"greeting": "Hello, …"} to an event whose "name" says who. Each call gets the event as JSON and answers with bytes.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(#name)))
// In the length of an answer: it is the text of an error.
#define FAILED 0x80000000u

static uint64_t answer(const char *bytes, uint32_t length) { return ((uint64_t)(uintptr_t)bytes << 32) | length; }

// Room for the event, and later back with it.
EXPORT(iguana_alloc) void *iguana_alloc(uint32_t length) { return malloc(length ? length : 1); }

static char greeting[512];

// Once, before the snapshot that every instance begins from: read tables, fill caches.
EXPORT(iguana_init) void iguana_init(void) { fprintf(stderr, "ready\\n"); }

EXPORT(handle) uint64_t handle(char *event, uint32_t length) {
  static const char key[] = "\\"name\\":\\"";
  const char *end = event + length, *name = "world";
  int size = 5;
  for (const char *at = event; at + sizeof key < end; at++) {
    if (memcmp(at, key, sizeof key - 1) != 0) continue;
    name = at + sizeof key - 1;
    const char *quote = memchr(name, '"', end - name);
    size = quote ? (int)(quote - name) : 0;
    break;
  }
  if (size > 256) {
    free(event);
    static const char what[] = "a name has at most 256 bytes";
    return answer(what, (sizeof what - 1) | FAILED);
  }
  fprintf(stderr, "greeting %.*s\\n", size, name); // the call's log
  int written = snprintf(greeting, sizeof greeting, "{\\"greeting\\":\\"Hello, %.*s\\"}", size, name);
  free(event);
  return answer(greeting, written);
}
`,
  },
  build: {
    commands: [
      [
        'clang',
        '--target=wasm32-wasi',
        '-mexec-model=reactor',
        '-O2',
        '-Wall',
        '-Wl,--strip-debug',
        '-o',
        'NAME.wasm',
        'NAME.c',
      ],
    ],
    tools:
      'clang with a WebAssembly linker and a C library: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32, or the wasi-sdk',
  },
};
