// One connection: a socket and the HTTP/2 session on it.

import Actors
import HTTP

/// A connected stream with a gRPC session. Loop thread only, checked; hence the unchecked
/// conformance. Its stream keeps it alive until the connection is closed.
final class Transport: @unchecked Sendable {
  private static let tickMilliseconds = 1000

  private let stream: StreamConnection
  private let session: GRPCClientSession
  private let loop: EventLoop
  private let usesKeepalive: Bool
  /// The server has sent its first bytes: this is no dead or foreign listener.
  private(set) var isReady = false
  private var isEnded = false
  private var isFlushScheduled = false
  private var hasAnnouncedDrain = false
  private var ticker: LoopTimer?
  /// Called once, when ``isReady`` turns true.
  var onReady: (() -> Void)?
  /// Called once, when the server wants no new calls here; open calls go on.
  var onDraining: (() -> Void)?
  /// Called once, after the calls on it have been ended.
  var onEnd: ((_ reason: String) -> Void)?

  init(stream: StreamConnection, endpoint: Endpoint, options: EtcdClientOptions) {
    self.stream = stream
    loop = stream.loop
    var configuration = GRPCClientConfiguration(authority: endpoint.authority)
    configuration.userAgent = options.userAgent
    configuration.receiveMessageBytesMax = options.receiveMessageBytesMax
    if let interval = options.keepaliveInterval {
      configuration.keepaliveInterval = max(interval, .seconds(10)).clampedNanoseconds
    }
    configuration.keepaliveTimeout = options.keepaliveTimeout.clampedNanoseconds
    usesKeepalive = options.keepaliveInterval != nil
    session = GRPCClientSession(configuration: configuration)
    stream.onWritable = { self.flush() }
    stream.startReading(
      onBytes: { self.receive($0) },
      onEnd: { self.end($0.map { "error reading from server: \($0)" }) })
    scheduleFlush()
  }

  var acceptsCalls: Bool {
    loop.preconditionOnLoop()
    return isReady && !isEnded && session.acceptsCalls
  }

  /// Starts a call; it must be followed by ``scheduleFlush()`` once its messages are queued.
  func startCall(path: String, metadata: [HTTPField], timeoutNanoseconds: UInt64?) -> ClientCall {
    loop.preconditionOnLoop()
    startTicking()
    return session.startCall(
      path: path, metadata: metadata, timeoutNanoseconds: timeoutNanoseconds, now: loop.now)
  }

  /// Writes out what the session has at the end of this turn, for all calls at once.
  func scheduleFlush() {
    guard !isFlushScheduled, !isEnded else { return }
    isFlushScheduled = true
    loop.execute { [self] in
      isFlushScheduled = false
      flush()
    }
  }

  /// Ends the connection and all calls on it.
  func close(_ reason: String) { end(reason) }

  // MARK: Internals

  private func receive(_ bytes: UnsafeRawBufferPointer) {
    guard !isEnded else { return }
    let isAlive = session.receive(bytes, now: loop.now)
    if !isReady, isAlive {
      isReady = true
      onReady?()
    }
    if session.isDraining { announceDrain() }
    if isAlive { scheduleFlush() } else { endAfterFlush() }
  }

  private func announceDrain() {
    guard !hasAnnouncedDrain else { return }
    hasAnnouncedDrain = true
    onDraining?()
  }

  private func flush() {
    guard !isEnded else { return }
    while stream.isWritable, session.wantsWrite {
      let bytes = session.takeOutput()
      if bytes.isEmpty { break }
      stream.write(bytes)
    }
    if session.isFinished { endAfterFlush() }
  }

  private func endAfterFlush() {
    guard !isEnded else { return }
    stream.write(session.takeOutput())
    end(session.endReason.isEmpty ? nil : session.endReason)
  }

  private func end(_ reason: String?) {
    guard !isEnded else { return }
    isEnded = true
    ticker?.cancel()
    ticker = nil
    let text = reason ?? "error reading from server: EOF"
    session.close(GRPCStatus(.unavailable, text))
    stream.closeWhenFlushed()
    let onEnd = self.onEnd
    onReady = nil
    onDraining = nil
    self.onEnd = nil
    onEnd?(text)
  }

  /// Keepalive needs the time while calls are open, and only then.
  private func startTicking() {
    guard usesKeepalive, ticker == nil, !isEnded else { return }
    let timer = LoopTimer(loop: loop) { [weak self] in self?.tick() }
    timer.schedule(
      afterMilliseconds: Self.tickMilliseconds, everyMilliseconds: Self.tickMilliseconds)
    ticker = timer
  }

  private func tick() {
    guard session.tick(now: loop.now) else { return endAfterFlush() }
    scheduleFlush()
    if session.openCallCount == 0 {
      ticker?.cancel()
      ticker = nil
    }
  }
}
