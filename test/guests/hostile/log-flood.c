/* Writes to its standard streams: without end, in large pieces, with as many pieces in one call as there may be, or with pieces that lie outside its memory. */
#define EXPORT(name) __attribute__((export_name(#name)))
#define WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name)))

struct piece {
  const void *start;
  unsigned length;
};
WASI(fd_write) int fd_write(int fd, const struct piece *pieces, unsigned count, unsigned *written);
WASI(poll_oneoff) int poll_oneoff(const void *in, void *out, unsigned count, unsigned *events);

static char line[1024];
static struct piece pieces[1024];

/* Lines of 1 KiB for ever; ends only when a write fails, with its error number. */
EXPORT(write_for_ever) int write_for_ever(int fd) {
  struct piece one = {line, sizeof line};
  unsigned written;
  int error;
  for (unsigned i = 0; i < sizeof line; i++) line[i] = i == sizeof line - 1 ? '\n' : 'x';
  while ((error = fd_write(fd, &one, 1, &written)) == 0) continue;
  return error;
}

/* One call that says the same MiB of memory a thousand times. */
EXPORT(write_much) int write_much(int fd) {
  unsigned written;
  for (unsigned i = 0; i < 1024; i++) pieces[i] = (struct piece){0, 1u << 20};
  return fd_write(fd, pieces, 1024, &written);
}

/* A piece that ends beyond the memory. */
EXPORT(write_outside) int write_outside(int fd) {
  struct piece one = {(const void *)0xfffffff0ul, 64};
  unsigned written;
  return fd_write(fd, &one, 1, &written);
}

/* Says that there are four thousand million pieces. */
EXPORT(write_countless) int write_countless(int fd) {
  unsigned written;
  return fd_write(fd, pieces, 0xffffffffu, &written);
}

/* Sleeps for a hundred years. */
EXPORT(sleep) int sleep(void) {
  static struct {
    unsigned long long user;
    unsigned char tag;
    /* The union after the tag is aligned to 8 bytes. */
    __attribute__((aligned(8))) unsigned id;
    unsigned long long timeout, precision;
    unsigned short flags;
  } subscription = {1, 0, 1, 3155760000000000000ull, 1, 0};
  static unsigned char event[32];
  unsigned events;
  return poll_oneoff(&subscription, event, 1, &events);
}
