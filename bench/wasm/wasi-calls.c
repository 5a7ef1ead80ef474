// Calls WASI in a loop, without a C library between, for bench/wasm-wasi.mjs.
// Build: clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -Wl,--strip-all -o wasi-calls.wasm wasi-calls.c
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) int name
#define EXPORT(name) __attribute__((export_name(#name)))

struct iovec { const void *base; unsigned length; };
WASI(fd_write)(int fd, const struct iovec *vectors, int count, unsigned *written);
WASI(fd_read)(int fd, const struct iovec *vectors, int count, unsigned *read);
WASI(fd_seek)(int fd, long long offset, int whence, unsigned long long *position);
WASI(clock_time_get)(int id, unsigned long long precision, unsigned long long *time);
WASI(path_open)(int fd, int lookup, const char *path, int length, int flags, unsigned long long rights,
                unsigned long long inheriting, int fdflags, int *opened);
WASI(fd_close)(int fd);

static char buffer[65536];

EXPORT(writes) int writes(int fd, int size, int n) {
  struct iovec vector = { buffer, size };
  unsigned done;
  for (int i = 0; i < n; i++) if (fd_write(fd, &vector, 1, &done) != 0 || done != size) return -1;
  return 0;
}

EXPORT(reads) int reads(int fd, int size, int n) {
  struct iovec vector = { buffer, size };
  unsigned done;
  unsigned long long position;
  for (int i = 0; i < n; i++) {
    if (fd_read(fd, &vector, 1, &done) != 0) return -1;
    if (done < size && fd_seek(fd, 0, 0, &position) != 0) return -1;
  }
  return 0;
}

EXPORT(times) int times(int id, int n) {
  unsigned long long time, last = 0;
  for (int i = 0; i < n; i++) {
    if (clock_time_get(id, 1, &time) != 0 || time < last) return -1;
    last = time;
  }
  return 0;
}

// Opens fd's file `a/b/c` n times.
EXPORT(opens) int opens(int fd, int n) {
  int opened;
  for (int i = 0; i < n; i++)
    if (path_open(fd, 1, "a/b/c", 5, 0, 2, 0, 0, &opened) != 0 || fd_close(opened) != 0) return -1;
  return 0;
}

// Opens `w` for reading and writing, emptied.
EXPORT(create) int create(int fd) {
  int opened;
  return path_open(fd, 0, "w", 1, 1 | 8, 2 | 4 | 64, 0, 0, &opened) == 0 ? opened : -1;
}
