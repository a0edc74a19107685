// What Swift cannot name itself: the processor's CRC-32C instruction, system calls, what glibc
// declares for GNU sources only. Header only.
#pragma once
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/timerfd.h>

#if defined(__x86_64__)
// SSE 4.2 is older than every machine that runs this, but is still asked for at run time.
static inline int apus_has_crc32c(void) { return __builtin_cpu_supports("sse4.2"); }

__attribute__((target("sse4.2")))
static inline uint32_t apus_crc32c(uint32_t state, const uint8_t *bytes, size_t count) {
  uint64_t wide = state;
  while (count >= 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    wide = __builtin_ia32_crc32di(wide, word);
    bytes += 8;
    count -= 8;
  }
  state = (uint32_t)wide;
  while (count > 0) {
    state = __builtin_ia32_crc32qi(state, *bytes);
    bytes += 1;
    count -= 1;
  }
  return state;
}
#else
static inline int apus_has_crc32c(void) { return 0; }
static inline uint32_t apus_crc32c(uint32_t state, const uint8_t *bytes, size_t count) {
  (void)bytes;
  (void)count;
  return state;
}
#endif

extern int sync_file_range(int file, int64_t offset, int64_t bytes, unsigned int flags);

// Hands a file's changed pages to the disk and waits for them: no journal commit, no cache flush.
// A hint: what it could not do is left to the next sync, which reports it.
static inline void apus_write_back(int file) {
  (void)sync_file_range(file, 0, 0, 1 | 2 | 4); // wait before, write, wait after
}

// dl_iterate_phdr: the program and its libraries, as they are loaded.
struct apus_loaded_object {
  uintptr_t base;
  const char *name;
  const ElfW(Phdr) *headers;
  ElfW(Half) count;
};
extern int apus_loaded_objects(
    int (*visit)(struct apus_loaded_object *object, size_t size, void *context), void *context)
    __asm__("dl_iterate_phdr");

// A descriptor that becomes readable when the monotonic clock has got there.
static inline int apus_clock_open(void) {
  return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
}

// Once, so many nanoseconds from now; 0 silences it. It is not readable until then.
static inline int apus_clock_set(int clock, int64_t nanoseconds) {
  struct itimerspec when = {{0, 0}, {nanoseconds / 1000000000, nanoseconds % 1000000000}};
  return timerfd_settime(clock, 0, &when, NULL);
}
