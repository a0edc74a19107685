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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *record;

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* The file's number if it belongs to the log, whichever descriptor it has; 0 otherwise. */
static unsigned long log_file(int file) {
  char link[64], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = 0;
  struct stat info;
  return strstr(path, ".wal") && fstat(file, &info) == 0 ? (unsigned long)info.st_ino : 0;
}

static FILE *opened(void) {
  const char *name = getenv("SYNC_RECORD");
  if (!record && name) record = fopen(name, "a");
  return record;
}

static void wrote(int file, const char *bytes, ssize_t count) {
  unsigned long number = count > 0 ? log_file(file) : 0;
  if (!number) return;
  long long at = now();
  pthread_mutex_lock(&lock);
  if (opened()) {
    const char *end = bytes + count, *found = bytes;
    while ((found = memmem(found, end - found, "mark-", 5)) && end - found >= 11) {
      fprintf(record, "W %lu %lld %.11s\n", number, at, found);
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
    unsigned long number = result == 0 ? log_file(file) : 0; \
    if (number) { \
      pthread_mutex_lock(&lock); \
      if (opened()) { \
        fprintf(record, "S %lu %lld %lld\n", number, begun, ended); \
        fflush(record); \
      } \
      pthread_mutex_unlock(&lock); \
    } \
    return result; \
  }
SYNCS(fdatasync)
SYNCS(fsync)
