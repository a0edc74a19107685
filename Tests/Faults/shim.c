/* Preloaded into a member: file calls fail, come up short or take long, as a file of rules says.
   A rule is a line "call path-part action number times", where call is write, sync or any; action is errno,
   short, delay (milliseconds) or torn (that many bytes, then SIGKILL); times < 0 means always.
   Rules are read again whenever the file changes. Each hit adds a line to "<rules>.hits". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct rule { char call[8], part[128], action[8]; long number, times; };
static struct rule rules[32];
static int rule_count;
static struct timespec rules_time;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void load_rules(const char *name) {
  struct stat info;
  if (stat(name, &info) != 0) { rule_count = 0; return; }
  if (!memcmp(&info.st_mtim, &rules_time, sizeof rules_time)) return;
  rules_time = info.st_mtim;
  rule_count = 0;
  FILE *file = fopen(name, "r");
  if (!file) return;
  struct rule each;
  while (rule_count < 32 && fscanf(file, "%7s %127s %7s %ld %ld", each.call, each.part, each.action,
                                   &each.number, &each.times) == 5)
    rules[rule_count++] = each;
  fclose(file);
}

/* Finds the rule for a call on a file and counts it. Returns 0 if there is none. */
static int hit(const char *call, int file, struct rule *found) {
  const char *name = getenv("FAULT_RULES");
  if (!name) return 0;
  int is_hit = 0;
  char link[64], path[512] = "";
  pthread_mutex_lock(&lock);
  load_rules(name);
  if (rule_count) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    for (int i = 0; i < rule_count && !is_hit; i++) {
      struct rule *rule = &rules[i];
      if (rule->times == 0 || !strstr(path, rule->part)) continue;
      if (strcmp(rule->call, "any") && strcmp(rule->call, call)) continue;
      if (rule->times > 0) rule->times--;
      *found = *rule;
      is_hit = 1;
    }
  }
  if (is_hit) {
    char hits[600], line[700];
    snprintf(hits, sizeof hits, "%s.hits", name);
    int out = open(hits, O_WRONLY | O_CREAT | O_APPEND, 0644);
    int size = snprintf(line, sizeof line, "%s %s %ld %s\n", call, found->action, found->number, path);
    if (out >= 0) { syscall(SYS_write, out, line, size); close(out); }
  }
  pthread_mutex_unlock(&lock);
  if (is_hit && !strcmp(found->action, "delay")) {
    struct timespec wait = {found->number / 1000, found->number % 1000 * 1000000};
    nanosleep(&wait, NULL);
    return 0;
  }
  return is_hit;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static ssize_t faulty(struct rule *rule, int file, const void *bytes, size_t count, off_t at, int *done) {
  *done = 1;
  if (!strcmp(rule->action, "errno")) { errno = (int)rule->number; return -1; }
  size_t some = count;
  if (!strcmp(rule->action, "short") && count > 1) some = count / 2;
  if (!strcmp(rule->action, "torn")) some = (size_t)rule->number < count ? (size_t)rule->number : count;
  ssize_t written = at < 0 ? syscall(SYS_write, file, bytes, some) : syscall(SYS_pwrite64, file, bytes, some, at);
  if (!strcmp(rule->action, "torn")) { fsync(file); kill(getpid(), SIGKILL); for (;;) pause(); }
  return written;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
  struct rule rule; int done;
  if (hit("write", file, &rule)) return faulty(&rule, file, bytes, count, at, &done);
  return syscall(SYS_pwrite64, file, bytes, count, at);
}
ssize_t pwrite64(int file, const void *bytes, size_t count, off_t at) { return pwrite(file, bytes, count, at); }

ssize_t write(int file, const void *bytes, size_t count) {
  struct rule rule; int done;
  struct stat info;
  if (fstat(file, &info) == 0 && S_ISREG(info.st_mode) && hit("write", file, &rule))
    return faulty(&rule, file, bytes, count, -1, &done);
  return REAL(write)(file, bytes, count);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
  struct rule rule; int done;
  if (hit("write", file, &rule)) return faulty(&rule, file, parts[0].iov_base, parts[0].iov_len, at, &done);
  return REAL(pwritev)(file, parts, count, at);
}
ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t at) {
  return pwritev(file, parts, count, at);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
  struct rule rule; int done;
  struct stat info;
  if (fstat(file, &info) == 0 && S_ISREG(info.st_mode) && hit("write", file, &rule))
    return faulty(&rule, file, parts[0].iov_base, parts[0].iov_len, -1, &done);
  return REAL(writev)(file, parts, count);
}

int fdatasync(int file) {
  struct rule rule;
  if (hit("sync", file, &rule)) { errno = (int)rule.number; return -1; }
  return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
  struct rule rule;
  if (hit("sync", file, &rule)) { errno = (int)rule.number; return -1; }
  return (int)syscall(SYS_fsync, file);
}
