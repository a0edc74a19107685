// The address of a member, as it stands in cluster.conf.

/// `http://127.0.0.1:2379` in its parts.
struct MemberURL: Equatable, Hashable, Sendable {
  enum Scheme: String, Sendable { case http, https }

  /// Why a text is no such URL, and a text that would be one.
  struct Problem: Error, Equatable {
    let text: String
    let instead: String
  }

  let scheme: Scheme
  /// An IP address without brackets, or `localhost`.
  let host: String
  let port: UInt16

  var text: String { "\(scheme.rawValue)://\(address)" }

  /// `127.0.0.1:2379`, `[::1]:2379`.
  var address: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// Addresses that mean "all of this machine's".
  var isWildcard: Bool { host == "0.0.0.0" || host == "::" }

  init(scheme: Scheme, host: String, port: UInt16) {
    self.scheme = scheme
    self.host = host
    self.port = port
  }

  /// Parses a URL that a member can listen on.
  ///
  /// - Parameter defaultPort: used in the advice if the port is missing.
  init(parsing text: String, defaultPort: UInt16) throws(Problem) {
    guard let separator = text.firstRange(of: "://") else {
      let advice = text.contains(",") ? "one URL" : "http://\(text)"
      throw Problem(text: "\"\(text)\" is not a URL", instead: advice)
    }
    let rest = String(text[separator.upperBound...])
    let name = text[..<separator.lowerBound].lowercased()
    guard let scheme = Scheme(rawValue: name) else {
      throw Problem(text: "scheme \"\(name)\" is not http or https", instead: "http://\(rest)")
    }
    if rest.contains(",") {
      throw Problem(
        text: "a member has one URL of each kind here",
        instead: "\(name)://" + (rest.split(separator: ",").first ?? ""))
    }
    if let slash = rest.firstIndex(where: { $0 == "/" || $0 == "?" || $0 == "#" }) {
      throw Problem(
        text: "the URL must end after the port", instead: "\(name)://\(rest[..<slash])")
    }
    if let at = rest.lastIndex(of: "@") {
      throw Problem(
        text: "the URL must not hold a user name",
        instead: "\(name)://\(rest[rest.index(after: at)...])")
    }
    let (host, port) = try Self.split(rest, name, defaultPort)
    guard Self.isListenable(host) else {
      throw Problem(
        text: "\"\(host)\" is not an IP address, and a member can only listen on one",
        instead: "\(name)://127.0.0.1:\(port)")
    }
    self.init(scheme: scheme, host: host, port: port)
  }

  private static func split(
    _ rest: String, _ scheme: String, _ defaultPort: UInt16
  ) throws(Problem) -> (host: String, port: UInt16) {
    var host = rest
    var digits: String?
    if rest.hasPrefix("["), let bracket = rest.firstIndex(of: "]") {
      host = String(rest[rest.index(after: rest.startIndex)..<bracket])
      let tail = rest[rest.index(after: bracket)...]
      digits = tail.hasPrefix(":") ? String(tail.dropFirst()) : nil
    } else if rest.filter({ $0 == ":" }).count > 1 {
      throw Problem(
        text: "an IPv6 address stands in brackets", instead: "\(scheme)://[::1]:\(defaultPort)")
    } else if let colon = rest.lastIndex(of: ":") {
      host = String(rest[..<colon])
      digits = String(rest[rest.index(after: colon)...])
    }
    if host.isEmpty { host = "127.0.0.1" }
    let shown = host.contains(":") ? "[\(host)]" : host
    guard let digits, !digits.isEmpty else {
      throw Problem(
        text: "the URL has no port", instead: "\(scheme)://\(shown):\(defaultPort)")
    }
    guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits),
      port > 0
    else {
      throw Problem(
        text: "port \"\(digits)\" is not a number from 1 to 65535",
        instead: "\(scheme)://\(shown):\(defaultPort)")
    }
    return (host, port)
  }

  private static func isListenable(_ host: String) -> Bool {
    if host == "localhost" { return true }
    if host.contains(":") {
      return host.utf8.allSatisfy { $0 == 0x3a || $0 == 0x2e || $0 == 0x25 || isHexDigit($0) }
        || host.contains("%")
    }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4
      && parts.allSatisfy {
        UInt8($0) != nil && !$0.hasPrefix("+") && ($0 == "0" || !$0.hasPrefix("0"))
      }
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte | 0x20)
  }
}
