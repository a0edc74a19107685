public import TLS

/// How one of a member's two ports is secured, as its flags say.
public struct TransportSecurity: Sendable, Equatable {
  public var certificateFile: String
  public var keyFile: String
  /// For connections that the member opens itself; empty: the files above.
  public var dialCertificateFile: String
  public var dialKeyFile: String
  /// Whom certificates of others have to name when they are dialled; empty: the host of the URL.
  public var dialServerName = ""
  public var trustedCAFile: String
  /// `--client-cert-auth`: the names in certificates are those of users, too.
  public var clientCertAuth: Bool
  public var revocationFile: String
  public var allowedCommonNames: [String]
  public var allowedHostNames: [String]
  public var skipsAddressCheck: Bool
  /// The member makes its own certificate; never together with files.
  public var isAutomatic: Bool
  public var cipherSuites: [String]
  public var minVersion: TLSVersion
  public var maxVersion: TLSVersion?

  /// No certificate was given and none is to be made.
  public var isEmpty: Bool { certificateFile.isEmpty && keyFile.isEmpty && !isAutomatic }

  /// A trusted CA alone is enough to ask clients for a certificate.
  public var verifiesClients: Bool { clientCertAuth || !trustedCAFile.isEmpty }
}

extension TransportSecurity {
  /// Reads checked values.
  static func clients(_ values: FlagValues) -> TransportSecurity {
    TransportSecurity(
      values, prefix: "", allowedCommonNames: values.clientAllowedCommonNames,
      allowedHostNames: values.words("client-cert-allowed-hostname"), skipsAddressCheck: false)
  }

  static func peers(_ values: FlagValues) -> TransportSecurity {
    TransportSecurity(
      values, prefix: "peer-", allowedCommonNames: values.words("peer-cert-allowed-cn"),
      allowedHostNames: values.words("peer-cert-allowed-hostname"),
      skipsAddressCheck: values.bool("peer-skip-client-san-verification"))
  }

  private init(
    _ values: FlagValues, prefix: String, allowedCommonNames: [String],
    allowedHostNames: [String], skipsAddressCheck: Bool
  ) {
    certificateFile = values.text(prefix + "cert-file")
    keyFile = values.text(prefix + "key-file")
    dialCertificateFile = values.text(prefix + "client-cert-file")
    dialKeyFile = values.text(prefix + "client-key-file")
    trustedCAFile = values.text(prefix + "trusted-ca-file")
    clientCertAuth = values.bool(prefix + "client-cert-auth")
    revocationFile = values.text(prefix.isEmpty ? "client-crl-file" : "peer-crl-file")
    self.allowedCommonNames = allowedCommonNames
    self.allowedHostNames = allowedHostNames
    self.skipsAddressCheck = skipsAddressCheck
    isAutomatic = values.bool(prefix + "auto-tls") && certificateFile.isEmpty && keyFile.isEmpty
    cipherSuites = values.words("cipher-suites")
    minVersion = TLSVersion(rawValue: values.text("tls-min-version")) ?? .tls12
    maxVersion = TLSVersion(rawValue: values.text("tls-max-version"))
  }
}
