// Lets ThreadSanitizer see who hands Swift's Mutex to whom. On Linux the contended path of that lock is in
// the Swift runtime, which is not instrumented: without this, contended locks are reported as races.
// Preloaded by scripts/sanitize; stands before the runtime's two functions of the slow path.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"
#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *

typedef SWIFT void (*lock_function)(uint32_t, SELF);
typedef SWIFT void (*unlock_function)(SELF);

static void annotate(const char *name, void *mutex) {
  void (*annotation)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, name);
  if (annotation) annotation(mutex);
}

SWIFT void lock_slow(uint32_t thread, SELF mutex) __asm__(LOCK);
SWIFT void lock_slow(uint32_t thread, SELF mutex) {
  ((lock_function)dlsym(RTLD_NEXT, LOCK))(thread, mutex);
  annotate("__tsan_acquire", mutex);
}

SWIFT void unlock_slow(SELF mutex) __asm__(UNLOCK);
SWIFT void unlock_slow(SELF mutex) {
  annotate("__tsan_release", mutex);
  ((unlock_function)dlsym(RTLD_NEXT, UNLOCK))(mutex);
}
