import Actors
import Base
import HTTP
import TLS

/// One client connection: finds out which protocol it speaks, and joins socket and session.
///
/// Belongs to the gateway's loop; everything here happens inside the gateway's methods.
final class ClientConnection: GRPCServerDelegate {
  /// Output that may wait in the socket before the session's calls are held back.
  private static let outputBytesMax = 4 << 20
  /// Output of one connection per turn. What is more waits while others have theirs.
  private static let outputBytesPerTurn = 256 << 10
  /// Output of a connection that ends, at its end.
  private static let lastOutputBytesMax = 1 << 20
  private static let clientVersionsMax = 128
  /// How long a client may take over the head of a request, or its first bytes once it has begun.
  private static let headTime: UInt64 = 30 * 1_000_000_000

  let id: UInt64
  let stream: StreamConnection
  /// The common name in the client's certificate, if the trusted authority vouches for it and
  /// `--client-cert-auth` asks for it.
  var certificateCommonName: String?
  private let entrance: ClientEntrance
  private var sniffer: ProtocolSniffer? = ProtocolSniffer()
  private(set) var session: GRPCServerSession?
  private var http1: HTTP1Connection?
  /// When it was accepted, and since when it has been without a request.
  private let acceptedAt: UInt64
  private var sniffedBytes = 0
  /// What the last call said of its client, and the counters of it.
  private var client: (fields: HeaderFields, unary: Counter, stream: Counter)?
  var isTouched = false
  private var isClosed = false

  init(id: UInt64, stream: StreamConnection, entrance: ClientEntrance, now: UInt64) {
    acceptedAt = now
    self.id = id
    self.stream = stream
    self.entrance = entrance
  }

  /// Counts a call by the client's version. Calls of one connection nearly always say the same, and
  /// share the memory of it: no lookup then.
  func countRequest(_ call: ServerCall, _ method: GatewayMethod, _ requests: Labelled<Counter>) {
    if client?.fields != call.fields {
      var version = call.metadata("client-api-version") ?? "unknown"
      // What clients say about themselves must not make this member's metrics grow for ever.
      if requests.count >= Self.clientVersionsMax { version = "unknown" }
      client = (
        call.fields, requests.series("unary", version), requests.series("stream", version)
      )
    }
    (method.isStream ? client?.stream : client?.unary)?.increment()
  }

  /// - Parameter now: monotonic nanoseconds.
  func receive(_ bytes: UnsafeRawBufferPointer, now: UInt64) {
    guard !isClosed else { return }
    if sniffer != nil {
      sniff(bytes, now: now)
    } else if let session {
      if !session.receive(bytes, now: now) { return finishAfterOutput() }
      // Most requests are answered later, and then tell of themselves.
      if session.wantsWrite { touch() }
    } else {
      http1?.receive(bytes, now: now)
      touch()
    }
  }

  private func sniff(_ bytes: UnsafeRawBufferPointer, now: UInt64) {
    sniffedBytes += bytes.count
    guard let decision = sniffer?.receive(bytes), decision != .needMore else { return }
    let first = sniffer?.takeBytes() ?? []
    sniffer = nil
    switch (decision, entrance.protocols) {
    case (.http2, _):
      session = GRPCServerSession(entrance.sessions, delegate: self)
    case (_, .grpc): return close()
    default: http1 = HTTP1Connection(connection: self, stream: stream)
    }
    first.withUnsafeBytes { receive($0, now: now) }
  }

  /// The socket takes bytes again.
  func becameWritable() {
    http1?.becameWritable()
    touch()
  }

  func touch() {
    guard !isTouched else { return }
    isTouched = true
    entrance.handlers.touched(self)
  }

  /// Sends everything that has collected in this turn with one system call.
  func flush() {
    isTouched = false
    guard !isClosed else { return }
    if let session {
      var left = Self.outputBytesPerTurn
      while session.wantsWrite, stream.queuedBytes < Self.outputBytesMax {
        guard left > 0 else {
          touch()
          break
        }
        let count = send(from: session, limitBytes: left)
        if count == 0 { break }
        left -= count
      }
      if session.isFinished { finishAfterOutput() }
    } else {
      http1?.flush()
    }
  }

  /// Hands what the session has to the socket; returns how many bytes.
  private func send(from session: GRPCServerSession, limitBytes: Int) -> Int {
    entrance.withOutputBuffer { output in
      session.appendOutput(to: &output, limitBytes: limitBytes)
      if !output.isEmpty { output.withUnsafeBytes { stream.write($0) } }
      return output.count
    }
  }

  /// Asks the client to go elsewhere; running calls may finish.
  func shutdown(now: UInt64) {
    guard let session else {
      if let http1 { return http1.shutdown() }
      return close()
    }
    session.shutdown(now: now)
    if session.openCallCount == 0 { finishAfterOutput() } else { touch() }
  }

  /// Time-driven work, about once a second. May close the connection.
  func tick(now: UInt64) {
    guard !isClosed else { return }
    if let session {
      if !session.tick(now: now) { close() }
      touch()
    } else if let since = owingSince, now > since, now - since > Self.headTime {
      close()
    }
  }

  /// Since when the client has owed the rest of what it began; nil while it owes nothing.
  private var owingSince: UInt64? {
    sniffer != nil ? (sniffedBytes > 0 ? acceptedAt : nil) : http1?.owingSince
  }

  /// Since when nobody has asked anything on this connection: the first to go when there are too many.
  var idleSince: UInt64? {
    guard let session else { return http1?.isExpendable ?? true ? acceptedAt : nil }
    return session.openCallCount == 0 ? acceptedAt : nil
  }

  /// Sends what is queued, then closes.
  func finishAfterOutput() {
    guard !isClosed else { return }
    if let session { _ = send(from: session, limitBytes: Self.lastOutputBytesMax) }
    end()
    stream.closeWhenFlushed()
  }

  func close() {
    guard !isClosed else { return }
    end()
    stream.close()
  }

  private func end() {
    isClosed = true
    session?.close()
    http1?.close()
    entrance.handlers.closed(self)
  }

  // MARK: - gRPC

  func callStarted(_ call: ServerCall) { entrance.handlers.called(call, self) }

  func call(_ call: ServerCall, received message: UnsafeRawBufferPointer) {
    entrance.handlers.received(call, message)
  }

  func callHalfClosed(_ call: ServerCall) { entrance.handlers.halfClosed(call) }

  func callCancelled(_ call: ServerCall) {
    if let request = call.userData as? HTTP2Request { return request.exchange.gone() }
    entrance.handlers.cancelled(call)
  }

  func callWritable(_ call: ServerCall) {
    if let request = call.userData as? HTTP2Request { return request.exchange.becameWritable() }
    entrance.handlers.writable(call)
  }

  // MARK: - HTTP

  func httpRequest(_ request: ServerCall, method: String) {
    let box = HTTP2Request(request, method: method, connection: self)
    request.userData = box
    begin(box.exchange)
  }

  func httpRequest(_ request: ServerCall, received bytes: UnsafeRawBufferPointer) {
    (request.userData as? HTTP2Request)?.exchange.received(bytes)
  }

  func httpRequestEnded(_ request: ServerCall) {
    (request.userData as? HTTP2Request)?.exchange.ended()
  }

  /// Whether what is said here is encrypted.
  var isSecure: Bool { stream.filter != nil }

  /// A request has arrived.
  func begin(_ exchange: HTTPExchange) {
    exchange.commonHeaders = commonHeaders(exchange.headers)
    entrance.handlers.request(exchange)
  }

  func acceptsWebSocket(_ head: HTTP1RequestHead) -> Bool {
    entrance.handlers.acceptsWebSocket(head)
  }

  func commonHeaders(_ headers: HTTP1Headers) -> [HTTPField] {
    entrance.handlers.commonHeaders(headers)
  }
}
