/// Header fields of an HTTP/1.1 message, in order; names compare without regard to case.
public struct HTTP1Headers: Sendable, Equatable {
  public var fields: [HTTPField]

  public init(_ fields: [HTTPField] = []) {
    self.fields = fields
  }

  /// The first value of `name`.
  public func first(_ name: String) -> String? {
    fields.first { Self.matches($0.name, name) }?.value
  }

  public func contains(_ name: String) -> Bool { first(name) != nil }

  /// Every value of `name`, in order.
  public func all(_ name: String) -> [String] {
    fields.filter { Self.matches($0.name, name) }.map(\.value)
  }

  public static func matches(_ left: String, _ right: String) -> Bool {
    guard left.utf8.count == right.utf8.count else { return false }
    return zip(left.utf8, right.utf8).allSatisfy { lowered($0) == lowered($1) }
  }

  private static func lowered(_ byte: UInt8) -> UInt8 {
    byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z") ? byte | 0x20 : byte
  }
}

/// The first part of a request.
public struct HTTP1RequestHead: Sendable, Equatable {
  public var method: String
  /// As on the request line, for example `/health?serializable=true`.
  public var target: String
  /// 0 or 1: the minor version of HTTP/1.
  public var minorVersion: Int
  public var headers: HTTP1Headers
  /// Whether the connection may carry another request after this one.
  public var keepAlive: Bool

  public init(
    method: String, target: String, minorVersion: Int = 1, headers: HTTP1Headers,
    keepAlive: Bool = true
  ) {
    self.method = method
    self.target = target
    self.minorVersion = minorVersion
    self.headers = headers
    self.keepAlive = keepAlive
  }

  /// The client waits for ``HTTP1Encoder/continueResponse`` before it sends the body.
  public var expectsContinue: Bool {
    headers.first("expect").map { HTTP1Headers.matches($0, "100-continue") } ?? false
  }

  /// The target up to the query.
  public var path: String { String(target.prefix { $0 != "?" }) }

  /// The target after the first `?`; empty if there is none.
  public var query: String {
    target.firstIndex(of: "?").map { String(target[target.index(after: $0)...]) } ?? ""
  }
}

/// The first part of a response.
public struct HTTP1ResponseHead: Sendable, Equatable {
  public var status: Int
  public var reason: String
  public var minorVersion: Int
  public var headers: HTTP1Headers
  /// Whether the connection may carry another request after this response.
  public var keepAlive: Bool

  public init(
    status: Int, reason: String, minorVersion: Int = 1, headers: HTTP1Headers,
    keepAlive: Bool = true
  ) {
    self.status = status
    self.reason = reason
    self.minorVersion = minorVersion
    self.headers = headers
    self.keepAlive = keepAlive
  }
}

/// Why a connection's bytes are not HTTP/1.1. The codec refuses all use afterwards.
public enum HTTP1Error: Error, Equatable, Sendable {
  /// Request line and headers exceed the limit: a server answers 431.
  case headTooLarge
  /// With the parser's words: a server answers 400.
  case malformed(String)
  /// The connection ended in the middle of a message.
  case unexpectedEnd

  /// The status a server answers with before it closes the connection.
  public var responseStatus: Int {
    self == .headTooLarge ? 431 : 400
  }
}
