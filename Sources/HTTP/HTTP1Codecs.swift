/// What a server connection's bytes mean. Requests may be pipelined: events keep their order.
public enum HTTP1ServerEvent {
  case head(HTTP1RequestHead)
  /// Valid only during the event.
  case body(UnsafeRawBufferPointer)
  case end
}

/// Reads HTTP/1.1 requests. Used by one thread.
public final class HTTP1ServerCodec {
  private let parser: HTTP1Parser

  /// - Parameter headBytesMax: limit of request line plus headers of one request.
  public init(headBytesMax: Int = 65_536) {
    parser = HTTP1Parser(role: .server, headBytesMax: headBytesMax)
  }

  /// Whether a request has begun and not ended.
  public var isInMessage: Bool { parser.isInMessage }

  /// Parses the next bytes of the connection. `handler` must not enter the codec again.
  public func receive(
    _ bytes: UnsafeRawBufferPointer, _ handler: (HTTP1ServerEvent) -> Void
  ) throws(HTTP1Error) {
    guard !bytes.isEmpty else { return }
    try parser.execute(bytes) { event in
      switch event {
      case .head: handler(.head(head))
      case .body(let bytes): handler(.body(bytes))
      case .end: handler(.end)
      }
    }
  }

  private var head: HTTP1RequestHead {
    HTTP1RequestHead(
      method: parser.method, target: String(decoding: parser.url, as: UTF8.self),
      minorVersion: parser.minorVersion, headers: HTTP1Headers(parser.headers),
      keepAlive: parser.keepAlive)
  }
}

/// What a client connection's bytes mean.
public enum HTTP1ClientEvent {
  case head(HTTP1ResponseHead)
  /// Valid only during the event.
  case body(UnsafeRawBufferPointer)
  case end
}

/// Reads HTTP/1.1 responses, endless ones too. Informational ones (1xx) are passed over.
/// Used by one thread.
public final class HTTP1ClientCodec {
  private let parser: HTTP1Parser

  /// - Parameter headBytesMax: limit of status line plus headers of one response.
  public init(headBytesMax: Int = 65_536) {
    parser = HTTP1Parser(role: .client, headBytesMax: headBytesMax)
  }

  /// Whether a response has begun and not ended.
  public var isInMessage: Bool { parser.isInMessage }

  /// Announces that the next response answers a HEAD request: it has no body.
  public func expectNoBody() {
    parser.skipsBody = true
  }

  /// Parses the next bytes of the connection. `handler` must not enter the codec again.
  public func receive(
    _ bytes: UnsafeRawBufferPointer, _ handler: (HTTP1ClientEvent) -> Void
  ) throws(HTTP1Error) {
    guard !bytes.isEmpty else { return }
    try execute(bytes, handler)
  }

  /// The connection has ended: completes a response whose body lasts until then.
  ///
  /// - Throws: ``HTTP1Error/unexpectedEnd`` if a response is cut off.
  public func receiveEnd(_ handler: (HTTP1ClientEvent) -> Void) throws(HTTP1Error) {
    try execute(UnsafeRawBufferPointer(start: nil, count: 0), handler)
  }

  private func execute(
    _ bytes: UnsafeRawBufferPointer, _ handler: (HTTP1ClientEvent) -> Void
  ) throws(HTTP1Error) {
    try parser.execute(bytes) { event in
      switch event {
      case .head: handler(.head(head))
      case .body(let bytes): handler(.body(bytes))
      case .end: handler(.end)
      }
    }
  }

  private var head: HTTP1ResponseHead {
    HTTP1ResponseHead(
      status: parser.status, reason: String(decoding: parser.reason, as: UTF8.self),
      minorVersion: parser.minorVersion, headers: HTTP1Headers(parser.headers),
      keepAlive: parser.keepAlive)
  }
}
