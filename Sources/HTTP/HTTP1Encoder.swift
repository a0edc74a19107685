/// Writes HTTP/1.1 messages.
public enum HTTP1Encoder {
  /// How the end of a body is told.
  public enum Body: Equatable, Sendable {
    /// No framing header at all: a request without a body, or a 204 or 304 response.
    case none
    /// `Content-Length`.
    case length(Int)
    /// `Transfer-Encoding: chunked`.
    case chunked
    /// The end of the connection ends the body (responses only).
    case untilClose
  }

  /// The interim answer to `Expect: 100-continue`.
  public static let continueResponse = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
  /// What ends a chunked body.
  public static let lastChunk = Array("0\r\n\r\n".utf8)

  /// Appends a request line and headers. `headers` must name no framing field.
  public static func requestHead(
    method: String, target: String, host: String, headers: [HTTPField] = [], body: Body = .none,
    keepAlive: Bool = true, to output: inout [UInt8]
  ) {
    append(method, to: &output)
    output.append(UInt8(ascii: " "))
    append(target, to: &output)
    output.append(contentsOf: " HTTP/1.1\r\n".utf8)
    appendField("Host", host, to: &output)
    finishHead(headers, body, closes: !keepAlive, to: &output)
  }

  /// Appends a status line and headers. `headers` must name no framing field.
  ///
  /// - Parameters:
  ///   - keepAlive: false adds `Connection: close`, and so does ``Body/untilClose``.
  ///   - minorVersion: that of the request. HTTP/1.0 needs to be told when the connection stays
  ///     open, and knows no chunks: they turn into ``Body/untilClose``.
  /// - Returns: the framing in force, which the body has to follow.
  @discardableResult
  public static func responseHead(
    status: Int, reason: String? = nil, headers: [HTTPField] = [], body wanted: Body,
    keepAlive: Bool = true, minorVersion: Int = 1, to output: inout [UInt8]
  ) -> Body {
    let body = minorVersion == 0 && wanted == .chunked ? Body.untilClose : wanted
    output.append(contentsOf: "HTTP/1.1 \(status) ".utf8)
    append(reason ?? Self.reason(status), to: &output)
    output.append(contentsOf: "\r\n".utf8)
    let closes = !keepAlive || body == .untilClose
    if minorVersion == 0, !closes { appendField("Connection", "keep-alive", to: &output) }
    finishHead(headers, body, closes: closes, to: &output)
    return body
  }

  /// Appends a whole response.
  public static func response(
    status: Int, headers: [HTTPField] = [], body: [UInt8], keepAlive: Bool = true,
    minorVersion: Int = 1, omitsBody: Bool = false, to output: inout [UInt8]
  ) {
    responseHead(
      status: status, headers: headers, body: .length(body.count), keepAlive: keepAlive,
      minorVersion: minorVersion, to: &output)
    if !omitsBody { output.append(contentsOf: body) }
  }

  /// Appends one chunk of a chunked body. An empty one is left out: it would end the body.
  public static func chunk(_ bytes: some Collection<UInt8>, to output: inout [UInt8]) {
    guard !bytes.isEmpty else { return }
    output.append(contentsOf: String(bytes.count, radix: 16).utf8)
    output.append(contentsOf: "\r\n".utf8)
    output.append(contentsOf: bytes)
    output.append(contentsOf: "\r\n".utf8)
  }

  private static func finishHead(
    _ headers: [HTTPField], _ body: Body, closes: Bool, to output: inout [UInt8]
  ) {
    for field in headers { appendField(field.name, field.value, to: &output) }
    switch body {
    case .none, .untilClose: break
    case .length(let count): appendField("Content-Length", "\(count)", to: &output)
    case .chunked: appendField("Transfer-Encoding", "chunked", to: &output)
    }
    if closes { appendField("Connection", "close", to: &output) }
    output.append(contentsOf: "\r\n".utf8)
  }

  private static func appendField(_ name: String, _ value: String, to output: inout [UInt8]) {
    append(name, to: &output)
    output.append(contentsOf: ": ".utf8)
    append(value, to: &output)
    output.append(contentsOf: "\r\n".utf8)
  }

  /// Line breaks and zero bytes become spaces, so that a value cannot smuggle in a header.
  private static func append(_ text: String, to output: inout [UInt8]) {
    for byte in text.utf8 {
      output.append(byte == 13 || byte == 10 || byte == 0 ? UInt8(ascii: " ") : byte)
    }
  }

  /// The usual words for a status.
  public static func reason(_ status: Int) -> String {
    switch status {
    case 100: "Continue"
    case 200: "OK"
    case 201: "Created"
    case 202: "Accepted"
    case 204: "No Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 304: "Not Modified"
    case 307: "Temporary Redirect"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 410: "Gone"
    case 411: "Length Required"
    case 412: "Precondition Failed"
    case 413: "Request Entity Too Large"
    case 415: "Unsupported Media Type"
    case 417: "Expectation Failed"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: "Status \(status)"
    }
  }
}
