// Process signals as loop callbacks.

import CLibUV

/// Calls back on the loop thread for every arrival of one signal (several may be merged into one).
///
/// The loop keeps an open source alive: end it with ``close()``. Loop thread only, checked; hence
/// the unchecked conformance.
public final class SignalSource: LoopResource, @unchecked Sendable {
  public let loop: EventLoop
  public let signal: Int32
  private var onSignal: (() -> Void)?
  private let handle: UnsafeMutablePointer<uv_signal_t>
  private var resourceID: UInt64 = 0
  private var isOpen = true

  /// Starts to watch `signal`; its default action no longer happens.
  public init(
    _ signal: Int32, loop: EventLoop, onSignal: @escaping () -> Void
  ) throws(EventLoopError) {
    loop.preconditionOnLoop()
    self.loop = loop
    self.signal = signal
    self.onSignal = onSignal
    handle = .allocate(capacity: 1)
    var status = uv_signal_init(loop.uv, handle)
    guard status == 0 else {
      handle.deallocate()
      throw EventLoopError(errno: -status)
    }
    handle.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    status = uv_signal_start(handle, signalArrives, signal)
    guard status == 0 else {
      handle.pointee.data = nil
      uv_close(asHandle(handle), freeClosedHandle)
      throw EventLoopError(errno: -status)
    }
    resourceID = loop.register(self)
  }

  /// Stops watching; the signal's default action is back if nobody else watches it. Idempotent.
  public func close() {
    loop.preconditionOnLoop()
    guard isOpen else { return }
    isOpen = false
    onSignal = nil
    handle.pointee.data = nil
    uv_close(asHandle(handle), freeClosedHandle)
    loop.unregister(resourceID)
  }

  func loopWillClose() { close() }

  fileprivate func arrive() {
    onSignal?()
  }
}

private func signalArrives(_ handle: UnsafeMutablePointer<uv_signal_t>?, _ signal: Int32) {
  guard let data = handle?.pointee.data else { return }
  Unmanaged<SignalSource>.fromOpaque(data).takeUnretainedValue().arrive()
}
