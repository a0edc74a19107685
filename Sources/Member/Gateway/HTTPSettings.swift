import Base
import HTTP
import StoreActor

/// What of the configuration concerns plain HTTP.
struct HTTPSettings: Sendable {
  /// Origins that may read answers; empty = all.
  var origins: [String] = []
  /// Names a request without TLS may ask for; empty = all.
  var hosts: [String] = []
  /// Whether the API is served in JSON.
  var servesGateway = true
  var servesProfiles = false
  /// The program and its arguments.
  var commandLine: [String] = []

  /// What `Access-Control-Allow-Origin` says to a request from this origin; nil = nothing.
  func allowedOrigin(_ origin: String?) -> String? {
    if origins.isEmpty { return "*" }
    return origin.flatMap { origins.contains($0) ? $0 : nil }
  }

  /// A Host header without its port.
  static func hostName(_ host: String) -> String {
    guard let colon = host.lastIndex(of: ":") else { return host }
    let name = host[..<colon]
    if name.hasPrefix("["), name.hasSuffix("]") { return String(name.dropFirst().dropLast()) }
    // More than one colon without brackets is an address, not a name and a port.
    return name.contains(":") || name.contains("]") ? host : String(name)
  }

  /// etcd's words.
  static func unknownHostText(_ host: String) -> String {
    """

    etcd received your request, but the Host header was unrecognized.

    To fix this, choose one of the following options:
    - Enable TLS, then any HTTPS request will be allowed.
    - Add the hostname you want to use to the whitelist in settings.
      - e.g. etcd --host-whitelist \(JSONText.string(host))

    This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).

    """
  }
}
