// Starting a named POSIX thread with a Swift closure.

import Glibc

/// A thread could not be created.
public struct ThreadError: Error, Sendable, Equatable, CustomStringConvertible {
  public let name: String
  public let errno: Int32
  public var description: String { "start thread \(name): \(errnoText(errno))" }
}

private final class ThreadStart: Sendable {
  let name: String
  let body: @Sendable () -> Void

  init(name: String, body: @escaping @Sendable () -> Void) {
    self.name = name
    self.body = body
  }
}

/// Starts a joinable thread. Asynchronous signals stay with the threads that existed before.
///
/// - Parameter name: shown by `ps -L` and `perf`; the kernel keeps the first 15 bytes.
func startThread(
  name: String, _ body: @escaping @Sendable () -> Void
) throws(ThreadError) -> pthread_t {
  let context = Unmanaged.passRetained(ThreadStart(name: name, body: body))
  var blocked = sigset_t()
  var previous = sigset_t()
  sigfillset(&blocked)
  for fault in [SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGABRT] { sigdelset(&blocked, fault) }
  pthread_sigmask(SIG_SETMASK, &blocked, &previous)
  defer { pthread_sigmask(SIG_SETMASK, &previous, nil) }
  var thread = pthread_t()
  let status = pthread_create(&thread, nil, threadMain, context.toOpaque())
  guard status == 0 else {
    context.release()
    throw ThreadError(name: name, errno: status)
  }
  return thread
}

private func threadMain(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let argument else { return nil }
  let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
  nameCurrentThread(start.name)
  start.body()
  return nil
}

/// Does what `pthread_setname_np` does, which Swift's Glibc module does not declare.
private func nameCurrentThread(_ name: String) {
  let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
  guard file >= 0 else { return }
  let bytes = Array(name.utf8.prefix(15))
  _ = write(file, bytes, bytes.count)
  close(file)
}

/// The identity of the calling thread, never zero.
func currentThreadID() -> UInt {
  UInt(pthread_self())
}
