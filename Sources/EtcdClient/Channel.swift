// The way to one endpoint: connects on demand, again after failures, with growing pauses.

import Actors
import HTTP
import TLS

/// A reconnecting connection to one endpoint. Loop thread only, checked; hence the unchecked
/// conformance.
final class Channel: @unchecked Sendable {
  private enum State {
    case idle
    case connecting(Connector)
    /// Connected; the server's first bytes are awaited.
    case handshaking(Transport, LoopTimer)
    case ready(Transport)
    /// The last attempt failed; the timer ends the pause.
    case pausing(LoopTimer)
    case closed
  }

  private static let pauseMillisecondsMin = 50
  private static let pauseMillisecondsMax = 3000

  let endpoint: Endpoint
  private let loop: EventLoop
  private let options: EtcdClientOptions
  private let security: TLSDialer?
  private var state = State.idle
  private var failures = 0
  /// Connections that take no new calls but still carry open ones.
  private var draining: [Transport] = []
  /// Why the last attempt or connection failed; nil while all is well.
  private(set) var lastError: String?
  /// Called when the channel has become ready or idle.
  private let onChange: () -> Void

  init(
    endpoint: Endpoint, options: EtcdClientOptions, loop: EventLoop, security: TLSContextSource?,
    onChange: @escaping () -> Void
  ) {
    self.endpoint = endpoint
    self.options = options
    self.loop = loop
    self.security = security.map {
      TLSDialer(
        source: $0, serverName: endpoint.serverName,
        errorPrefix: "authentication handshake failed: ")
    }
    self.onChange = onChange
  }

  /// The connection for new calls, if there is one now.
  var readyTransport: Transport? {
    guard case .ready(let transport) = state, transport.acceptsCalls else { return nil }
    return transport
  }

  /// Starts to connect, unless that is under way, done, or pausing after a failure.
  func connectIfIdle() {
    loop.preconditionOnLoop()
    guard case .idle = state else { return }
    let connector = Connector.connect(
      to: endpoint.address, timeoutMilliseconds: options.connectTimeout.clampedMilliseconds,
      loop: loop, security: security
    ) { result in
      switch result {
      case .success(let stream): self.shakeHands(stream)
      case .failure(let error): self.pause("connection error: \(error)")
      }
    }
    state = .connecting(connector)
  }

  /// Ends all connections, open calls included.
  func close() {
    loop.preconditionOnLoop()
    let previous = state
    state = .closed
    let open = draining
    draining = []
    switch previous {
    case .idle, .closed: break
    case .connecting(let connector): connector.cancel()
    case .handshaking(let transport, let timer):
      timer.cancel()
      transport.close("the client is closing")
    case .ready(let transport): transport.close("the client is closing")
    case .pausing(let timer): timer.cancel()
    }
    for transport in open { transport.close("the client is closing") }
  }

  // MARK: Transitions

  private func shakeHands(_ stream: StreamConnection) {
    guard case .connecting = state else { return stream.close() }
    let transport = Transport(stream: stream, endpoint: endpoint, options: options)
    let timer = LoopTimer(loop: loop) { transport.close("handshake: i/o timeout") }
    timer.schedule(afterMilliseconds: options.connectTimeout.clampedMilliseconds)
    state = .handshaking(transport, timer)
    transport.onReady = { [weak transport] in
      if let transport { self.becomeReady(transport) }
    }
    transport.onDraining = { [weak transport] in
      if let transport { self.retire(transport) }
    }
    transport.onEnd = { [weak transport] reason in
      if let transport { self.didEnd(transport, reason) }
    }
  }

  private func becomeReady(_ transport: Transport) {
    guard case .handshaking(_, let timer) = state else { return }
    timer.cancel()
    failures = 0
    lastError = nil
    state = .ready(transport)
    onChange()
  }

  private func retire(_ transport: Transport) {
    guard case .ready(let current) = state, current === transport else { return }
    draining.append(transport)
    state = .idle
    onChange()
  }

  private func didEnd(_ transport: Transport, _ reason: String) {
    if let index = draining.firstIndex(where: { $0 === transport }) {
      draining.remove(at: index)
      return
    }
    switch state {
    case .handshaking(let current, let timer) where current === transport:
      timer.cancel()
      pause(reason)
    case .ready(let current) where current === transport: pause(reason)
    default: break
    }
  }

  private func pause(_ reason: String) {
    lastError = reason
    let base = min(Self.pauseMillisecondsMin << min(failures, 10), Self.pauseMillisecondsMax)
    failures += 1
    // Clients of a member that went away must not come back in step.
    let jitter = Int.random(in: -base / 5...base / 5)
    let timer = LoopTimer(loop: loop) {
      guard case .pausing = self.state else { return }
      self.state = .idle
      self.onChange()
    }
    timer.schedule(afterMilliseconds: base + jitter)
    state = .pausing(timer)
  }
}
