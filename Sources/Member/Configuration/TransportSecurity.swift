package import TLS

/// How one of a member's two ports is secured, as its flags say.
package struct TransportSecurity: Sendable, Equatable {
  package var certificateFile: String
  package var keyFile: String
  /// For connections that the member opens itself; empty: the files above.
  package var dialCertificateFile: String
  package var dialKeyFile: String
  /// Whom certificates of others have to name when they are dialled; empty: the host of the URL.
  package var dialServerName = ""
  package var trustedCAFile: String
  /// `--client-cert-auth`: the names in certificates are those of users, too.
  package var clientCertAuth: Bool
  package var revocationFile: String
  package var allowedCommonNames: [String]
  package var allowedHostNames: [String]
  package var skipsAddressCheck: Bool
  /// The member makes its own certificate; never together with files.
  package var isAutomatic: Bool
  package var cipherSuites: [String]
  package var minVersion: TLSVersion
  package var maxVersion: TLSVersion?

  /// No certificate was given and none is to be made.
  package var isEmpty: Bool { certificateFile.isEmpty && keyFile.isEmpty && !isAutomatic }

  /// A trusted CA alone is enough to ask clients for a certificate.
  package var verifiesClients: Bool { clientCertAuth || !trustedCAFile.isEmpty }
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
