// One attempt of a streaming call.

import Actors
import HTTP

/// A streaming call on whatever connection is free. Loop thread only, checked; hence the unchecked
/// conformance. Ends once; whoever wants to try again makes a new one.
final class MessageStream: @unchecked Sendable {
  private let pool: ChannelPool
  private var pick: Pick?
  private var call: ClientCall?
  private var transport: Transport?
  private var isPaused = false
  private var isEnded = false
  private var onMessage: ((UnsafeRawBufferPointer) -> Void)?
  private var onEnd: ((GRPCStatus) -> Void)?

  init(pool: ChannelPool) {
    self.pool = pool
  }

  /// Opens the call as soon as there is a connection.
  ///
  /// - Parameters:
  ///   - first: sent at once.
  ///   - onEnd: called once, never from within a method of this object.
  func open(
    _ method: EtcdMethod, endpoint: Endpoint?, metadata: [HTTPField], first: [UInt8],
    isHalfClosed: Bool, onMessage: @escaping (UnsafeRawBufferPointer) -> Void,
    onEnd: @escaping (GRPCStatus) -> Void
  ) {
    self.onMessage = onMessage
    self.onEnd = onEnd
    pick = pool.pick(endpoint) { transport in
      let call = transport.startCall(
        path: method.path, metadata: metadata + self.pool.tokens.fields, timeoutNanoseconds: nil)
      self.call = call
      self.transport = transport
      call.onMessage = { self.onMessage?($0) }
      call.onEnd = { status, _ in self.didEnd(status) }
      if self.isPaused { call.pauseReceiving() }
      call.send(message: first)
      if isHalfClosed { call.halfClose() }
      transport.scheduleFlush()
    }
  }

  /// Whether messages can be sent.
  var isOpen: Bool { call != nil }

  func send(_ message: [UInt8]) {
    call?.send(message: message)
    transport?.scheduleFlush()
  }

  /// Makes the server wait once its window is used up.
  func pause() {
    isPaused = true
    call?.pauseReceiving()
  }

  func resume() {
    guard isPaused else { return }
    isPaused = false
    call?.resumeReceiving()
    transport?.scheduleFlush()
  }

  /// Ends the call without a report. Idempotent.
  func cancel() {
    pool.loop.preconditionOnLoop()
    guard !isEnded else { return }
    isEnded = true
    onMessage = nil
    onEnd = nil
    pick?.cancel()
    call?.cancel()
    transport?.scheduleFlush()
    call = nil
    transport = nil
  }

  private func didEnd(_ status: GRPCStatus) {
    guard !isEnded else { return }
    isEnded = true
    call = nil
    transport = nil
    onMessage = nil
    guard let onEnd else { return }
    self.onEnd = nil
    onEnd(status)
  }
}
