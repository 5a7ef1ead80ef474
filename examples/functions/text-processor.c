// The ten words of a text that come most often, without those that say nothing: {"words": 42, "top": [["stream", 3], …]}.
// The text is the event's "body" (HTTP) or "input" (a call), a string. See docs/functions-wasm.md for the exports.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT(name) __attribute__((export_name(#name)))
#define FAILED 0x80000000u
#define SLOTS 16384u
#define LONGEST 32
#define TOP 10

typedef struct {
  char text[LONGEST];
  uint32_t count; // 0: free
  uint8_t stop;
} Word;

static Word words[SLOTS];
static uint32_t used[SLOTS], distinct;
static char out[2048];

static Word *find(const char *text, uint32_t length) {
  uint32_t hash = 2166136261u;
  for (uint32_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)text[i]) * 16777619u;
  for (uint32_t i = 0; i < SLOTS; i++) {
    Word *word = &words[(hash + i) % SLOTS];
    if (word->count == 0 && !word->stop) return word;
    if (strncmp(word->text, text, length) == 0 && word->text[length] == 0) return word;
  }
  return NULL;
}

static const char *const stops[] = {
    "the", "and", "that", "this", "with", "from", "what", "which", "where", "when", "then", "than", "there", "they", "them", "their", "have", "has", "had",
    "was", "were", "are", "not", "for", "but", "its", "into", "only", "all", "each", "one", "out", "can", "does", "are", "you", "your", "who", "how", "is"};

EXPORT(iguana_init) void iguana_init(void) {
  for (uint32_t i = 0; i < sizeof stops / sizeof *stops; i++) {
    Word *word = find(stops[i], (uint32_t)strlen(stops[i]));
    strcpy(word->text, stops[i]);
    word->stop = 1;
  }
}

EXPORT(iguana_alloc) void *iguana_alloc(uint32_t length) { return malloc(length ? length : 1); }

static uint64_t answer(const char *bytes, uint32_t length) { return ((uint64_t)(uintptr_t)bytes << 32) | length; }

// After the call the instance is as it was: no text is left for the next one.
static void forget(char *event, uint32_t length) {
  for (uint32_t i = 0; i < distinct; i++) memset(&words[used[i]], 0, sizeof(Word));
  distinct = 0;
  memset(event, 0, length);
  free(event);
}

static const char *member(const char *event, const char *end, const char *key) {
  size_t size = strlen(key);
  for (const char *at = event; at + size < end; at++)
    if (memcmp(at, key, size) == 0) return at + size;
  return NULL;
}

static uint64_t failed(char *event, uint32_t length, const char *why) {
  forget(event, length);
  return answer(why, (uint32_t)strlen(why) | FAILED);
}

EXPORT(keywords) uint64_t keywords(char *event, uint32_t length) {
  const char *end = event + length;
  const char *at = member(event, end, "\"body\":\"");
  if (!at) at = member(event, end, "\"input\":\"");
  if (!at) return failed(event, length, "it needs a text");
  uint32_t total = 0, size = 0;
  char word[LONGEST];
  for (;; at++) {
    int last = at >= end || *at == '"';
    char letter = last ? ' ' : *at;
    if (letter == '\\' && at + 1 < end) {
      // of the escapes only \uXXXX is longer; none is part of a word
      at += at[1] == 'u' ? 5 : 1;
      letter = ' ';
    }
    if (letter >= 'A' && letter <= 'Z') letter += 32;
    int part = (letter >= 'a' && letter <= 'z') || (letter & 0x80);
    if (part && size < LONGEST - 1) word[size++] = letter;
    if (!part && size > 0) {
      total++;
      Word *found = size > 2 ? find(word, size) : NULL;
      if (found && !found->stop) {
        if (found->count == 0) {
          if (distinct == SLOTS / 2) return failed(event, length, "it has more than 8192 different words");
          memcpy(found->text, word, size);
          found->text[size] = 0;
          used[distinct++] = (uint32_t)(found - words);
        }
        found->count++;
      }
      size = 0;
    }
    if (last) break;
  }
  int written = snprintf(out, sizeof out, "{\"words\":%u,\"top\":[", total);
  for (int rank = 0; rank < TOP; rank++) {
    Word *best = NULL;
    for (uint32_t i = 0; i < distinct; i++) {
      Word *one = &words[used[i]];
      // of equals the one that came first
      if (one->count > 0 && (!best || one->count > best->count)) best = one;
    }
    if (!best) break;
    written += snprintf(out + written, sizeof out - written, "%s[\"%s\",%u]", rank ? "," : "", best->text, best->count);
    best->count = 0;
  }
  written += snprintf(out + written, sizeof out - written, "]}");
  forget(event, length);
  return answer(out, (uint32_t)written);
}
