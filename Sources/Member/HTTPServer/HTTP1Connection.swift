import Actors
import Base
import HTTP

/// The HTTP/1.1 side of a client connection: requests one after the other, each answered before the
/// next begins. Turns into a WebSocket when asked to. Loop thread.
final class HTTP1Connection: HTTPResponder {
  /// Requests, and bytes of their bodies, that may wait while one is answered.
  private static let aheadMax = 1024
  private static let aheadBytesMax = 64 << 10
  /// Bytes of a body that nobody wants, after which the connection is closed instead.
  private static let unwantedBytesMax = 256 << 10

  /// A request as far as it has arrived.
  private struct Incoming {
    let head: HTTP1RequestHead
    /// What of the body is still to be handed over: only of those that are not being answered.
    var body = Bytes()
    var isComplete = false
  }

  private unowned let connection: ClientConnection
  private let stream: StreamConnection
  private let codec = HTTP1ServerCodec()
  /// The first one is being answered.
  private var requests: [Incoming] = []
  private var exchange: HTTPExchange?
  /// The first request's answer is complete; its body may not be.
  private var isAnswered = false
  private var isAdvancing = false
  private var framing = HTTP1Encoder.Body.none
  private var omitsBody = false
  private var closesAfterAnswer = false
  private var unwantedBytes = 0
  private var output = Bytes()
  private var socket: WebSocketConnection?
  private var isOver = false
  /// Since when the client has owed the rest of a request's head; nil while it owes none.
  private(set) var owingSince: UInt64?

  init(connection: ClientConnection, stream: StreamConnection) {
    self.connection = connection
    self.stream = stream
  }

  /// No request is begun any more: the answer under way is the last.
  func shutdown() {
    if isBusy { closesAfterAnswer = true } else { finishConnection() }
  }

  /// Whether a request is being answered.
  var isBusy: Bool { exchange != nil || socket != nil }

  /// Whether nothing would be lost with the connection: no request, or one whose client has not sent
  /// enough for an answer to begin.
  var isExpendable: Bool {
    guard socket == nil else { return false }
    guard let exchange else { return true }
    return !exchange.hasBegun && requests.first?.isComplete == false
  }

  // MARK: - Input

  /// - Parameter now: monotonic nanoseconds.
  func receive(_ bytes: UnsafeRawBufferPointer, now: UInt64) {
    guard !isOver else { return }
    if let socket { return socket.receive(bytes) }
    do throws(HTTP1Error) {
      try codec.receive(bytes) { note($0) }
    } catch {
      refuse(error)
    }
    let owesHead = codec.isInMessage && requests.allSatisfy(\.isComplete)
    owingSince = owesHead ? owingSince ?? now : nil
  }

  private func note(_ event: HTTP1ServerEvent) {
    guard !isOver, socket == nil else { return }
    switch event {
    case .head(let head):
      // A client that sends without end gets no further than this.
      guard requests.count < Self.aheadMax else { return finishConnection() }
      requests.append(Incoming(head: head))
      advance()
    case .body(let bytes): noteBody(bytes)
    case .end:
      requests[requests.count - 1].isComplete = true
      guard requests.count == 1 else { return }
      if let exchange { exchange.ended() } else { advance() }
    }
  }

  private func noteBody(_ bytes: UnsafeRawBufferPointer) {
    guard requests.count > 1 else {
      if let exchange { return exchange.received(bytes) }
      unwantedBytes += bytes.count
      if unwantedBytes > Self.unwantedBytesMax { finishConnection() }
      return
    }
    requests[requests.count - 1].body.append(contentsOf: bytes)
    let ahead = requests.dropFirst().reduce(0) { $0 + $1.body.count }
    if ahead > Self.aheadBytesMax { stream.pauseReading() }
  }

  private func refuse(_ error: HTTP1Error) {
    guard requests.isEmpty, !isOver else { return finishConnection() }
    let text = error == .headTooLarge ? "431 Request Header Fields Too Large" : "400 Bad Request"
    HTTP1Encoder.response(
      status: error.responseStatus,
      headers: [HTTPField("Content-Type", "text/plain; charset=utf-8")], body: Bytes(text.utf8),
      keepAlive: false, to: &output)
    finishConnection()
  }

  // MARK: - One request after the other

  private func advance() {
    guard !isAdvancing else { return }
    isAdvancing = true
    defer { isAdvancing = false }
    while !isOver, socket == nil, exchange == nil, let first = requests.first {
      guard isAnswered else {
        start(first)
        continue
      }
      guard first.isComplete || framing == .untilClose else { return }
      requests.removeFirst()
      isAnswered = false
      if closesAfterAnswer { return finishConnection() }
      stream.resumeReading()
    }
  }

  private func start(_ request: Incoming) {
    let head = request.head
    requests[0].body = []
    unwantedBytes = 0
    omitsBody = head.method == "HEAD"
    if !head.keepAlive { closesAfterAnswer = true }
    if connection.acceptsWebSocket(head), WebSocketUpgrade.isAskedFor(by: head) {
      return upgrade(head)
    }
    let exchange = HTTPExchange(
      method: head.method, target: head.target, headers: head.headers, connection: connection,
      responder: self)
    self.exchange = exchange
    connection.begin(exchange)
    guard self.exchange === exchange else { return }
    if head.expectsContinue, !request.isComplete {
      output.append(contentsOf: HTTP1Encoder.continueResponse)
      connection.touch()
    }
    if !request.body.isEmpty { request.body.withUnsafeBytes { exchange.received($0) } }
    if self.exchange === exchange, request.isComplete { exchange.ended() }
  }

  private func upgrade(_ head: HTTP1RequestHead) {
    switch WebSocketUpgrade.answer(to: head) {
    case .refused(let status):
      HTTP1Encoder.response(
        status: status,
        headers: [
          HTTPField("Content-Type", "text/plain; charset=utf-8"),
          HTTPField("Sec-Websocket-Version", "13"), HTTPField("X-Content-Type-Options", "nosniff"),
        ] + connection.commonHeaders(head.headers),
        body: Bytes((status == 400 ? "Bad Request\n" : "Method Not Allowed\n").utf8),
        keepAlive: !closesAfterAnswer, to: &output)
      isAnswered = true
    case .accepted(let headers):
      HTTP1Encoder.responseHead(
        status: 101, headers: headers, body: .none, keepAlive: true, to: &output)
      let socket = WebSocketConnection(connection: connection, stream: stream)
      self.socket = socket
      requests = []
      socket.start(head)
    }
    connection.touch()
  }

  /// Sends what there is, then closes.
  private func finishConnection() {
    guard !isOver else { return }
    if !output.isEmpty { stream.write(output) }
    close()
    connection.finishAfterOutput()
  }

  // MARK: - Output

  func flush() {
    guard !isOver else { return }
    if !output.isEmpty {
      var bytes = Bytes()
      swap(&bytes, &output)
      stream.write(bytes)
      if stream.isWritable { exchange?.becameWritable() }
    }
    socket?.flush()
  }

  /// The socket has taken what was queued.
  func becameWritable() {
    exchange?.becameWritable()
    socket?.becameWritable()
  }

  var queuedBytes: Int { output.count + (stream.isWritable ? 0 : stream.queuedBytes) }

  func begin(status: Int, headers: [HTTPField], length: Int?) {
    guard let head = requests.first?.head else { return }
    framing = HTTP1Encoder.responseHead(
      status: status, headers: headers, body: length.map { .length($0) } ?? .chunked,
      keepAlive: !closesAfterAnswer, minorVersion: head.minorVersion, to: &output)
    if framing == .untilClose { closesAfterAnswer = true }
    connection.touch()
  }

  func send(_ body: Bytes) {
    guard !omitsBody else { return }
    if framing == .chunked {
      HTTP1Encoder.chunk(body, to: &output)
    } else {
      output.append(contentsOf: body)
    }
    connection.touch()
  }

  func end() {
    if framing == .chunked, !omitsBody, exchange != nil {
      output.append(contentsOf: HTTP1Encoder.lastChunk)
    }
    exchange = nil
    isAnswered = true
    connection.touch()
    advance()
  }

  // MARK: - Ends

  /// The connection is over.
  func close() {
    guard !isOver else { return }
    isOver = true
    let exchange = exchange
    self.exchange = nil
    exchange?.gone()
    socket?.close()
    socket = nil
    requests = []
  }
}
