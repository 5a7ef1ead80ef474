/*
 * word-frequency [-n COUNT] [FILE…]: the most frequent words of the files, or of standard input: count, space, word, a line each; equal counts in
 * alphabetical order. A word is a run of ASCII letters, of digits, or of bytes beyond ASCII; letters become small. Exit code 2: wrong use, 1: a file cannot be read.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct entry {
  char *word;
  size_t length;
  unsigned count;
};

static struct entry *entries;
static size_t capacity, used;

static void say(int fd, const char *text, size_t length) {
  while (length > 0) {
    ssize_t written = write(fd, text, length);
    if (written <= 0) exit(1);
    text += written;
    length -= (size_t)written;
  }
}

static void complain(const char *what, const char *name) {
  say(2, "word-frequency: ", 16);
  say(2, what, strlen(what));
  say(2, name, strlen(name));
  say(2, "\n", 1);
}

static struct entry *find(struct entry *table, size_t size, const char *word, size_t length) {
  unsigned hash = 2166136261u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)word[i]) * 16777619u;
  for (size_t at = hash & (size - 1);; at = (at + 1) & (size - 1))
    if (table[at].word == NULL || (table[at].length == length && memcmp(table[at].word, word, length) == 0)) return &table[at];
}

static void *need(void *memory) {
  if (memory != NULL) return memory;
  complain("out of memory", "");
  exit(1);
}

static void count_word(const char *word, size_t length) {
  if (used * 2 >= capacity) {
    size_t larger = capacity == 0 ? 256 : capacity * 2;
    struct entry *table = need(calloc(larger, sizeof *table));
    for (size_t i = 0; i < capacity; i++)
      if (entries[i].word != NULL) *find(table, larger, entries[i].word, entries[i].length) = entries[i];
    free(entries);
    entries = table;
    capacity = larger;
  }
  struct entry *entry = find(entries, capacity, word, length);
  if (entry->word == NULL) {
    entry->word = need(malloc(length));
    memcpy(entry->word, word, length);
    entry->length = length;
    used++;
  }
  entry->count++;
}

static int in_word(unsigned char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 128;
}

/* Words may be cut between two reads; those longer than the buffer are cut for good. */
static int read_words(int fd) {
  static char buffer[16384], word[256];
  size_t length = 0;
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) > 0)
    for (ssize_t i = 0; i < got; i++) {
      char c = buffer[i];
      if (in_word((unsigned char)c)) {
        if (length < sizeof word) word[length++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
      } else if (length > 0) {
        count_word(word, length);
        length = 0;
      }
    }
  if (length > 0) count_word(word, length);
  return got < 0 ? -1 : 0;
}

static int by_count(const void *left, const void *right) {
  const struct entry *a = left, *b = right;
  if (a->count != b->count) return a->count < b->count ? 1 : -1;
  int order = memcmp(a->word, b->word, a->length < b->length ? a->length : b->length);
  return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

int main(int argc, char **argv) {
  size_t most = 10;
  int at = 1, failed = 0;
  if (at + 1 < argc && strcmp(argv[at], "-n") == 0) {
    char *end;
    most = strtoul(argv[at + 1], &end, 10);
    if (*end != 0 || *argv[at + 1] == 0) {
      complain("not a count: ", argv[at + 1]);
      return 2;
    }
    at += 2;
  }
  if (at == argc && read_words(0) < 0) failed = 1;
  for (; at < argc; at++) {
    int fd = open(argv[at], O_RDONLY);
    if (fd < 0 || read_words(fd) < 0) {
      complain("cannot read ", argv[at]);
      failed = 1;
    }
    if (fd >= 0) close(fd);
  }
  size_t kept = 0;
  for (size_t i = 0; i < capacity; i++)
    if (entries[i].word != NULL) entries[kept++] = entries[i];
  qsort(entries, kept, sizeof *entries, by_count);
  for (size_t i = 0; i < kept && i < most; i++) {
    char digits[12];
    size_t start = sizeof digits;
    for (unsigned count = entries[i].count; count > 0; count /= 10) digits[--start] = (char)('0' + count % 10);
    say(1, digits + start, sizeof digits - start);
    say(1, " ", 1);
    say(1, entries[i].word, entries[i].length);
    say(1, "\n", 1);
  }
  return failed;
}
