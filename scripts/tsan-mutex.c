// Lets ThreadSanitizer see who hands Swift's Mutex to whom. On Linux the contended path of that lock is a
// priority-inheriting futex inside the Swift runtime, which is not instrumented: without this, every
// contended lock would be reported as a race. Preloaded by scripts/sanitize.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/syscall.h>

typedef void (*annotation)(void *);

long syscall(long number, ...) {
  static long (*next)(long, ...);
  static annotation acquire, release;
  if (!next) {
    acquire = (annotation)dlsym(RTLD_DEFAULT, "__tsan_acquire");
    release = (annotation)dlsym(RTLD_DEFAULT, "__tsan_release");
    next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  }
  va_list arguments;
  va_start(arguments, number);
  long a[6];
  for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
  va_end(arguments);
  int operation = number == SYS_futex ? (int)a[1] & FUTEX_CMD_MASK : -1;
  if (operation == FUTEX_UNLOCK_PI && release) release((void *)a[0]);
  long result = next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (result == 0 && (operation == FUTEX_LOCK_PI || operation == FUTEX_TRYLOCK_PI) && acquire)
    acquire((void *)a[0]);
  return result;
}
