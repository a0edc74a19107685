/// A version of the protocol, in etcd's spelling.
public enum TLSVersion: String, Sendable, Comparable {
  case tls12 = "TLS1.2"
  case tls13 = "TLS1.3"

  public static func < (left: TLSVersion, right: TLSVersion) -> Bool {
    left.rawValue < right.rawValue
  }
}

/// What one end of a connection shows, and what it demands of the other.
public struct TLSSettings: Sendable, Equatable {
  /// PEM files: the own certificate with those between it and its root, and the key to it. Both
  /// empty: none is shown.
  public var certificateFile = ""
  public var keyFile = ""
  /// PEM file of roots; empty: those of the system.
  public var trustedCAFile = ""
  /// Whether the other end has to show a certificate that the roots vouch for. Always so for
  /// servers that are dialled, unless this is off.
  public var verifiesPeer = true
  /// Whom the certificate of a server has to name; empty: the host that is dialled.
  public var serverName = ""
  /// Revoked certificates, PEM or DER; empty: none are.
  public var revocationFile = ""
  /// The other end's certificate must bear one of these common names, or one of these host names.
  /// Empty: any will do.
  public var allowedCommonNames: [String] = []
  public var allowedHostNames: [String] = []
  public var minVersion = TLSVersion.tls12
  /// Nil: the newest there is.
  public var maxVersion: TLSVersion?
  /// Go's names; of TLS 1.2 only. Empty: a good choice.
  public var cipherSuites: [String] = []
  /// Server: what is agreed on with clients that offer it. Client: what is offered.
  public var protocols: [String] = []

  public init() {}
}
