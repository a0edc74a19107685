/* Preloaded into a member. Three things, each asked for by an environment variable:

   FAULT_RULES    File calls fail, come up short, take long or are the process's last, as a file of rules says.
     A rule is a line "call path-part action number times": call is write, sync, dirsync, create, truncate,
     rename, unlink or any; action is errno, short, delay (milliseconds), torn (that many new bytes, then SIGKILL),
     kill (SIGKILL before the call, after letting `number` such calls pass) or killed (the same, after the
     call); times < 0 means always. The path of a rename is "from>to". Rules are read again whenever the file
     changes. Each hit adds a line to "<rules>.hits".

   FAULT_JOURNAL  Everything that changes files below FAULT_ROOT, and every sync, is written down, so that
     powercut.py can tell what a power cut would have left. The syncs themselves are not done: the kernel
     does not end with the process.

   FAULT_CLOCK    A file with one 64-bit number, by which the wall clock is ahead (nanoseconds).
   FAULT_RATE     How fast the monotonic clock runs, and time passes for who waits on an event loop, as a
     decimal number. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PATH_SIZE 1024

static void end_process(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* The journal. */

enum { TRACKED = 1, SYNCHRONOUS = 2, FOLDER = 3 };
static unsigned char kinds[65536]; /* of open files below the root */
static int journal = -1;
static const char *root;
static uint64_t last_token;

struct record {
  /* Begin of a process, Create, Make folder, Write, write Zeros, Truncate, Reserve room, Sync of a file begun,
     sync of a Directory begun, End of the sync or synchronous write `token`, reName, Unlink */
  char kind;
  char is_synchronous;
  uint16_t name_size;
  uint32_t data_size; /* bytes that follow the name */
  uint64_t file, offset, length, token;
};

static void note(char kind, int synchronous, const char *name, uint64_t file, uint64_t offset, uint64_t length,
                 uint64_t token, const struct iovec *parts, int count) {
  if (journal < 0) return;
  int saved = errno;
  struct record head = {kind, (char)synchronous, (uint16_t)(name ? strlen(name) : 0), 0, file, offset, length, token};
  struct iovec all[66] = {{&head, sizeof head}, {(void *)name, head.name_size}};
  int used = 2;
  for (int i = 0; i < count && used < 66; i++) {
    all[used++] = parts[i];
    head.data_size += (uint32_t)parts[i].iov_len;
  }
  ssize_t want = (ssize_t)(sizeof head + head.name_size + head.data_size);
  if (syscall(SYS_writev, journal, all, used) != want) {
    fprintf(stderr, "fault journal: %s\n", strerror(errno));
    abort();
  }
  errno = saved;
}

static uint64_t number_of(int file) {
  struct stat info;
  return fstat(file, &info) == 0 ? info.st_ino : 0;
}

static int is_ours(const char *path) {
  return journal >= 0 && strncmp(path, root, strlen(root)) == 0;
}

static int kind_of(int file) { return file >= 0 && file < 65536 ? kinds[file] : 0; }

static int all_zero(const struct iovec *part) {
  const char *bytes = part->iov_base;
  return part->iov_len > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, part->iov_len - 1) == 0;
}

/* Written down before it happens. Returns a token that `note_written` needs. */
static uint64_t note_write(int file, const struct iovec *parts, int count, off_t at) {
  int kind = kind_of(file);
  if (kind != TRACKED && kind != SYNCHRONOUS) return 0;
  uint64_t token = __atomic_add_fetch(&last_token, 1, __ATOMIC_RELAXED), length = 0;
  struct stat info;
  fstat(file, &info);
  if (at < 0) at = fcntl(file, F_GETFL) & O_APPEND ? info.st_size : lseek(file, 0, SEEK_CUR);
  for (int i = 0; i < count; i++) length += parts[i].iov_len;
  if (count == 1 && all_zero(&parts[0])) note('Z', kind == SYNCHRONOUS, NULL, info.st_ino, at, length, token, NULL, 0);
  else note('W', kind == SYNCHRONOUS, NULL, info.st_ino, at, length, token, parts, count);
  return kind == SYNCHRONOUS ? token : 0;
}

static void note_written(uint64_t token) {
  if (token) note('E', 0, NULL, 0, 0, 0, token, NULL, 0);
}

static int path_of(int file, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, PATH_SIZE - 1);
  path[length > 0 ? length : 0] = 0;
  return length > 0;
}

/* The rules. */

struct rule { char call[9], part[128], action[8]; long number, times; };
static struct rule rules[32];
static int rule_count;
static struct timespec rules_time;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *rules_name;

static void load_rules(void) {
  struct stat info;
  if (stat(rules_name, &info) != 0) { rule_count = 0; return; }
  if (!memcmp(&info.st_mtim, &rules_time, sizeof rules_time)) return;
  rules_time = info.st_mtim;
  rule_count = 0;
  FILE *file = fopen(rules_name, "r");
  if (!file) return;
  struct rule each;
  while (rule_count < 32 && fscanf(file, "%8s %127s %7s %ld %ld", each.call, each.part, each.action,
                                   &each.number, &each.times) == 5)
    rules[rule_count++] = each;
  fclose(file);
}

static int fits(struct rule *rule, const char *call, const char *path) {
  if (rule->times == 0 || !strstr(path, rule->part)) return 0;
  if (strcmp(rule->call, "any") && strcmp(rule->call, call)) return 0;
  if (!strncmp(rule->action, "kill", 4) && rule->number > 0) { rule->number--; return 0; }
  if (rule->times > 0) rule->times--;
  return 1;
}

static void tell(const char *call, const struct rule *rule, const char *path) {
  char hits[PATH_SIZE], line[2 * PATH_SIZE + 64];
  snprintf(hits, sizeof hits, "%s.hits", rules_name);
  int out = (int)syscall(SYS_openat, AT_FDCWD, hits, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  int size = snprintf(line, sizeof line, "%s %s %ld %s\n", call, rule->action, rule->number, path);
  if (out >= 0) { syscall(SYS_write, out, line, size); syscall(SYS_close, out); }
}

/* Finds the rule for a call on a path and counts it. Returns 0 if the call is to be made as it is.
   `killed` in `found` means: after the call. */
static int hit_path(const char *call, const char *path, struct rule *found) {
  int is_hit = 0;
  found->action[0] = 0;
  if (!rules_name) return 0;
  pthread_mutex_lock(&lock);
  load_rules();
  for (int i = 0; i < rule_count && !is_hit; i++)
    if (fits(&rules[i], call, path)) { *found = rules[i]; is_hit = 1; }
  if (is_hit) tell(call, found, path);
  pthread_mutex_unlock(&lock);
  if (!is_hit || !strcmp(found->action, "killed")) return 0;
  if (!strcmp(found->action, "kill")) end_process();
  if (!strcmp(found->action, "delay")) {
    struct timespec wait = {found->number / 1000, found->number % 1000 * 1000000};
    nanosleep(&wait, NULL);
    return 0;
  }
  return 1;
}

static int hit(const char *call, int file, struct rule *found) {
  char path[PATH_SIZE];
  struct stat info;
  found->action[0] = 0;
  if (!rules_name || fstat(file, &info) != 0 || !(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode))) return 0;
  path_of(file, path);
  return hit_path(S_ISDIR(info.st_mode) && !strcmp(call, "sync") ? "dirsync" : call, path, found);
}

static void after(struct rule *rule) {
  if (!strcmp(rule->action, "killed")) end_process();
}

/* Writes. */

/* Bytes in front that the file holds already: those who write whole blocks write some again. */
static size_t rewritten(int file, const char *bytes, size_t count, off_t at) {
  char held[8192];
  if (at < 0) return 0;
  ssize_t there = pread(file, held, count < sizeof held ? count : sizeof held, at);
  size_t same = 0;
  while ((ssize_t)same < there && held[same] == bytes[same]) same++;
  return same;
}

static ssize_t faulty(struct rule *rule, int file, const void *bytes, size_t count, off_t at) {
  if (!strcmp(rule->action, "errno")) { errno = (int)rule->number; return -1; }
  size_t some = count;
  if (!strcmp(rule->action, "short") && count > 1) some = count / 2;
  /* Parts of blocks go through the page cache. */
  fcntl(file, F_SETFL, fcntl(file, F_GETFL) & ~O_DIRECT);
  if (!strcmp(rule->action, "torn")) some = rewritten(file, bytes, count, at) + (size_t)rule->number;
  if (some > count) some = count;
  struct iovec part = {(void *)bytes, some};
  uint64_t token = note_write(file, &part, 1, at);
  ssize_t written = at < 0 ? syscall(SYS_write, file, bytes, some) : syscall(SYS_pwrite64, file, bytes, some, at);
  if (written >= 0) note_written(token);
  if (!strcmp(rule->action, "torn")) { syscall(SYS_fsync, file); end_process(); }
  return written;
}

static ssize_t write_parts(int file, const struct iovec *parts, int count, off_t at) {
  struct rule rule;
  if (kind_of(file) == 0 && !rules_name) goto plain;
  if (hit("write", file, &rule)) return faulty(&rule, file, parts[0].iov_base, parts[0].iov_len, at);
  uint64_t token = note_write(file, parts, count, at);
  ssize_t written = at < 0 ? syscall(SYS_writev, file, parts, count)
                           : syscall(SYS_pwritev, file, parts, count, (long)at, (long)0);
  if (written >= 0) note_written(token);
  after(&rule);
  return written;
plain:
  return at < 0 ? syscall(SYS_writev, file, parts, count)
                : syscall(SYS_pwritev, file, parts, count, (long)at, (long)0);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
  struct iovec part = {(void *)bytes, count};
  return write_parts(file, &part, 1, at);
}
ssize_t pwrite64(int file, const void *bytes, size_t count, off_t at) { return pwrite(file, bytes, count, at); }

ssize_t write(int file, const void *bytes, size_t count) {
  struct iovec part = {(void *)bytes, count};
  return write_parts(file, &part, 1, -1);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
  return write_parts(file, parts, count, at);
}
ssize_t pwritev64(int file, const struct iovec *parts, int count, off_t at) {
  return write_parts(file, parts, count, at);
}
ssize_t writev(int file, const struct iovec *parts, int count) { return write_parts(file, parts, count, -1); }

/* Syncs. */

static int sync_file(int file, int call) {
  struct rule rule;
  if (hit("sync", file, &rule)) { errno = (int)rule.number; return -1; }
  int result = 0, kind = kind_of(file);
  if (kind && journal >= 0) {
    char path[PATH_SIZE] = "";
    uint64_t token = __atomic_add_fetch(&last_token, 1, __ATOMIC_RELAXED);
    if (kind == FOLDER) path_of(file, path);
    note(kind == FOLDER ? 'D' : 'S', 0, path, number_of(file), 0, 0, token, NULL, 0);
    struct timespec wait = {0, (long)((token * 2654435761u) % 3000000)};
    nanosleep(&wait, NULL);
    note('E', 0, NULL, 0, 0, 0, token, NULL, 0);
  } else {
    result = (int)syscall(call, file);
  }
  after(&rule);
  return result;
}

int fdatasync(int file) { return sync_file(file, SYS_fdatasync); }
int fsync(int file) { return sync_file(file, SYS_fsync); }

/* Names. */

static int opened(int folder, const char *path, int flags, mode_t mode) {
  struct rule rule = {.action = ""};
  struct stat info;
  int exists = journal < 0 && !rules_name ? 1 : fstatat(folder, path, &info, 0) == 0;
  int creates = (flags & O_CREAT) && !exists;
  if (creates && hit_path("create", path, &rule)) { errno = (int)rule.number; return -1; }
  int file = (int)syscall(SYS_openat, folder, path, flags, mode);
  if (file >= 0 && file < 65536) {
    kinds[file] = 0;
    if (is_ours(path) && fstat(file, &info) == 0) {
      kinds[file] = S_ISDIR(info.st_mode) ? FOLDER : flags & O_DSYNC ? SYNCHRONOUS : TRACKED;
      if (creates) note('C', 0, path, info.st_ino, 0, 0, 0, NULL, 0);
      if (exists && flags & O_TRUNC) note('T', 0, NULL, info.st_ino, 0, 0, 0, NULL, 0);
    }
  }
  if (creates) after(&rule);
  return file;
}

static mode_t mode_of(int flags, va_list list) {
  return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(list, int) : 0;
}

int open(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = mode_of(flags, list);
  va_end(list);
  return opened(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = mode_of(flags, list);
  va_end(list);
  return opened(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char *path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  mode_t mode = mode_of(flags, list);
  va_end(list);
  return opened(folder, path, flags, mode);
}

int mkstemp(char *name) {
  int file = REAL(mkstemp)(name);
  if (file >= 0 && file < 65536 && is_ours(name)) {
    kinds[file] = TRACKED;
    note('C', 0, name, number_of(file), 0, 0, 0, NULL, 0);
  }
  return file;
}
int mkstemp64(char *name) { return mkstemp(name); }

int close(int file) {
  if (file >= 0 && file < 65536) kinds[file] = 0;
  return (int)syscall(SYS_close, file);
}

int mkdir(const char *path, mode_t mode) {
  int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
  if (result == 0 && is_ours(path)) note('M', 0, path, 0, 0, 0, 0, NULL, 0);
  return result;
}

int rename(const char *from, const char *to) {
  struct rule rule;
  char both[2 * PATH_SIZE];
  snprintf(both, sizeof both, "%s>%s", from, to);
  if (hit_path("rename", both, &rule)) { errno = (int)rule.number; return -1; }
  int result = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
  if (result == 0 && is_ours(to)) note('N', 0, both, 0, 0, 0, 0, NULL, 0);
  after(&rule);
  return result;
}

static int removed(const char *path, int flags) {
  struct rule rule;
  if (hit_path("unlink", path, &rule)) { errno = (int)rule.number; return -1; }
  int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, flags);
  if (result == 0 && is_ours(path)) note('U', 0, path, 0, 0, 0, 0, NULL, 0);
  after(&rule);
  return result;
}

int unlink(const char *path) { return removed(path, 0); }
int rmdir(const char *path) { return removed(path, AT_REMOVEDIR); }

int ftruncate(int file, off_t size) {
  struct rule rule;
  if (hit("truncate", file, &rule)) { errno = (int)rule.number; return -1; }
  if (kind_of(file)) note('T', 0, NULL, number_of(file), 0, (uint64_t)size, 0, NULL, 0);
  int result = (int)syscall(SYS_ftruncate, file, size);
  after(&rule);
  return result;
}
int ftruncate64(int file, off_t size) { return ftruncate(file, size); }

int posix_fallocate(int file, off_t at, off_t size) {
  int result = REAL(posix_fallocate)(file, at, size);
  if (result == 0 && kind_of(file)) note('R', 0, NULL, number_of(file), (uint64_t)at, (uint64_t)size, 0, NULL, 0);
  return result;
}
int posix_fallocate64(int file, off_t at, off_t size) { return posix_fallocate(file, at, size); }

/* Clocks. */

static volatile int64_t *ahead;
static double rate = 1;
static int64_t began;

static int64_t real_clock(clockid_t clock) {
  struct timespec now;
  syscall(SYS_clock_gettime, clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  int64_t now;
  if (ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    now = real_clock(clock) + *ahead;
  } else if (rate != 1 && (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME)) {
    now = began + (int64_t)((double)(real_clock(CLOCK_MONOTONIC) - began) * rate);
  } else {
    return (int)syscall(SYS_clock_gettime, clock, out);
  }
  out->tv_sec = now / 1000000000;
  out->tv_nsec = now % 1000000000;
  return 0;
}

static int scaled(int timeout) { return timeout <= 0 || rate == 1 ? timeout : (int)((timeout + rate - 1) / rate); }

int epoll_wait(int file, struct epoll_event *events, int count, int timeout) {
  return epoll_pwait(file, events, count, timeout, NULL);
}

int epoll_pwait(int file, struct epoll_event *events, int count, int timeout, const sigset_t *mask) {
  return (int)syscall(SYS_epoll_pwait, file, events, count, scaled(timeout), mask, (size_t)8);
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  out->tv_sec = now.tv_sec;
  out->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("FAULT_JOURNAL");
  rules_name = getenv("FAULT_RULES");
  root = getenv("FAULT_ROOT");
  if (name && root) {
    int file = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    journal = fcntl(file, F_DUPFD_CLOEXEC, 900);
    syscall(SYS_close, file);
    if (journal < 0) { perror(name); abort(); }
    note('B', 0, NULL, 0, 0, 0, 0, NULL, 0);
  }
  if ((name = getenv("FAULT_CLOCK"))) {
    int file = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
    void *map = file < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) { perror(name); abort(); }
    ahead = map;
    syscall(SYS_close, file);
  }
  if ((name = getenv("FAULT_RATE"))) {
    began = real_clock(CLOCK_MONOTONIC);
    rate = atof(name);
  }
}
