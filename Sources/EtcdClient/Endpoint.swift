// Where a client finds a member, and how users write it.

public import Actors
import EtcdAPI

/// The client address of one member.
///
/// Accepted forms: `host:port`, `[v6]:port`, `http://host:port`, `https://host:port`, `unix:PATH`,
/// `unix:///ABSOLUTE`, and the latter two with `unixs`.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
  /// As it was given; what messages and tables show.
  public let description: String
  public let address: StreamAddress
  /// The `:authority` of calls to it.
  public let authority: String
  /// The host that a certificate has to name.
  public let serverName: String
  /// Whether the scheme asks for TLS, or for none; nil if it leaves that to the client.
  public let isSecure: Bool?

  /// Reads an endpoint.
  ///
  /// - Throws: code `invalidArgument` for text that is no address.
  public init(_ text: String) throws(EtcdClientError) {
    description = text
    if text.hasPrefix("unix:") || text.hasPrefix("unixs:") {
      isSecure = text.hasPrefix("unixs:") ? true : nil
      let rest = text.drop { $0 != ":" }.dropFirst()
      let path = rest.hasPrefix("//") ? rest.dropFirst(2) : rest
      guard !path.isEmpty else {
        throw EtcdClientError(.invalidArgument, "endpoint \(text): missing path")
      }
      address = .unix(path: String(path))
      // As in etcd's client: the last part of the path.
      serverName = String(path.split(separator: "/").last ?? "localhost")
      authority = "localhost"
      return
    }
    isSecure = text.hasPrefix("https://") ? true : text.hasPrefix("http://") ? false : nil
    let hostPort = Self.withoutScheme(text)
    guard let (host, port) = Self.split(hostPort) else {
      throw EtcdClientError(.invalidArgument, "endpoint \(text): not of the form host:port")
    }
    address = .tcp(host: host, port: port)
    serverName = host
    authority = hostPort
  }

  private static func withoutScheme(_ text: String) -> String {
    for scheme in ["http://", "https://"] where text.hasPrefix(scheme) {
      return String(text.dropFirst(scheme.count).prefix { $0 != "/" })
    }
    return text
  }

  private static func split(_ text: String) -> (host: String, port: UInt16)? {
    guard let colon = text.lastIndex(of: ":"),
      let port = UInt16(text[text.index(after: colon)...])
    else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil
    }
    return (host.isEmpty ? "127.0.0.1" : String(host), port)
  }
}
