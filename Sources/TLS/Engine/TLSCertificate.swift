public import Base
import COpenSSL

/// What a certificate says about its owner.
public struct TLSCertificate: Sendable, Equatable {
  public let commonName: String
  public let dnsNames: [String]
  /// In their text form.
  public let ipAddresses: [String]
  /// Hexadecimal, as Go prints it.
  public let serial: String
  /// Seconds since 1970.
  public let notAfter: Int64
  public let der: Bytes

  /// - Parameter certificate: an `X509`; not kept.
  init(_ certificate: OpaquePointer) {
    commonName = Self.commonName(of: certificate)
    (dnsNames, ipAddresses) = Self.alternativeNames(of: certificate)
    serial = Self.serial(of: certificate)
    notAfter = Self.seconds(X509_get0_notAfter(certificate))
    der = Self.der(of: certificate)
  }

  /// The first certificate of a PEM text; nil if there is none.
  public init?(pem: Bytes) {
    let found = withPEM(pem) { PEM_read_bio_X509($0, nil, nil, nil) }
    guard let found else { return nil }
    defer { X509_free(found) }
    self.init(found)
  }

  /// Whether the certificate was made out for `host`, an address or a name. As everywhere today the
  /// common name does not count.
  public func isValid(forHost host: String) -> Bool {
    der.withUnsafeBytes { bytes in
      var cursor = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
      guard let certificate = d2i_X509(nil, &cursor, bytes.count) else { return false }
      defer { X509_free(certificate) }
      return Self.matches(certificate, host: host)
    }
  }

  static func matches(_ certificate: OpaquePointer, host: String) -> Bool {
    if isIPAddress(host) { return X509_check_ip_asc(certificate, host, 0) == 1 }
    return X509_check_host(certificate, host, host.utf8.count, hostFlags, nil) == 1
  }

  static let hostFlags = UInt32(
    X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)

  static func isIPAddress(_ host: String) -> Bool {
    guard let octets = a2i_IPADDRESS(host) else { return false }
    ASN1_OCTET_STRING_free(octets)
    return true
  }

  // MARK: Fields

  private static func commonName(of certificate: OpaquePointer) -> String {
    let name = X509_get_subject_name(certificate)
    // Of several the last one counts, as in Go.
    var index: Int32 = -1
    var last: Int32 = -1
    repeat {
      last = index
      index = X509_NAME_get_index_by_NID(name, NID_commonName, last)
    } while index >= 0
    guard last >= 0, let entry = X509_NAME_get_entry(name, last) else { return "" }
    return text(X509_NAME_ENTRY_get_data(entry))
  }

  private static func text(_ string: UnsafePointer<ASN1_STRING>?) -> String {
    var utf8: UnsafeMutablePointer<UInt8>?
    let count = ASN1_STRING_to_UTF8(&utf8, string)
    guard count >= 0, let utf8 else { return "" }
    defer { CRYPTO_free(utf8, #file, #line) }
    return String(decoding: UnsafeBufferPointer(start: utf8, count: Int(count)), as: UTF8.self)
  }

  private static func alternativeNames(of certificate: OpaquePointer) -> ([String], [String]) {
    var names: [String] = []
    var addresses: [String] = []
    guard let found = X509_get_ext_d2i(certificate, NID_subject_alt_name, nil, nil) else {
      return ([], [])
    }
    let list = OpaquePointer(found)
    defer { GENERAL_NAMES_free(list) }
    for index in 0..<OPENSSL_sk_num(list) {
      guard let entry = OPENSSL_sk_value(list, index) else { continue }
      let name = entry.assumingMemoryBound(to: GENERAL_NAME.self).pointee
      switch name.type {
      case GEN_DNS: names.append(text(name.d.dNSName))
      case GEN_IPADD: addresses.append(address(name.d.iPAddress))
      default: break
      }
    }
    return (names, addresses)
  }

  private static func address(_ octets: UnsafePointer<ASN1_STRING>?) -> String {
    let bytes = UnsafeBufferPointer(
      start: ASN1_STRING_get0_data(octets), count: Int(ASN1_STRING_length(octets)))
    return ipText(bytes)
  }

  static func serial(of certificate: OpaquePointer) -> String {
    guard let number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nil) else {
      return ""
    }
    defer { BN_free(number) }
    guard let text = BN_bn2hex(number) else { return "" }
    defer { CRYPTO_free(text, #file, #line) }
    return String(cString: text)
  }

  private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
    var days: Int32 = 0
    var seconds: Int32 = 0
    guard let epoch = ASN1_TIME_set(nil, 0) else { return 0 }
    defer { ASN1_STRING_free(epoch) }
    guard ASN1_TIME_diff(&days, &seconds, epoch, time) == 1 else { return 0 }
    return Int64(days) * 86_400 + Int64(seconds)
  }

  private static func der(of certificate: OpaquePointer) -> Bytes {
    var bytes: UnsafeMutablePointer<UInt8>?
    let count = i2d_X509(certificate, &bytes)
    guard count > 0, let bytes else { return [] }
    defer { CRYPTO_free(bytes, #file, #line) }
    return Bytes(UnsafeBufferPointer(start: bytes, count: Int(count)))
  }
}

/// Runs `body` on a BIO that reads `bytes`.
func withPEM<Result>(_ bytes: Bytes, _ body: (OpaquePointer?) -> Result?) -> Result? {
  bytes.withUnsafeBytes { buffer in
    guard let bio = BIO_new_mem_buf(buffer.baseAddress, Int32(clamping: buffer.count)) else {
      return nil
    }
    defer { BIO_free(bio) }
    let result = body(bio)
    // The end of the text leaves an error behind, which must not be taken for that of a connection.
    ERR_clear_error()
    return result
  }
}
