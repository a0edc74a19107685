import COpenSSL
import Glibc

/// Why the library has refused a certificate, in Go's words.
enum VerificationText {
  static func error(_ store: OpaquePointer, serverName: String) -> TLSError {
    let number = X509_STORE_CTX_get_error(store)
    let current = X509_STORE_CTX_get_current_cert(store) ?? X509_STORE_CTX_get0_cert(store)
    let certificate = current.map { TLSCertificate($0) }
    return TLSError(
      "tls: failed to verify certificate: x509: " + text(number, certificate, serverName))
  }

  private static func text(
    _ number: Int32, _ certificate: TLSCertificate?, _ serverName: String
  ) -> String {
    switch number {
    case X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID:
      let now = time(nil)
      let end = certificate.map { Int($0.notAfter) } ?? 0
      let relation =
        now > end ? "is after \(timestamp(end))" : "is before the certificate's validity"
      return "certificate has expired or is not yet valid: current time \(timestamp(now)) "
        + relation
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
      X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
      X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return "certificate signed by unknown authority"
    case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
      return mismatch(certificate, serverName)
    case X509_V_ERR_INVALID_PURPOSE:
      return "certificate specifies an incompatible key usage"
    default:
      return X509_verify_cert_error_string(Int(number)).map { String(cString: $0) }
        ?? "error \(number)"
    }
  }

  private static func mismatch(_ certificate: TLSCertificate?, _ serverName: String) -> String {
    let isAddress = TLSCertificate.isIPAddress(serverName)
    let names = (isAddress ? certificate?.ipAddresses : certificate?.dnsNames) ?? []
    if !names.isEmpty {
      return "certificate is valid for \(names.joined(separator: ", ")), not \(serverName)"
    }
    if isAddress {
      return "cannot validate certificate for \(serverName) because it doesn't contain any IP SANs"
    }
    return "certificate is not valid for any names, but wanted to match \(serverName)"
  }

  private static func timestamp(_ seconds: Int) -> String {
    var seconds = time_t(seconds)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { buffer in
      guard let base = buffer.baseAddress,
        strftime(base, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0
      else { return "" }
      return String(cString: base)
    }
  }
}
