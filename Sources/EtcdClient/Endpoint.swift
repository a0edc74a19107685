// Where a client finds a member, and how users write it.

package import Actors
import EtcdAPI

/// The client address of one member.
///
/// Accepted forms: `host:port`, `[v6]:port`, `http://host:port`, `unix:PATH`, `unix:///ABSOLUTE`.
package struct Endpoint: Hashable, Sendable, CustomStringConvertible {
  /// As it was given; what messages and tables show.
  package let description: String
  package let address: StreamAddress
  /// The `:authority` of calls to it.
  package let authority: String

  /// Reads an endpoint.
  ///
  /// - Throws: code `unimplemented` for a scheme that needs TLS, `invalidArgument` for text that is
  ///   no address.
  package init(_ text: String) throws(EtcdClientError) {
    description = text
    for scheme in ["https://", "unixs:"] where text.hasPrefix(scheme) {
      throw EtcdClientError(.unimplemented, "endpoint \(text): TLS is not supported yet")
    }
    if text.hasPrefix("unix:") {
      let rest = text.dropFirst(5)
      let path = rest.hasPrefix("//") ? rest.dropFirst(2) : rest
      guard !path.isEmpty else {
        throw EtcdClientError(.invalidArgument, "endpoint \(text): missing path")
      }
      address = .unix(path: String(path))
      authority = "localhost"
      return
    }
    let hostPort = Self.withoutScheme(text)
    guard let (host, port) = Self.split(hostPort) else {
      throw EtcdClientError(.invalidArgument, "endpoint \(text): not of the form host:port")
    }
    address = .tcp(host: host, port: port)
    authority = hostPort
  }

  private static func withoutScheme(_ text: String) -> String {
    guard text.hasPrefix("http://") else { return text }
    return String(text.dropFirst(7).prefix { $0 != "/" })
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
