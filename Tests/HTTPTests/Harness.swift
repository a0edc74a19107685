import HTTP

/// A delegate that writes down what happens and answers as a test tells it.
final class Recorder: GRPCServerDelegate {
  var log: [String] = []
  var calls: [ServerCall] = []
  var messages: [[UInt8]] = []
  var onStart: ((ServerCall) -> Void)?
  var onMessage: ((ServerCall, [UInt8]) -> Void)?
  var onHalfClose: ((ServerCall) -> Void)?
  var onCancel: ((ServerCall) -> Void)?
  var onWritable: ((ServerCall) -> Void)?
  /// Requests under way by stream.
  private var requests: [Int32: (method: String, body: [UInt8])] = [:]
  var onHTTP: ((ServerCall, String, [UInt8]) -> Void)?
  /// Before any of the body.
  var onHTTPHead: ((ServerCall) -> Void)?

  func callStarted(_ call: ServerCall) {
    log.append("start \(call.path)")
    calls.append(call)
    onStart?(call)
  }
  func call(_ call: ServerCall, received message: UnsafeRawBufferPointer) {
    log.append("message \(message.count)")
    messages.append(Array(message))
    onMessage?(call, Array(message))
  }
  func callHalfClosed(_ call: ServerCall) {
    log.append("half-closed")
    onHalfClose?(call)
  }
  func callCancelled(_ call: ServerCall) {
    log.append("cancelled")
    onCancel?(call)
  }
  func callWritable(_ call: ServerCall) {
    log.append("writable")
    onWritable?(call)
  }
  func httpRequest(_ request: ServerCall, method: String) {
    requests[request.id] = (method, [])
    onHTTPHead?(request)
  }
  func httpRequest(_ request: ServerCall, received bytes: UnsafeRawBufferPointer) {
    requests[request.id]?.body.append(contentsOf: bytes)
  }
  func httpRequestEnded(_ request: ServerCall) {
    guard let (method, body) = requests.removeValue(forKey: request.id) else { return }
    log.append("http \(method) \(request.path) \(body.count)")
    onHTTP?(request, method, body)
  }
}

/// What a client call has been told.
final class Outcome {
  var headers: HeaderFields?
  var messages: [[UInt8]] = []
  var status: GRPCStatus?
  var trailers: HeaderFields?
  var ends = 0

  init(_ call: ClientCall) {
    call.onHeaders = { self.headers = $0 }
    call.onMessage = { self.messages.append(Array($0)) }
    call.onEnd = { status, trailers in
      self.status = status
      self.trailers = trailers
      self.ends += 1
    }
  }
}

/// A client session and a server session with a wire between them.
final class Wire {
  let client: GRPCClientSession
  let server: GRPCServerSession
  let recorder = Recorder()
  var now: UInt64 = 1_000_000_000
  /// Bytes handed over at a time.
  var piece = Int.max
  var outputLimit = 1 << 20

  init(
    server: GRPCServerConfiguration = GRPCServerConfiguration(),
    client: GRPCClientConfiguration = GRPCClientConfiguration(authority: "test")
  ) {
    self.client = GRPCClientSession(configuration: client)
    self.server = GRPCServerSession(configuration: server, delegate: recorder)
  }

  init(_ context: GRPCServerContext) {
    client = GRPCClientSession(configuration: GRPCClientConfiguration(authority: "test"))
    server = GRPCServerSession(context, delegate: recorder)
  }

  deinit {
    client.close()
    server.close()
  }

  /// Carries bytes to and fro until both sides are silent. Returns the bytes carried.
  @discardableResult
  func run() -> Int {
    var total = 0
    while true {
      let up = client.takeOutput(limitBytes: outputLimit)
      feed(up) { _ = server.receive($0, now: now) }
      let down = server.takeOutput(limitBytes: outputLimit)
      feed(down) { _ = client.receive($0, now: now) }
      if up.isEmpty, down.isEmpty { return total }
      total += up.count + down.count
    }
  }

  private func feed(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) -> Void) {
    bytes.withUnsafeBytes { all in
      var at = 0
      while at < all.count {
        let end = piece >= all.count - at ? all.count : at + piece
        body(UnsafeRawBufferPointer(rebasing: all[at..<end]))
        at = end
      }
    }
  }

  func start(
    _ path: String = "/s.S/M", metadata: [HTTPField] = [], timeout: UInt64? = nil,
    compresses: Bool = false
  ) -> (ClientCall, Outcome) {
    let call = client.startCall(
      path: path, metadata: metadata, timeoutNanoseconds: timeout, now: now,
      compresses: compresses)
    return (call, Outcome(call))
  }

  func answerEachCall(with message: [UInt8]) {
    recorder.onHalfClose = { $0.reply(message: message) }
  }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

func pattern(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) } }

extension GRPCServerSession {
  /// Feeds an array at a fixed time.
  func take(_ bytes: [UInt8], now: UInt64 = 1) -> Bool {
    bytes.withUnsafeBytes { receive($0, now: now) }
  }
}

/// Reads a server's bytes as the client of its stream 1 would.
func outcomeOfStream1(_ output: [UInt8]) -> Outcome {
  let client = GRPCClientSession(configuration: GRPCClientConfiguration(authority: "x"))
  let outcome = Outcome(client.startCall(path: "/s.S/M", now: 0))
  _ = client.takeOutput()
  _ = output.withUnsafeBytes { client.receive($0, now: 0) }
  client.close()
  return outcome
}

/// Raw HTTP/2 frames, to say what a real client would not.
enum Frame {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(4, 0, 0, [])

  static func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt32, _ body: [UInt8]) -> [UInt8] {
    let length = [UInt8(body.count >> 16), UInt8(body.count >> 8 & 255), UInt8(body.count & 255)]
    let id = (0..<4).map { UInt8(truncatingIfNeeded: stream >> (24 - 8 * $0)) }
    return length + [type, flags] + id + body
  }

  /// HPACK literals without indexing; lengths below 127.
  static func block(_ fields: [(String, String)]) -> [UInt8] {
    var block: [UInt8] = []
    for (name, value) in fields {
      block.append(0)
      block.append(UInt8(name.utf8.count))
      block.append(contentsOf: name.utf8)
      block.append(UInt8(value.utf8.count))
      block.append(contentsOf: value.utf8)
    }
    return block
  }

  static func request(
    _ stream: UInt32, _ extra: [(String, String)] = [], method: String = "POST",
    path: String = "/s.S/M", type: String = "application/grpc", ends: Bool = false
  ) -> [UInt8] {
    let fields =
      [(":method", method), (":scheme", "http"), (":path", path), (":authority", "x")]
      + [("content-type", type)] + extra
    return frame(1, ends ? 5 : 4, stream, block(fields))
  }

  static func data(_ stream: UInt32, _ body: [UInt8], ends: Bool = false) -> [UInt8] {
    frame(0, ends ? 1 : 0, stream, body)
  }
}
