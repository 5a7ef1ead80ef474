// A guest that tries to get out of the directories it was given. It does what its arguments say and tells what came of it:
//   read PATH         prints "read PATH: CONTENT" (first line), or the error
//   write PATH TEXT   link FROM TO   rename FROM TO   symlink TARGET PATH   mkdir PATH   list PATH
//   race COUNT PATH   opens PATH so often, prints how often it read "inside", "SECRET", or got an error
// Build: clang --target=wasm32-wasi -Oz -Wl,--strip-all -o escape.wasm escape.c
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(const char *text) { write(1, text, strlen(text)); }

static void say_number(int n) {
  char digits[12], *at = digits + sizeof digits;
  *--at = 0;
  do *--at = '0' + n % 10; while (n /= 10);
  say(at);
}

static int read_first_line(const char *path, char *line, int size) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -1;
  int n = read(fd, line, size - 1);
  int failed = errno;
  close(fd);
  if (n < 0) { errno = failed; return -1; }
  line[n] = 0;
  char *end = strchr(line, '\n');
  if (end) *end = 0;
  return n;
}

static void tell(const char *what, const char *path, int result, const char *text) {
  say(what); say(" "); say(path); say(": ");
  if (result >= 0) say(text);
  else { say("errno "); say_number(errno); }
  say("\n");
}

int main(int argc, char **argv) {
  char line[200];
  for (int i = 1; i + 1 < argc; ) {
    const char *what = argv[i], *a = argv[i + 1], *b = i + 2 < argc ? argv[i + 2] : "";
    if (!strcmp(what, "read")) {
      int n = read_first_line(a, line, sizeof line);
      tell(what, a, n, line);
      i += 2;
    } else if (!strcmp(what, "list")) {
      DIR *directory = opendir(a);
      tell(what, a, directory ? 0 : -1, "opened");
      for (struct dirent *e; directory && (e = readdir(directory)); )
        if (e->d_name[0] != '.') { say("  "); say(e->d_name); say("\n"); }
      if (directory) closedir(directory);
      i += 2;
    } else if (!strcmp(what, "mkdir")) {
      tell(what, a, mkdir(a, 0777), "done");
      i += 2;
    } else if (!strcmp(what, "write")) {
      int fd = open(a, O_WRONLY | O_CREAT | O_TRUNC, 0666);
      int n = fd < 0 ? -1 : write(fd, b, strlen(b));
      tell(what, a, n, "done");
      if (fd >= 0) close(fd);
      i += 3;
    } else if (!strcmp(what, "link")) {
      tell(what, a, link(a, b), "done");
      i += 3;
    } else if (!strcmp(what, "rename")) {
      tell(what, a, rename(a, b), "done");
      i += 3;
    } else if (!strcmp(what, "symlink")) {
      tell(what, a, symlink(a, b), "done");
      i += 3;
    } else if (!strcmp(what, "race")) {
      int inside = 0, secret = 0, refused = 0;
      for (int n = atoi(a); n > 0; n--) {
        if (read_first_line(b, line, sizeof line) < 0) refused++;
        else if (!strcmp(line, "inside")) inside++;
        else secret++;
      }
      say("inside "); say_number(inside); say(" secret "); say_number(secret); say(" refused "); say_number(refused); say("\n");
      i += 3;
    } else return 2;
  }
  return 0;
}
