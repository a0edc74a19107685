/// A URL of the forms etcd accepts for listening and advertising.
///
/// `http://host:port`, `https://host:port`, `unix:...` and `unixs:...`; no path on the first two.
public struct EtcdURL: Sendable, Hashable, CustomStringConvertible {
  public enum Scheme: String, Sendable, Hashable {
    case http, https, unix, unixs
  }

  public let scheme: Scheme
  /// Host name or address, IPv6 without brackets. For unix schemes whatever stands before the
  /// first slash after `//`, often empty.
  public let host: String
  /// The port as written. Empty for unix schemes, and for `http://host:` (port 0).
  public let portText: String
  /// Empty for http and https.
  public let path: String
  /// The canonical text: what is compared, sorted, hashed into ids and shown to clients.
  public let description: String

  public var usesTLS: Bool { scheme == .https || scheme == .unixs }
  public var isUnix: Bool { scheme == .unix || scheme == .unixs }
  public var port: UInt16 { UInt16(portText) ?? 0 }

  /// `host:port` with brackets around an IPv6 host. For http and https only.
  public var authority: String {
    host.contains(":") ? "[\(host)]:\(portText)" : "\(host):\(portText)"
  }

  /// The socket's file name; nil unless the scheme is a unix one. `unix://a:1` and `unix:///d/s`
  /// mean the files `a:1` and `/d/s`.
  public var socketPath: String? {
    guard isUnix else { return nil }
    return (portText.isEmpty ? host : "\(host):\(portText)") + path
  }

  /// A URL that is known to be well-formed, built from its parts.
  public init(scheme: Scheme, host: String, port: UInt16) {
    self.scheme = scheme
    self.host = host
    portText = String(port)
    path = ""
    let shown = host.contains(":") ? "[\(host)]" : host
    description = "\(scheme.rawValue)://\(shown):\(port)"
  }

  private init(scheme: Scheme, host: String, portText: String, path: String, description: String) {
    self.scheme = scheme
    self.host = host
    self.portText = portText
    self.path = path
    self.description = description
  }

  /// Parses one URL; surrounding blanks are ignored.
  ///
  /// - Throws: ``EtcdURLError`` with etcd's text.
  public init(_ input: String) throws(EtcdURLError) {
    let text = input.trimmingBlanks
    let generic = try GenericURL(text)
    guard let scheme = Scheme(rawValue: generic.scheme) else {
      throw EtcdURLError("URL scheme must be http, https, unix, or unixs: \(text)")
    }
    let canonical = scheme.rawValue + text.dropFirst(generic.scheme.utf8.count)
    if scheme == .unix || scheme == .unixs {
      let (host, port) = GenericURL.splitHostPort(generic.authority) ?? (generic.authority, "")
      self.init(
        scheme: scheme, host: host, portText: port, path: generic.path, description: canonical)
      return
    }
    guard let (host, port) = GenericURL.splitHostPort(generic.authority) else {
      throw EtcdURLError("URL address does not have the form \"host:port\": \(text)")
    }
    guard generic.path.isEmpty else {
      throw EtcdURLError("URL must not contain a path: \(text)")
    }
    self.init(scheme: scheme, host: host, portText: port, path: "", description: canonical)
  }

  /// Parses a comma-separated list. The result is sorted as text and free of duplicates.
  public static func parseList(_ text: String) throws(EtcdURLError) -> [EtcdURL] {
    var urls: [EtcdURL] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      urls.append(try EtcdURL(String(part)))
    }
    return sortedUnique(urls)
  }

  public static func sortedUnique(_ urls: [EtcdURL]) -> [EtcdURL] {
    var result: [EtcdURL] = []
    for url in urls.sorted() where result.last != url { result.append(url) }
    return result
  }
}

extension EtcdURL: Comparable {
  public static func < (left: EtcdURL, right: EtcdURL) -> Bool {
    left.description.utf8.lexicographicallyPrecedes(right.description.utf8)
  }
  public static func == (left: EtcdURL, right: EtcdURL) -> Bool {
    left.description == right.description
  }
  public func hash(into hasher: inout Hasher) { hasher.combine(description) }
}

/// Why a URL was refused, in etcd's words.
public struct EtcdURLError: Error, Equatable, CustomStringConvertible {
  public let description: String
  init(_ description: String) { self.description = description }
}

/// The few parts of Go's general URL parser whose verdicts are visible in error texts.
struct GenericURL {
  /// Lower case; empty if the text has none.
  let scheme: String
  let authority: String
  let path: String

  init(_ text: String) throws(EtcdURLError) {
    func failure(_ reason: String) -> EtcdURLError {
      EtcdURLError("parse \(text.goQuoted): \(reason)")
    }
    if text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F }) {
      throw failure("net/url: invalid control character in URL")
    }
    var rest = Substring(text)
    if let hash = rest.firstIndex(of: "#") { rest = rest[..<hash] }
    switch Self.splitScheme(rest) {
    case .missing: throw failure("missing protocol scheme")
    case .none: scheme = ""
    case .scheme(let name):
      scheme = name.lowercased()
      rest = rest.dropFirst(name.count + 1)
    }
    if let query = rest.firstIndex(of: "?") { rest = rest[..<query] }
    if scheme.isEmpty, !rest.hasPrefix("/") {
      let segment = rest.prefix { $0 != "/" }
      if segment.contains(":") {
        throw failure("first path segment in URL cannot contain colon")
      }
    }
    guard rest.hasPrefix("//") else {
      authority = ""
      path = String(rest)
      return
    }
    rest = rest.dropFirst(2)
    let host = rest.prefix { $0 != "/" }
    path = String(rest.dropFirst(host.count))
    let userEnd = host.lastIndex(of: "@").map(host.index(after:))
    authority = String(host[(userEnd ?? host.startIndex)...])
    try Self.check(authority, failure)
  }

  private enum SchemeSplit { case none, missing, scheme(Substring) }

  private static func splitScheme(_ text: Substring) -> SchemeSplit {
    for (offset, character) in text.enumerated() {
      switch character {
      case "a"..."z", "A"..."Z": continue
      case "0"..."9", "+", "-", ".":
        if offset == 0 { return .none }
      case ":": return offset == 0 ? .missing : .scheme(text.prefix(offset))
      default: return .none
      }
    }
    return .none
  }

  private static func check(_ authority: String, _ failure: (String) -> EtcdURLError)
    throws(EtcdURLError)
  {
    if let bad = authority.first(where: { " \"<>\\^`{|}".contains($0) }) {
      throw failure("invalid character \(String(bad).goQuoted) in host name")
    }
    var port = Substring("")
    if authority.hasPrefix("[") {
      guard let close = authority.lastIndex(of: "]") else { throw failure("missing ']' in host") }
      port = authority[authority.index(after: close)...]
    } else if let colon = authority.lastIndex(of: ":") {
      port = authority[colon...]
    }
    guard port.isEmpty || (port.first == ":" && port.dropFirst().allSatisfy(\.isASCIIDigit)) else {
      throw failure("invalid port \(String(port).goQuoted) after host")
    }
  }

  /// Splits `host:port`; nil if there is no port, or too many colons outside brackets.
  static func splitHostPort(_ text: String) -> (host: String, port: String)? {
    guard let colon = text.lastIndex(of: ":") else { return nil }
    let host = text[..<colon]
    let port = String(text[text.index(after: colon)...])
    if host.hasPrefix("[") {
      guard host.hasSuffix("]") else { return nil }
      return (String(host.dropFirst().dropLast()), port)
    }
    guard !host.contains(":"), !host.contains("["), !host.contains("]") else { return nil }
    return (String(host), port)
  }
}

extension StringProtocol {
  /// Without leading and trailing blanks, tabs and line ends.
  var trimmingBlanks: String {
    var rest = Substring(self)
    while let first = rest.first, first.isWhitespace { rest = rest.dropFirst() }
    while let last = rest.last, last.isWhitespace { rest = rest.dropLast() }
    return String(rest)
  }
}
