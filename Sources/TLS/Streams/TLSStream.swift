public import Actors

/// Joins an engine to a connection's socket. Loop thread only, checked; hence the unchecked
/// conformance.
public final class TLSStream: StreamFilter, @unchecked Sendable {
  /// Plaintext sealed at a time, so that long output needs no second long buffer.
  private static let writeBytesMax = 128 << 10

  public let engine: TLSEngine
  let connection: StreamConnection
  private let scratch: TLSScratch
  /// Where a server's handshakes wait for their turn; nil to do them at once.
  private let queue: HandshakeQueue?
  private var onHandshake: ((TLSError?) -> Void)?
  /// The socket has ended behind bytes that the owner has not taken yet.
  private var pendingEnd: StreamError??

  /// - Parameter onHandshake: called once, never from within a call of this: nil when the connection
  ///   may be used, or why not. The connection is not closed here.
  init(
    engine: TLSEngine, connection: StreamConnection, scratch: TLSScratch, queue: HandshakeQueue?,
    onHandshake: @escaping (TLSError?) -> Void
  ) {
    self.engine = engine
    self.connection = connection
    self.scratch = scratch
    self.queue = queue
    self.onHandshake = onHandshake
  }

  /// Takes its place in the connection and begins.
  func start() {
    connection.install(self)
    do throws(TLSError) {
      try engine.start()
      flush()
    } catch {
      connection.loop.execute { [self] in settle(error) }
    }
  }

  // MARK: The socket

  public func socketDidRead(_ bytes: UnsafeRawBufferPointer) {
    if engine.phase == .handshaking, let queue {
      engine.keep(bytes)
      connection.stopSocket()
      return queue.add(self)
    }
    process(bytes)
  }

  /// A step of the handshake that has waited for its turn.
  func step() {
    guard engine.phase == .handshaking else { return }
    process(UnsafeRawBufferPointer(start: nil, count: 0))
    if engine.phase == .handshaking { connection.startSocket() }
  }

  private func process(_ bytes: UnsafeRawBufferPointer) {
    let wasShakingHands = engine.phase == .handshaking
    var failure: TLSError?
    do throws(TLSError) {
      try engine.receive(
        bytes, opens: connection.ownerTakesBytes, scratch: scratch.buffer
      ) { plaintext in
        connection.deliver(plaintext)
        return connection.ownerTakesBytes
      }
    } catch {
      failure = error
    }
    flush()
    if let failure {
      if wasShakingHands { settle(failure) } else { connection.endReading(streamError(failure)) }
      return
    }
    if wasShakingHands, engine.phase == .open {
      // Whoever gets the connection says when it is read from.
      connection.stopSocket()
      settle(nil)
    }
    if engine.peerHasFinished { connection.endReading(nil) }
  }

  public func socketDidEnd(_ error: StreamError?) {
    if engine.phase == .handshaking {
      return settle(error.map { TLSError($0.description) } ?? TLSError("EOF"))
    }
    if engine.phase == .open, engine.hasPendingInput, !connection.ownerTakesBytes {
      pendingEnd = .some(error)
    } else {
      end(error)
    }
  }

  private func end(_ error: StreamError?) {
    connection.endReading(error ?? streamError(.truncated))
  }

  private func streamError(_ error: TLSError) -> StreamError {
    StreamError(
      "read \(connection.network) \(connection.localAddress)->\(connection.peerAddress): \(error)")
  }

  public func didClose() {
    engine.close()
    // Its owner has closed it and wants no answer.
    onHandshake = nil
  }

  private func settle(_ error: TLSError?) {
    guard let onHandshake else { return }
    self.onHandshake = nil
    onHandshake(error)
  }

  // MARK: The owner

  public func ownerReads() {
    guard engine.hasPendingInput || pendingEnd != nil else { return }
    connection.loop.execute { [self] in goOn() }
  }

  private func goOn() {
    guard connection.ownerTakesBytes, engine.phase == .open else { return }
    process(UnsafeRawBufferPointer(start: nil, count: 0))
    if let pendingEnd, connection.ownerTakesBytes {
      self.pendingEnd = nil
      end(pendingEnd)
    }
  }

  public func ownerWrites(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    while !rest.isEmpty {
      do throws(TLSError) {
        try engine.write(UnsafeRawBufferPointer(rebasing: rest.prefix(Self.writeBytesMax)))
      } catch {
        let failure = streamError(error)
        return connection.loop.execute { [self] in connection.endReading(failure) }
      }
      flush()
      rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(Self.writeBytesMax))
    }
  }

  public func ownerFinishes() {
    engine.finish()
    flush()
  }

  private func flush() {
    if engine.output.isEmpty { return }
    engine.takeOutput().withUnsafeBytes { connection.send($0) }
  }
}

/// Where plaintext is put on its way to an owner. Shared by the connections of one loop, since it is
/// in use during one call only.
public final class TLSScratch {
  private static let bytes = 64 << 10

  let buffer: UnsafeMutableRawBufferPointer

  public init() {
    buffer = .allocate(byteCount: Self.bytes, alignment: 16)
  }

  deinit { buffer.deallocate() }
}

extension StreamConnection {
  /// The certificate of the other end, if there is one and the roots vouch for it.
  public var verifiedCertificate: TLSCertificate? {
    (filter as? TLSStream)?.engine.verifiedCertificate
  }
}
