import Actors

/// A peer's base URL: `http://host:port` or `https://host:port`.
struct PeerURL: Equatable {
  /// As given, without a trailing slash.
  let text: String
  /// `host:port` as it stands in the URL.
  let authority: String
  let address: ConnectAddress
  /// The address or the name in the URL, without brackets.
  let host: String
  /// Whether the scheme asks for TLS.
  let isSecure: Bool

  /// nil for anything but an `http` or `https` URL with a host and a port.
  init?(_ string: String) {
    var text = Substring(string)
    while text.hasSuffix("/") { text = text.dropLast() }
    isSecure = text.hasPrefix("https://")
    guard isSecure || text.hasPrefix("http://") else { return nil }
    let authority = text.dropFirst(isSecure ? 8 : 7)
    guard !authority.contains(where: { $0 == "/" || $0 == "?" || $0 == "#" || $0 == "@" }),
      let colon = authority.lastIndex(of: ":"),
      let port = UInt16(authority[authority.index(after: colon)...]), port != 0
    else { return nil }
    var host = authority[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
    } else if host.contains(":") {
      return nil
    }
    guard !host.isEmpty else { return nil }
    self.text = String(text)
    self.authority = String(authority)
    self.host = String(host)
    address = .tcp(host: String(host), port: port)
  }
}

/// The URLs of one member and the one in use: whoever fails with it moves everybody on.
final class PeerAddresses {
  private(set) var urls: [PeerURL] = []
  private var picked = 0

  init(_ texts: [String]) { update(texts) }

  /// Replaces the list; URLs that cannot be used are left out.
  func update(_ texts: [String]) {
    let parsed = texts.compactMap { PeerURL($0) }
    guard parsed != urls else { return }
    urls = parsed
    picked = 0
  }

  var current: PeerURL? { urls.isEmpty ? nil : urls[picked] }

  /// Takes the next URL, unless somebody else has done so already.
  func failed(_ url: PeerURL) {
    if !urls.isEmpty, urls[picked] == url { picked = (picked + 1) % urls.count }
  }
}
