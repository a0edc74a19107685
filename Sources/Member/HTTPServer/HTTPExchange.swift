import Base
import HTTP

/// Where an exchange's answer goes: one version of HTTP each.
protocol HTTPResponder: AnyObject {
  /// - Parameter length: bytes of the body if known; nil = it ends with `end`.
  func begin(status: Int, headers: [HTTPField], length: Int?)
  func send(_ body: Bytes)
  func end()
  /// Bytes of the answer that wait for the client. `HTTPExchange.becameWritable` follows once they have
  /// gone out after having been more than the low mark.
  var queuedBytes: Int { get }
}

/// What hears of a request's body and of the client's end.
protocol HTTPRequestHandler: AnyObject {
  /// The bytes are valid during the call only.
  func received(_ bytes: UnsafeRawBufferPointer)
  /// The body is complete.
  func ended()
  /// Bytes of the answer have gone out; more may be sent.
  func writable()
  /// The client has gone before it was answered.
  func gone()
}

/// One HTTP request and its answer, over HTTP/1.1, HTTP/2 or a WebSocket. Loop thread.
final class HTTPExchange {
  let method: String
  /// As on the request line, with the query.
  let target: String
  let headers: HTTP1Headers
  let connection: ClientConnection
  /// Sees the body; pages have none. Let go when the exchange is over.
  var handler: (any HTTPRequestHandler)?
  /// Added to every answer.
  var commonHeaders: [HTTPField] = []
  /// The body is messages without an end: what is asked for once is asked for with the first.
  var isMessageStream = false
  private(set) var hasBegun = false
  private(set) var isOver = false
  private weak var responder: (any HTTPResponder)?

  init(
    method: String, target: String, headers: HTTP1Headers, connection: ClientConnection,
    responder: any HTTPResponder
  ) {
    self.method = method
    self.target = target
    self.headers = headers
    self.connection = connection
    self.responder = responder
  }

  var path: String { String(target.prefix { $0 != "?" }) }

  /// Values of a query parameter, with percent escapes and `+` resolved.
  func queryValues(of name: String) -> [String] {
    guard let mark = target.firstIndex(of: "?") else { return [] }
    return target[target.index(after: mark)...].split(separator: "&").compactMap { pair in
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard PercentCoding.decode(parts[0]) == name else { return nil }
      return parts.count > 1 ? PercentCoding.decode(parts[1]) : ""
    }
  }

  func hasQuery(_ name: String) -> Bool { !queryValues(of: name).isEmpty }

  // MARK: - The answer

  /// Answers in one piece.
  func respond(_ response: PageResponse) {
    guard !hasBegun, !isOver else { return }
    begin(status: response.status, headers: response.headers, length: response.body.count)
    if !response.body.isEmpty { send(response.body) }
    end()
  }

  /// Begins an answer; `send` and `end` follow.
  func begin(status: Int, headers: [HTTPField], length: Int? = nil) {
    guard !hasBegun, !isOver else { return }
    hasBegun = true
    responder?.begin(status: status, headers: headers + commonHeaders, length: length)
  }

  func send(_ body: Bytes) {
    guard !isOver else { return }
    responder?.send(body)
  }

  func end() {
    guard !isOver else { return }
    isOver = true
    handler = nil
    responder?.end()
  }

  var queuedBytes: Int { responder?.queuedBytes ?? 0 }

  // MARK: - Told by the connection

  func received(_ bytes: UnsafeRawBufferPointer) { handler?.received(bytes) }

  func ended() { handler?.ended() }

  func becameWritable() { handler?.writable() }

  func gone() {
    guard !isOver else { return }
    isOver = true
    let handler = handler
    self.handler = nil
    handler?.gone()
  }
}

/// An answer in one piece.
struct PageResponse {
  static let notFound = PageResponse(error: 404, "404 page not found")

  var status: Int
  var headers: [HTTPField]
  var body: Bytes

  init(status: Int, contentType: String, body: String, headers: [HTTPField] = []) {
    self.init(status: status, contentType: contentType, bytes: Bytes(body.utf8), headers: headers)
  }

  init(status: Int, contentType: String, bytes: Bytes, headers: [HTTPField] = []) {
    self.status = status
    self.headers = [HTTPField("Content-Type", contentType)] + headers
    body = bytes
  }

  init(status: Int, headers: [HTTPField], body: String = "") {
    self.status = status
    self.headers = headers
    self.body = Bytes(body.utf8)
  }

  /// An error as Go's servers word it: plain text and a line end.
  init(error status: Int, _ text: String, headers: [HTTPField] = []) {
    self.init(
      status: status, contentType: "text/plain; charset=utf-8", body: text + "\n",
      headers: [HTTPField("X-Content-Type-Options", "nosniff")] + headers)
  }
}

/// Escapes in URLs.
enum PercentCoding {
  /// Undoes `%XX` and `+`. A broken escape stands for itself.
  static func decode(_ text: some StringProtocol) -> String {
    let source = Array(text.utf8)
    var bytes: Bytes = []
    var at = 0
    while at < source.count {
      if source[at] == UInt8(ascii: "%"), at + 2 < source.count,
        let byte = UInt8(String(decoding: source[at + 1...at + 2], as: UTF8.self), radix: 16)
      {
        bytes.append(byte)
        at += 3
      } else {
        bytes.append(source[at] == UInt8(ascii: "+") ? UInt8(ascii: " ") : source[at])
        at += 1
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
