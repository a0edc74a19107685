/// A version of the protocol, in etcd's spelling.
package enum TLSVersion: String, Sendable, Comparable {
  case tls12 = "TLS1.2"
  case tls13 = "TLS1.3"

  package static func < (left: TLSVersion, right: TLSVersion) -> Bool {
    left.rawValue < right.rawValue
  }
}

/// What one end of a connection shows, and what it demands of the other.
package struct TLSSettings: Sendable, Equatable {
  /// PEM files: the own certificate with those between it and its root, and the key to it. Both
  /// empty: none is shown.
  package var certificateFile = ""
  package var keyFile = ""
  /// PEM file of roots; empty: those of the system.
  package var trustedCAFile = ""
  /// Whether the other end has to show a certificate that the roots vouch for. Always so for
  /// servers that are dialled, unless this is off.
  package var verifiesPeer = true
  /// Whom the certificate of a server has to name; empty: the host that is dialled.
  package var serverName = ""
  /// Revoked certificates, PEM or DER; empty: none are.
  package var revocationFile = ""
  /// The other end's certificate must bear one of these common names, or one of these host names.
  /// Empty: any will do.
  package var allowedCommonNames: [String] = []
  package var allowedHostNames: [String] = []
  package var minVersion = TLSVersion.tls12
  /// Nil: the newest there is.
  package var maxVersion: TLSVersion?
  /// Go's names; of TLS 1.2 only. Empty: a good choice.
  package var cipherSuites: [String] = []
  /// Server: what is agreed on with clients that offer it. Client: what is offered.
  package var protocols: [String] = []

  package init() {}
}
