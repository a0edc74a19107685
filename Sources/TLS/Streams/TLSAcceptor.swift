public import Actors

/// A connection that did not become one.
public struct TLSRejection: Sendable {
  public let remoteAddress: String
  /// The name that the client asked for; empty if none.
  public let serverName: String
  /// What the client has shown, if it got that far.
  public let certificate: TLSCertificate?
  public let error: TLSError
  /// The client just went away, as port checks do.
  public var isQuiet: Bool { error.description == "EOF" }
}

/// The server's side of a listener: shakes hands with those that connect. Loop thread only.
public final class TLSAcceptor: StreamSecurity {
  public struct Limits: Sendable {
    /// Handshakes under way. Beyond that the oldest one whose client is silent is given up.
    public var handshakesMax = 512
    public var milliseconds = 10_000

    public init() {}
  }

  /// Resolvers may be slow, and share their threads with those who look up whom to dial.
  private static let addressChecksMax = 64
  private static let lingeringMax = 128
  private static let lingerMilliseconds = 500

  private struct Handshake {
    let stream: TLSStream
    let deadline: LoopTimer
  }

  private let source: TLSContextSource
  private let loop: EventLoop
  private let limits: Limits
  /// Whether a certificate has to belong to the address that its owner connects from.
  private let checksAddress: Bool
  private let onRejected: (TLSRejection) -> Void
  private let scratch = TLSScratch()
  private let queue: HandshakeQueue
  private var handshakes: [UInt64: Handshake] = [:]
  private var last: UInt64 = 0
  private var lingering = 0
  private var addressChecks = 0

  public init(
    source: TLSContextSource, loop: EventLoop, limits: Limits = Limits(),
    checksAddress: Bool = false, onRejected: @escaping (TLSRejection) -> Void
  ) {
    self.source = source
    self.loop = loop
    self.limits = limits
    self.checksAddress = checksAddress
    self.onRejected = onRejected
    queue = HandshakeQueue(loop: loop)
  }

  public func secure(
    _ connection: StreamConnection, completion: @escaping (StreamError?) -> Void
  ) {
    let engine: TLSEngine
    do throws(TLSError) {
      engine = try TLSEngine(try source.current())
    } catch {
      return reject(connection, nil, error, completion)
    }
    if handshakes.count >= limits.handshakesMax { giveUpOne() }
    last += 1
    let id = last
    let stream = TLSStream(
      engine: engine, connection: connection, scratch: scratch, queue: queue
    ) { [weak self] error in
      guard let self else { return connection.close() }
      didShakeHands(id, error, completion)
    }
    let deadline = LoopTimer(loop: loop) { [weak self] in
      self?.end(id, TLSError("tls: handshake: i/o timeout"))
    }
    deadline.schedule(afterMilliseconds: limits.milliseconds)
    handshakes[id] = Handshake(stream: stream, deadline: deadline)
    connection.onClose = { [weak self] in self?.forget(id) }
    stream.start()
  }

  private func giveUpOne() {
    let ids = handshakes.keys.sorted()
    let silent = ids.first { id in handshakes[id].map { !queue.contains($0.stream) } ?? false }
    if let id = silent ?? ids.first { end(id, TLSError("tls: too many handshakes")) }
  }

  private func end(_ id: UInt64, _ error: TLSError) {
    guard let handshake = forget(id) else { return }
    reject(handshake.stream.connection, handshake.stream.engine, error) { _ in }
  }

  @discardableResult
  private func forget(_ id: UInt64) -> Handshake? {
    guard let handshake = handshakes.removeValue(forKey: id) else { return nil }
    handshake.deadline.cancel()
    return handshake
  }

  private func didShakeHands(
    _ id: UInt64, _ error: TLSError?, _ completion: @escaping (StreamError?) -> Void
  ) {
    guard let handshake = forget(id) else { return }
    let connection = handshake.stream.connection
    connection.onClose = nil
    if let error { return reject(connection, handshake.stream.engine, error, completion) }
    guard checksAddress, let certificate = handshake.stream.engine.peerCertificate else {
      return completion(nil)
    }
    guard addressChecks < Self.addressChecksMax else {
      let error = TLSError("tls: too many addresses to look up")
      return reject(connection, handshake.stream.engine, error, completion)
    }
    addressChecks += 1
    PeerAddressCheck.run(certificate, from: connection.peerAddress, loop: loop) { [weak self] in
      self?.addressChecks -= 1
      if let error = $0 {
        self?.reject(connection, handshake.stream.engine, error, completion)
      } else {
        completion(nil)
      }
    }
  }

  private func reject(
    _ connection: StreamConnection, _ engine: TLSEngine?, _ error: TLSError,
    _ completion: (StreamError?) -> Void
  ) {
    onRejected(
      TLSRejection(
        remoteAddress: connection.peerAddress, serverName: engine?.requestedName ?? "",
        certificate: engine?.peerCertificate, error: error))
    completion(StreamError(error.description))
    linger(connection, engine)
  }

  /// Closes once the client has gone too, or has had the time to read why it was refused: what it has
  /// sent in the meantime would make the system throw that away.
  private func linger(_ connection: StreamConnection, _ engine: TLSEngine?) {
    guard lingering < Self.lingeringMax else { return connection.closeWhenFlushed() }
    lingering += 1
    let end = LoopTimer(loop: loop) { connection.close() }
    end.schedule(afterMilliseconds: Self.lingerMilliseconds)
    connection.onClose = { [weak self] in
      end.cancel()
      self?.lingering -= 1
    }
    connection.shutdown()
    // From here on what comes in is dropped.
    engine?.close()
    connection.startSocket()
  }
}
