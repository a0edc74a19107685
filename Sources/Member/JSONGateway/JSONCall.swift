import Base
import EtcdAPI
import HTTP

/// What a JSON call needs of the gateway: the same that a gRPC session tells its delegate.
struct JSONCallHandlers {
  var started: (ServerCall, ClientConnection) -> Void
  var received: (ServerCall, UnsafeRawBufferPointer) -> Void
  var halfClosed: (ServerCall) -> Void
  var cancelled: (ServerCall) -> Void
  var writable: (ServerCall) -> Void
  /// Writes a large answer's JSON on another thread; `JSONCall.encoded` follows.
  var encodeAside: (JSONCall, JSONRoute, Bytes) -> Void
}

/// One call of the API that came as JSON over HTTP: turns the body into the call's messages, and its
/// answers into the HTTP answer. The call itself is made like any other.
final class JSONCall: HTTPRequestHandler, LocalCallOwner {
  /// Answers larger than this are turned into JSON on another thread: ten thousand keys would hold up
  /// everybody else for tens of milliseconds.
  static let inlineBytesMax = 64 << 10
  /// Messages, and their bytes, that may wait for a paused call.
  private static let withheldMax = 1000
  private static let withheldBytesMax = 4 << 20

  private let exchange: HTTPExchange
  private let route: JSONRoute
  private let handlers: JSONCallHandlers
  private let messageBytesMax: Int
  private let budget: ReceiveBudget?
  /// What the budget knows of the value that is arriving.
  private var heldBytes = 0
  private let metadata: HeaderFields
  private let deadline: UInt64?
  private var call: ServerCall?
  private var scanner = JSONScanner()
  /// The value that is arriving.
  private var text = Bytes()
  /// Messages that a paused call does not take.
  private var withheld: [Bytes] = []
  private var withheldBytes = 0
  private var hasRequest = false
  private var hasEnded = false
  /// A unary call's answer, until its status is known.
  private var answer: Bytes?
  private var isOver = false
  /// Answers on the other thread, and their bytes.
  private var aside = (count: 0, bytes: 0)
  /// How the call ended while some were there.
  private var ending: GRPCStatus?

  /// - Parameters:
  ///   - messageBytesMax: largest message accepted.
  ///   - budget: for what has arrived of values that are not complete.
  ///   - deadline: absolute time by which the client wants its answer.
  init(
    _ exchange: HTTPExchange, route: JSONRoute, metadata: HeaderFields, deadline: UInt64?,
    messageBytesMax: Int, budget: ReceiveBudget?, handlers: JSONCallHandlers
  ) {
    self.budget = budget
    self.exchange = exchange
    self.route = route
    self.metadata = metadata
    self.deadline = deadline
    self.messageBytesMax = messageBytesMax
    self.handlers = handlers
  }

  // MARK: - The request

  func received(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    // A call that takes one message does not look at what follows it.
    while !rest.isEmpty, !isOver, !hasEnded, !hasRequest || route.method.isBidirectional {
      let outcome = scanner.scan(rest)
      switch outcome {
      case .needMore:
        if scanner.isInValue { append(rest) }
        return noteHeld()
      case .value(let end):
        append(UnsafeRawBufferPointer(rebasing: rest[..<end]))
        rest = UnsafeRawBufferPointer(rebasing: rest[end...])
        valueCompleted()
      case .failed(let reason): return malformed(reason)
      }
    }
  }

  private func noteHeld() {
    guard let budget, heldBytes != text.count else { return }
    guard !budget.change(from: heldBytes, to: text.count) else { return heldBytes = text.count }
    refuse(
      GRPCStatus(.resourceExhausted, "apus: too many unfinished requests at the same time"))
  }

  private func append(_ bytes: UnsafeRawBufferPointer) {
    guard !isOver, !hasEnded else { return }
    text.append(contentsOf: bytes)
    if text.count > JSONRoute.textBytesMax(messageBytesMax: messageBytesMax) {
      tooLarge(text.count)
    }
  }

  func ended() {
    guard !isOver, !hasEnded else { return }
    if scanner.end() { valueCompleted() }
    guard !isOver, !hasEnded else { return }
    if scanner.isInValue { return malformed("unexpected EOF") }
    // A body without a value is a message without fields, or no message at all.
    if !hasRequest, !route.method.isBidirectional { take(message: []) }
    halfClose()
  }

  private func valueCompleted() {
    guard !isOver, !hasEnded else { return }
    var value = Bytes()
    swap(&value, &text)
    noteHeld()
    do throws(JSONFailure) {
      let message = try route.decode(value)
      guard message.count <= messageBytesMax else { return tooLarge(message.count) }
      take(message: message)
    } catch {
      malformed(error.text)
    }
    // Over a WebSocket the end of the body would be the end of everything.
    if !route.method.isBidirectional, exchange.isMessageStream { halfClose() }
  }

  private func take(message: Bytes) {
    guard !isOver else { return }
    hasRequest = true
    begin()
    guard let call, !call.isFinished else { return }
    if call.isPaused {
      // The stream's window, so to speak: a client that sends ahead without end is cut off.
      withheldBytes += message.count
      guard withheld.count < Self.withheldMax, withheldBytes < Self.withheldBytesMax else {
        return hasEnded = true
      }
      withheld.append(message)
    } else {
      message.withUnsafeBytes { handlers.received(call, $0) }
    }
  }

  private func begin() {
    guard call == nil else { return }
    let call = ServerCall(
      path: route.method.path, route: route.method.rawValue, deadline: deadline, fields: metadata,
      owner: self)
    self.call = call
    handlers.started(call, exchange.connection)
  }

  private func halfClose() {
    guard !isOver, !hasEnded else { return }
    hasEnded = true
    text = []
    noteHeld()
    begin()
    if let call, !call.isFinished, withheld.isEmpty { handlers.halfClosed(call) }
  }

  /// What is no JSON, or not that of the message. A stream takes it for its client's end, once it
  /// has begun.
  private func malformed(_ reason: String) {
    guard !hasRequest else { return halfClose() }
    hasEnded = true
    fail(GRPCStatus(route.method.isBidirectional ? .unknown : .invalidArgument, reason))
  }

  private func tooLarge(_ count: Int) {
    let text = "grpc: received message larger than max (\(count) vs. \(messageBytesMax))"
    refuse(GRPCStatus(.resourceExhausted, text))
  }

  /// Ends the call for a fault of its client.
  private func refuse(_ status: GRPCStatus) {
    hasEnded = true
    text = []
    guard let call, !call.isFinished else { return fail(status) }
    if call.cancelLocally() { handlers.cancelled(call) }
    self.call(call, finished: status)
  }

  func writable() {
    // What is still being written in JSON makes itself heard when it is sent.
    guard aside.bytes <= Self.inlineBytesMax else { return }
    if let call, !call.isFinished { handlers.writable(call) }
  }

  func gone() {
    isOver = true
    text = []
    noteHeld()
    guard let call else { return }
    self.call = nil
    if call.cancelLocally() { handlers.cancelled(call) }
  }

  // MARK: - The answer

  var queuedBytes: Int { exchange.queuedBytes + aside.bytes }

  func call(_ call: ServerCall, sent message: Bytes) {
    guard !isOver else { return }
    // Those that follow one on the other thread must not overtake it.
    guard aside.count > 0 || message.count > Self.inlineBytesMax else {
      return deliver(try? route.encode(message))
    }
    aside.count += 1
    aside.bytes += message.count
    handlers.encodeAside(self, route, message)
  }

  /// The other thread is done with a message of so many bytes. Nil: it has no JSON form.
  func encoded(_ json: Bytes?, messageBytes: Int) {
    aside.count -= 1
    aside.bytes -= messageBytes
    deliver(json)
    if aside.count == 0, !isOver, let ending { end(ending) }
  }

  private func deliver(_ json: Bytes?) {
    guard !isOver else { return }
    guard let json else {
      // Our own answer: nothing a client could have caused.
      if let call, call.cancelLocally() { handlers.cancelled(call) }
      return end(GRPCStatus(.internal, "apus: the answer has no JSON form"))
    }
    guard route.isStreaming else { return answer = json }
    if !exchange.hasBegun { exchange.begin(status: 200, headers: JSONStatus.answerHeaders) }
    exchange.send(Bytes("{\"result\":".utf8) + json + Bytes("}\n".utf8))
  }

  func call(_ call: ServerCall, finished status: GRPCStatus) {
    guard !isOver else { return }
    self.call = nil
    if aside.count > 0 { ending = status } else { end(status) }
  }

  private func end(_ status: GRPCStatus) {
    guard !isOver else { return }
    guard route.isStreaming else {
      guard status.isOK else { return fail(status) }
      isOver = true
      return exchange.respond(
        PageResponse(
          status: 200, contentType: "application/json", bytes: answer ?? Bytes("{}".utf8),
          headers: Array(JSONStatus.answerHeaders.dropFirst())))
    }
    isOver = true
    if !exchange.hasBegun {
      let headers =
        status.isOK ? Array(JSONStatus.answerHeaders.prefix(1)) : JSONStatus.errorHeaders(status)
      exchange.begin(status: status.isOK ? 200 : JSONStatus.http(status.code), headers: headers)
    }
    if !status.isOK { exchange.send(JSONStatus.streamBody(status)) }
    exchange.end()
  }

  func callResumed(_ call: ServerCall) {
    while !withheld.isEmpty, !call.isPaused, !call.isFinished {
      let message = withheld.removeFirst()
      withheldBytes -= message.count
      message.withUnsafeBytes { handlers.received(call, $0) }
    }
    if hasEnded, withheld.isEmpty, !call.isFinished { handlers.halfClosed(call) }
  }

  private func fail(_ status: GRPCStatus) {
    guard !isOver else { return }
    isOver = true
    text = []
    noteHeld()
    exchange.respond(JSONStatus.response(status))
  }
}
