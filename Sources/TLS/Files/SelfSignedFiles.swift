import Base
import COpenSSL
import Glibc

/// A certificate that a member makes for itself, and its files.
public struct SelfSignedFiles: Sendable, Equatable {
  /// Of its life, the part before the end in which it is made anew: a tenth.
  private static let renewalShare: Int64 = 10
  private static let daySeconds: Int64 = 86_400
  /// The clocks of those that look at it may be behind.
  private static let skewSeconds = 300

  /// Holds `cert.pem` and `key.pem`.
  public let directory: String
  /// Names and addresses that it is made out for.
  public let hosts: [String]
  public let years: Int

  public init(directory: String, hosts: [String], years: Int) {
    self.directory = directory
    self.hosts = hosts
    self.years = years
  }

  public var certificateFile: String { directory + "/cert.pem" }
  public var keyFile: String { directory + "/key.pem" }

  private var lifeSeconds: Int64 { Int64(years) * 365 * Self.daySeconds }

  /// Whether the certificate is close to its end.
  func isDue(_ certificate: TLSCertificate) -> Bool {
    certificate.notAfter - lifeSeconds / Self.renewalShare <= Int64(time(nil))
  }

  /// Makes the files unless they are there and good for a while.
  ///
  /// - Returns: whether they were made.
  @discardableResult
  public func renewIfDue() throws(TLSError) -> Bool {
    if access(keyFile, R_OK) == 0, let pem = Self.read(certificateFile),
      let certificate = TLSCertificate(pem: pem), !isDue(certificate)
    {
      return false
    }
    try make()
    return true
  }

  private func make() throws(TLSError) {
    guard let key = apus_make_ec_key("P-521") else { throw .fromQueue("tls: no key") }
    defer { EVP_PKEY_free(key) }
    guard let certificate = X509_new() else { throw .fromQueue("tls: no certificate") }
    defer { X509_free(certificate) }
    try fill(certificate, key)
    guard X509_sign(certificate, key, EVP_sha512()) > 0 else {
      throw .fromQueue("tls: cannot sign a certificate")
    }
    try Self.makeDirectory(directory)
    // First the key: a certificate without it would count as there.
    try Self.write(keyFile, mode: 0o600) {
      PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil) == 1
    }
    try Self.write(certificateFile, mode: 0o644) { PEM_write_bio_X509($0, certificate) == 1 }
  }

  private func fill(_ certificate: OpaquePointer, _ key: OpaquePointer) throws(TLSError) {
    X509_set_version(certificate, 2)
    var serial = UInt64.random(in: 1...(.max >> 1))
    if let number = BN_new() {
      withUnsafeBytes(of: &serial) { bytes in
        _ = BN_bin2bn(bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), 8, number)
      }
      BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate))
      BN_free(number)
    }
    X509_gmtime_adj(X509_getm_notBefore(certificate), -Self.skewSeconds)
    X509_time_adj_ex(
      X509_getm_notAfter(certificate), Int32(clamping: lifeSeconds / Self.daySeconds), 0, nil)
    X509_set_pubkey(certificate, key)
    let name = X509_get_subject_name(certificate)
    X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8, "etcd", -1, -1, 0)
    X509_set_issuer_name(certificate, name)
    let names = hosts.map { (TLSCertificate.isIPAddress($0) ? "IP:" : "DNS:") + $0 }
    try add(NID_basic_constraints, "critical,CA:TRUE", to: certificate)
    try add(NID_key_usage, "critical,digitalSignature,keyEncipherment,keyCertSign", to: certificate)
    try add(NID_ext_key_usage, "serverAuth,clientAuth", to: certificate)
    if !names.isEmpty {
      try add(NID_subject_alt_name, names.joined(separator: ","), to: certificate)
    }
  }

  private func add(
    _ kind: Int32, _ value: String, to certificate: OpaquePointer
  ) throws(TLSError) {
    guard let entry = X509V3_EXT_conf_nid(nil, nil, kind, value) else {
      throw .fromQueue("tls: bad extension \(value)")
    }
    X509_add_ext(certificate, entry, -1)
    X509_EXTENSION_free(entry)
  }

  // MARK: Files

  private static func makeDirectory(_ path: String) throws(TLSError) {
    var prefix = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      prefix += prefix.isEmpty || prefix.hasSuffix("/") ? String(part) : "/\(part)"
      if mkdir(prefix, 0o700) != 0, errno != EEXIST {
        throw TLSError("mkdir \(prefix): \(systemText(errno))")
      }
    }
  }

  /// Puts a whole new file in place of the old one.
  private static func write(
    _ path: String, mode: mode_t, _ body: (OpaquePointer) -> Bool
  ) throws(TLSError) {
    let temporary = path + ".tmp"
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard descriptor >= 0, let bio = BIO_new_fd(descriptor, 1) else {
      throw TLSError("open \(temporary): \(systemText(errno))")
    }
    let isWritten = body(bio)
    BIO_free(bio)
    guard isWritten, rename(temporary, path) == 0 else {
      throw TLSError("write \(path): \(systemText(errno))")
    }
  }

  private static func read(_ path: String) -> Bytes? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var buffer = Bytes(repeating: 0, count: 1 << 16)
    let count = Glibc.read(descriptor, &buffer, buffer.count)
    return count > 0 ? Bytes(buffer[..<count]) : nil
  }
}
