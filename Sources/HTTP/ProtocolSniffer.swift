/// Decides from a connection's first bytes which protocol its peer speaks.
public struct ProtocolSniffer: Sendable {
  public enum Decision: Equatable, Sendable {
    case http2
    case http1
    case needMore
  }

  // The first line of the HTTP/2 preface. nghttp2 checks the rest itself.
  private static let preface = Array("PRI * HTTP/2.0\r\n".utf8)
  private var seen: [UInt8] = []

  public init() {}

  /// Adds bytes and decides. They are kept until ``takeBytes()``.
  public mutating func receive(_ bytes: UnsafeRawBufferPointer) -> Decision {
    seen.append(contentsOf: bytes)
    let compared = min(seen.count, Self.preface.count)
    guard seen[..<compared].elementsEqual(Self.preface[..<compared]) else { return .http1 }
    return compared == Self.preface.count ? .http2 : .needMore
  }

  /// Everything received so far, for the session that takes over.
  public mutating func takeBytes() -> [UInt8] {
    defer { seen = [] }
    return seen
  }
}
