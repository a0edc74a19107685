// A timer on the loop.

import CLibUV

/// Calls back on the loop thread after a delay, once or repeatedly.
///
/// Resolution is one millisecond of the monotonic clock, rounded down: a timer may fire up to one
/// millisecond early. An armed timer keeps itself alive; an idle one holds no resources and can be
/// armed again. Loop thread only, checked; hence the unchecked conformance.
public final class LoopTimer: LoopResource, @unchecked Sendable {
  public let loop: EventLoop
  private let onFire: () -> Void
  /// Present while armed. A handle that is closing belongs to its close callback.
  private var handle: UnsafeMutablePointer<uv_timer_t>?
  private var resourceID: UInt64 = 0

  /// Makes an idle timer. Any thread.
  public init(loop: EventLoop, onFire: @escaping () -> Void) {
    self.loop = loop
    self.onFire = onFire
  }

  /// True between ``schedule(afterMilliseconds:everyMilliseconds:)`` and the last firing.
  public var isArmed: Bool {
    loop.preconditionOnLoop()
    return handle != nil
  }

  /// Arms the timer, or arms it anew.
  ///
  /// - Parameters:
  ///   - afterMilliseconds: delay of the first firing; 0 fires on the next turn.
  ///   - everyMilliseconds: period of later firings; 0 for none.
  public func schedule(afterMilliseconds: Int, everyMilliseconds: Int = 0) {
    loop.preconditionOnLoop()
    precondition(afterMilliseconds >= 0 && everyMilliseconds >= 0)
    let timer: UnsafeMutablePointer<uv_timer_t>
    if let handle {
      timer = handle
    } else {
      timer = .allocate(capacity: 1)
      uv_timer_init(loop.uv, timer)
      timer.pointee.data = Unmanaged.passUnretained(self).toOpaque()
      handle = timer
      resourceID = loop.register(self)
    }
    // After a long callback libuv's idea of the time is stale, which would shorten the delay.
    uv_update_time(loop.uv)
    uv_timer_start(timer, timerFires, UInt64(afterMilliseconds), UInt64(everyMilliseconds))
  }

  /// Disarms the timer; it does not fire again. Idempotent.
  public func cancel() {
    loop.preconditionOnLoop()
    guard let timer = handle else { return }
    handle = nil
    timer.pointee.data = nil
    uv_close(asHandle(timer), freeClosedHandle)
    loop.unregister(resourceID)
  }

  func loopWillClose() { cancel() }

  fileprivate func fire() {
    guard let timer = handle else { return }
    onFire()
    if let handle, handle == timer, uv_is_active(asHandle(timer)) == 0 { cancel() }
  }
}

private func timerFires(_ handle: UnsafeMutablePointer<uv_timer_t>?) {
  guard let data = handle?.pointee.data else { return }
  Unmanaged<LoopTimer>.fromOpaque(data).takeUnretainedValue().fire()
}
