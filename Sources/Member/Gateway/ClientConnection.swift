import Actors
import Base
import HTTP

/// One client connection: finds out which protocol it speaks, and joins socket and session.
///
/// Belongs to the gateway's loop; everything here happens inside the gateway's methods.
final class ClientConnection: GRPCServerDelegate {
  /// What the gateway does with a connection's events.
  struct Handlers {
    var called: (ServerCall, ClientConnection) -> Void
    var received: (ServerCall, UnsafeRawBufferPointer) -> Void
    var halfClosed: (ServerCall) -> Void
    var cancelled: (ServerCall) -> Void
    var writable: (ServerCall) -> Void
    /// A request of HTTP/1.1 or of HTTP/2 that is not gRPC.
    var page: (PageRequest, @escaping (PageResponse) -> Void) -> Void
    /// There is output to be flushed at the end of this turn.
    var touched: (ClientConnection) -> Void
    var closed: (ClientConnection) -> Void
  }

  /// Output that may wait in the socket before the session's calls are held back.
  private static let outputBytesMax = 4 << 20
  /// Requests for pages that may wait on one connection.
  private static let pagesQueuedMax = 16

  let id: UInt64
  let stream: StreamConnection
  private let configuration: GRPCServerConfiguration
  private let handlers: Handlers
  private var sniffer: ProtocolSniffer? = ProtocolSniffer()
  private(set) var session: GRPCServerSession?
  private var codec: HTTP1ServerCodec?
  private var head: HTTP1RequestHead?
  /// Requests of HTTP/1.1 are answered one after the other.
  private var pages: [(PageRequest, keepAlive: Bool)] = []
  private var answersPage = false
  private var output = Bytes()
  /// The common name in the client's certificate, once it is verified.
  var certificateCommonName: String?
  var isTouched = false
  private var isClosed = false

  init(
    id: UInt64, stream: StreamConnection, configuration: GRPCServerConfiguration,
    handlers: Handlers
  ) {
    self.id = id
    self.stream = stream
    self.configuration = configuration
    self.handlers = handlers
  }

  /// - Parameter now: monotonic nanoseconds.
  func receive(_ bytes: UnsafeRawBufferPointer, now: UInt64) {
    guard !isClosed else { return }
    if sniffer != nil {
      sniff(bytes, now: now)
    } else if let session {
      if !session.receive(bytes, now: now) { finishAfterOutput() }
    } else {
      receivePage(bytes)
    }
    touch()
  }

  private func sniff(_ bytes: UnsafeRawBufferPointer, now: UInt64) {
    guard let decision = sniffer?.receive(bytes), decision != .needMore else { return }
    let first = sniffer?.takeBytes() ?? []
    sniffer = nil
    if decision == .http2 {
      session = GRPCServerSession(configuration: configuration, delegate: self)
    } else {
      codec = HTTP1ServerCodec()
    }
    first.withUnsafeBytes { receive($0, now: now) }
  }

  /// The socket takes bytes again.
  func becameWritable() {
    if codec != nil { answerNextPage() } else { touch() }
  }

  func touch() {
    guard !isTouched else { return }
    isTouched = true
    handlers.touched(self)
  }

  /// Sends everything that has collected in this turn with one system call.
  func flush() {
    isTouched = false
    guard !isClosed else { return }
    if let session {
      while stream.queuedBytes < Self.outputBytesMax {
        output.removeAll(keepingCapacity: true)
        session.appendOutput(to: &output)
        if output.isEmpty { break }
        output.withUnsafeBytes { stream.write($0) }
      }
      if session.isFinished { finishAfterOutput() }
    }
  }

  /// Asks the client to go elsewhere; running calls may finish.
  func shutdown(now: UInt64) {
    guard let session else {
      if !answersPage { close() }
      return
    }
    session.shutdown(now: now)
    if session.openCallCount == 0 { finishAfterOutput() } else { touch() }
  }

  /// - Returns: false when the connection is over.
  func tick(now: UInt64) {
    guard let session, !isClosed else { return }
    if !session.tick(now: now) { close() }
    touch()
  }

  private func finishAfterOutput() {
    guard !isClosed else { return }
    if let session {
      output.removeAll(keepingCapacity: true)
      session.appendOutput(to: &output)
      if !output.isEmpty { output.withUnsafeBytes { stream.write($0) } }
    }
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
    handlers.closed(self)
  }

  // MARK: - gRPC

  func callStarted(_ call: ServerCall) { handlers.called(call, self) }

  func call(_ call: ServerCall, received message: UnsafeRawBufferPointer) {
    handlers.received(call, message)
  }

  func callHalfClosed(_ call: ServerCall) { handlers.halfClosed(call) }

  func callCancelled(_ call: ServerCall) { handlers.cancelled(call) }

  func callWritable(_ call: ServerCall) { handlers.writable(call) }

  // MARK: - Pages

  func httpRequest(_ request: ServerCall, method: String, body: [UInt8]) {
    handlers.page(PageRequest(method: method, target: request.path)) { [weak self] response in
      request.respond(
        status: response.status,
        headers: response.headers.map { HTTPField($0.name.lowercased(), $0.value) },
        body: response.body)
      self?.touch()
    }
  }

  private func receivePage(_ bytes: UnsafeRawBufferPointer) {
    do {
      try codec?.receive(bytes) { event in
        switch event {
        case .head(let new): head = new
        case .body: break  // Pages take no body; what a client sends is read and dropped.
        case .end:
          guard let head else { return }
          pages.append((PageRequest(method: head.method, target: head.target), head.keepAlive))
          if pages.count > Self.pagesQueuedMax { stream.pauseReading() }
        }
      }
    } catch {
      var bytes = Bytes()
      HTTP1Encoder.response(
        status: error.responseStatus, body: [], keepAlive: false, to: &bytes)
      stream.write(bytes)
      end()
      stream.closeWhenFlushed()
      return
    }
    answerNextPage()
  }

  private func answerNextPage() {
    guard !answersPage, !isClosed, !pages.isEmpty else { return }
    // A client that does not read its answers gets no further ones.
    guard stream.isWritable else { return }
    let (page, keepAlive) = pages.removeFirst()
    if pages.count < Self.pagesQueuedMax { stream.resumeReading() }
    answersPage = true
    handlers.page(page) { [weak self] response in
      guard let self, !isClosed else { return }
      answersPage = false
      var bytes = Bytes()
      HTTP1Encoder.response(
        status: response.status, headers: response.headers, body: response.body,
        keepAlive: keepAlive, omitsBody: page.method == "HEAD", to: &bytes)
      stream.write(bytes)
      if keepAlive {
        answerNextPage()
      } else {
        end()
        stream.closeWhenFlushed()
      }
    }
  }
}

/// A request for a page beside the API: `/health`, `/version`, `/metrics`.
struct PageRequest {
  let method: String
  let target: String

  var path: String { String(target.prefix { $0 != "?" }) }

  /// Values of a query parameter; no page needs percent-decoding.
  func values(of name: String) -> [String] {
    guard let mark = target.firstIndex(of: "?") else { return [] }
    return target[target.index(after: mark)...].split(separator: "&").compactMap { pair in
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return parts[0] == name ? String(parts.count > 1 ? parts[1] : "") : nil
    }
  }
}

struct PageResponse {
  static let notFound = PageResponse(
    status: 404, contentType: "text/plain; charset=utf-8", body: "404 page not found\n")

  var status: Int
  var headers: [HTTPField]
  var body: Bytes

  init(status: Int, contentType: String, body: String, headers: [HTTPField] = []) {
    self.init(status: status, contentType: contentType, bytes: Bytes(body.utf8), headers: headers)
  }

  init(status: Int, contentType: String, bytes: Bytes, headers: [HTTPField] = []) {
    self.status = status
    self.headers =
      [HTTPField("Content-Type", contentType)] + headers
      + [
        HTTPField("Access-Control-Allow-Headers", "accept, content-type, authorization"),
        HTTPField("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
        HTTPField("Access-Control-Allow-Origin", "*"),
      ]
    body = bytes
  }
}
