/* Preloaded into a member: keeps a record of what goes into its write-ahead log and of every sync of it.
   A line "W <file> <time> <marker>" for each marker "mark-NNNNNN" in bytes written to a .wal file, and
   "S <file> <begun> <ended>" for each sync that succeeded; times are monotonic nanoseconds. SYNC_RECORD names
   the record. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *record;

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int is_log(int file) {
  char link[64], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = 0;
  return strstr(path, ".wal") != NULL;
}

static FILE *opened(void) {
  const char *name = getenv("SYNC_RECORD");
  if (!record && name) record = fopen(name, "a");
  return record;
}

static void wrote(int file, const char *bytes, ssize_t count) {
  if (count <= 0 || !is_log(file)) return;
  long long at = now();
  pthread_mutex_lock(&lock);
  if (opened()) {
    const char *end = bytes + count, *found = bytes;
    while ((found = memmem(found, end - found, "mark-", 5)) && end - found >= 11) {
      fprintf(record, "W %d %lld %.11s\n", file, at, found);
      found += 11;
    }
    fflush(record);
  }
  pthread_mutex_unlock(&lock);
}

#define WRITES(name, offset_type) \
  ssize_t name(int file, const void *bytes, size_t count, offset_type offset) { \
    static ssize_t (*real)(int, const void *, size_t, offset_type); \
    if (!real) real = dlsym(RTLD_NEXT, #name); \
    ssize_t done = real(file, bytes, count, offset); \
    wrote(file, bytes, done); \
    return done; \
  }
WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)

#define SYNCS(name) \
  int name(int file) { \
    static int (*real)(int); \
    if (!real) real = dlsym(RTLD_NEXT, #name); \
    long long begun = now(); \
    int result = real(file); \
    long long ended = now(); \
    if (result == 0 && is_log(file)) { \
      pthread_mutex_lock(&lock); \
      if (opened()) { \
        fprintf(record, "S %d %lld %lld\n", file, begun, ended); \
        fflush(record); \
      } \
      pthread_mutex_unlock(&lock); \
    } \
    return result; \
  }
SYNCS(fdatasync)
SYNCS(fsync)
