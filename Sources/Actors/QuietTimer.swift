// A timer that is put off much more often than it fires.

import CIntrinsics
import CLibUV
import Glibc

/// Calls back on the loop thread once nobody has asked for it again for a while.
///
/// For times of a few milliseconds that are asked for thousands of times a second. A ``LoopTimer``
/// would bound every wait of the loop, and the kernel would set the processor's clock for each wait
/// and back after it, which costs more than the wait's other work. This one asks the kernel once per
/// firing of its own, and finds out then whether it was asked for again meanwhile.
///
/// Never fires early. Loop thread only, checked; hence the unchecked conformance.
public final class QuietTimer: LoopResource, @unchecked Sendable {
  public let loop: EventLoop
  private let delay: UInt64
  private var onQuiet: (() -> Void)?
  private let clock: Int32
  private let poll: UnsafeMutablePointer<uv_poll_t>
  private var resourceID: UInt64 = 0
  private var isOpen = true
  /// Nanoseconds of the monotonic clock; nil if nobody waits. Otherwise the clock is going to ring,
  /// though perhaps before this.
  private var due: UInt64?

  /// Makes an idle timer. Loop thread. The loop keeps it until it stops, or until ``close()``.
  ///
  /// - Parameter milliseconds: from the last request to the call.
  public init(
    loop: EventLoop, milliseconds: Int, onQuiet: @escaping () -> Void
  ) throws(EventLoopError) {
    loop.preconditionOnLoop()
    precondition(milliseconds > 0)
    self.loop = loop
    self.onQuiet = onQuiet
    delay = UInt64(milliseconds) * 1_000_000
    clock = apus_clock_open()
    guard clock >= 0 else { throw EventLoopError(errno: errno) }
    poll = .allocate(capacity: 1)
    let status = uv_poll_init(loop.uv, poll, clock)
    guard status == 0 else {
      poll.deallocate()
      Glibc.close(clock)
      throw EventLoopError(errno: -status)
    }
    poll.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    resourceID = loop.register(self)
    uv_poll_start(poll, Int32(UV_READABLE.rawValue), clockRings)
  }

  /// Asks for a call after the delay; an earlier request is forgotten.
  public func restart() {
    loop.preconditionOnLoop()
    guard isOpen else { return }
    let wasIdle = due == nil
    // Before the clock is set, or it would ring too early once more.
    due = loop.now + delay
    if wasIdle { set(nanoseconds: delay) }
  }

  /// Frees the timer; it does not fire again. Idempotent.
  public func close() {
    loop.preconditionOnLoop()
    guard isOpen else { return }
    isOpen = false
    onQuiet = nil
    poll.pointee.data = nil
    uv_poll_stop(poll)
    Glibc.close(clock)
    uv_close(asHandle(poll), freeClosedHandle)
    loop.unregister(resourceID)
  }

  func loopWillClose() { close() }

  fileprivate func ring() {
    guard let due else { return set(nanoseconds: 0) }
    let now = loop.now
    if now < due { return set(nanoseconds: due - now) }
    self.due = nil
    set(nanoseconds: 0)
    onQuiet?()
  }

  /// - Parameter nanoseconds: until the clock rings; 0 silences it.
  private func set(nanoseconds: UInt64) {
    let status = apus_clock_set(clock, Int64(nanoseconds))
    precondition(status == 0, "set a timer: \(errnoText(errno))")
  }
}

private func clockRings(_ handle: UnsafeMutablePointer<uv_poll_t>?, _: Int32, _: Int32) {
  guard let data = handle?.pointee.data else { return }
  Unmanaged<QuietTimer>.fromOpaque(data).takeUnretainedValue().ring()
}
