// A clock for a loop, finer than the loop's own timers.

import Actors
import Glibc
import Synchronization

/// Calls back on a loop at every tick of a grid of times, until stopped.
final class Pacer: Sendable {
  private let isStopped = Atomic<Bool>(false)
  private let thread: ThreadExecutor

  /// - Parameters:
  ///   - begin: the grid's origin on the monotonic clock.
  ///   - onTick: gets the present time, on the loop. Ticks that come late are not made up for.
  init(
    loop: EventLoop, begin: UInt64, tick: UInt64, onTick: @escaping (UInt64) -> Void
  ) throws(ThreadError) {
    // Used on the loop only.
    nonisolated(unsafe) let onTick = onTick
    thread = try ThreadExecutor(name: "pacer")
    thread.execute { [self] in
      var next = begin
      while !isStopped.load(ordering: .relaxed) {
        next = max(next + tick, monotonicNanoseconds() / tick * tick)
        var time = timespec(tv_sec: Int(next / 1_000_000_000), tv_nsec: Int(next % 1_000_000_000))
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nil)
        loop.execute { [self] in
          if !isStopped.load(ordering: .relaxed) { onTick(monotonicNanoseconds()) }
        }
      }
    }
  }

  func stop() { isStopped.store(true, ordering: .relaxed) }
}
