// What an actor may ask of the thread it lives on: run a Swift job, a closure, or the drain of an inbox, in order.

import CLibUV
import Glibc

/// A serial executor that also takes work that is not a Swift job.
///
/// All three kinds of work share one queue and run in the order in which they were enqueued.
/// Every method may be called from any thread.
public protocol ActorExecutor: SerialExecutor {
  /// Enqueues one call of `drain.drain()`; needs no `Task` and no closure.
  func schedule(_ drain: any InboxDrain)

  /// Calls `drain.drain()` on the calling thread, as the executor, if the executor has nothing to do
  /// and allows it. Returns false otherwise; then nothing was done.
  func runHere(_ drain: any InboxDrain) -> Bool

  /// Enqueues one call of `body`.
  func execute(_ body: @escaping @Sendable () -> Void)
}

extension ActorExecutor {
  public func runHere(_ drain: any InboxDrain) -> Bool { false }
}

/// Something that is emptied on the executor that it was scheduled on.
public protocol InboxDrain: AnyObject, Sendable {
  /// Called by the executor, on the executor, once per `schedule`.
  func drain()
}

/// Nanoseconds of the monotonic clock; comparable between threads, not between machines.
public func monotonicNanoseconds() -> UInt64 {
  uv_hrtime()
}

/// Nanoseconds of a processor that the calling thread has used.
public func threadProcessorNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// One entry of an executor's queue.
enum WorkItem {
  case job(UnownedJob)
  case drain(any InboxDrain)
  case closure(@Sendable () -> Void)

  func run(on executor: UnownedSerialExecutor) {
    switch self {
    case .job(let job): job.runSynchronously(on: executor)
    case .drain(let inbox): inbox.drain()
    case .closure(let body): body()
    }
  }
}
