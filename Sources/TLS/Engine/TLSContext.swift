import Base
import COpenSSL
import Glibc

/// Certificates, roots and rules, read and ready for any number of connections. Any thread.
public final class TLSContext: Sendable {
  public enum Role: Sendable, Equatable { case server, client }

  public let role: Role
  public let settings: TLSSettings
  /// The own certificate; nil if none is shown.
  public let certificate: TLSCertificate?
  // The library's contexts count their references and may be used by all threads once they are set
  // up, which they are when `init` returns.
  nonisolated(unsafe) let pointer: OpaquePointer
  private nonisolated(unsafe) let revocations: OpaquePointer?

  /// Reads the files that `settings` name.
  ///
  /// - Throws: ``TLSError``: `open P: no such file or directory`, or what is wrong in a file.
  public init(_ role: Role, _ settings: TLSSettings) throws(TLSError) {
    self.role = role
    self.settings = settings
    let method = role == .server ? TLS_server_method() : TLS_client_method()
    guard let context = SSL_CTX_new(method) else { throw .fromQueue("tls: no context") }
    do throws(TLSError) {
      try Self.setProtocol(context, settings)
      certificate = try Self.setCertificate(context, settings)
      try Self.setRoots(context, role, settings)
      revocations = try Self.readRevocations(settings.revocationFile)
    } catch {
      SSL_CTX_free(context)
      throw error
    }
    pointer = context
    Self.setVerification(context, role, settings)
  }

  deinit {
    SSL_CTX_free(pointer)
    X509_CRL_free(revocations)
  }

  // MARK: Set-up

  private static func setProtocol(
    _ context: OpaquePointer, _ settings: TLSSettings
  ) throws(TLSError) {
    // Tickets and sessions would spare a client the look at its certificate, revoked or not.
    SSL_CTX_set_options(context, apus_ssl_options())
    SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, Int(SSL_SESS_CACHE_OFF), nil)
    SSL_CTX_set_num_tickets(context, 0)
    // An idle connection keeps no record buffers.
    SSL_CTX_ctrl(
      context, SSL_CTRL_MODE,
      Int(SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER), nil)
    SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, number(settings.minVersion), nil)
    if let newest = settings.maxVersion {
      SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_PROTO_VERSION, number(newest), nil)
    }
    guard SSL_CTX_set_ciphersuites(context, CipherSuite.modern) == 1 else {
      throw .fromQueue("tls: no cipher suites of TLS 1.3")
    }
    let chosen = settings.cipherSuites.compactMap { CipherSuite.libraryName(of: $0) }
      .filter { !$0.isEmpty }
    let list = settings.cipherSuites.isEmpty ? CipherSuite.standard : chosen.joined(separator: ":")
    // Suites of TLS 1.3 alone leave those of TLS 1.2 as they are, as in Go's library.
    guard SSL_CTX_set_cipher_list(context, list.isEmpty ? CipherSuite.standard : list) == 1 else {
      throw .fromQueue("tls: no usable cipher suite")
    }
  }

  private static func number(_ version: TLSVersion) -> Int {
    Int(version == .tls12 ? TLS1_2_VERSION : TLS1_3_VERSION)
  }

  private static func setCertificate(
    _ context: OpaquePointer, _ settings: TLSSettings
  ) throws(TLSError) -> TLSCertificate? {
    let (file, key) = (settings.certificateFile, settings.keyFile)
    if file.isEmpty && key.isEmpty { return nil }
    guard !file.isEmpty, !key.isEmpty else {
      throw TLSError("KeyFile and CertFile must both be present[key: \(key), cert: \(file)]")
    }
    let bytes = try readFile(file)
    _ = try readFile(key)
    guard SSL_CTX_use_certificate_chain_file(context, file) == 1 else {
      throw unreadable("certificate", file)
    }
    guard SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 else {
      throw unreadable("private key", key)
    }
    guard SSL_CTX_check_private_key(context) == 1 else {
      ERR_clear_error()
      throw TLSError("tls: private key does not match public key")
    }
    return TLSCertificate(pem: bytes)
  }

  private static func unreadable(_ what: String, _ path: String) -> TLSError {
    let code = ERR_peek_last_error()
    ERR_clear_error()
    if ERR_GET_LIB(code) == ERR_LIB_X509, ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH {
      return TLSError("tls: private key does not match public key")
    }
    let words = ERR_reason_error_string(code).map { String(cString: $0) } ?? "bad content"
    return TLSError("tls: failed to find a usable \(what) in \(path): \(words)")
  }

  private static func setRoots(
    _ context: OpaquePointer, _ role: Role, _ settings: TLSSettings
  ) throws(TLSError) {
    guard settings.verifiesPeer else { return }
    let file = settings.trustedCAFile
    if file.isEmpty {
      SSL_CTX_set_default_verify_paths(context)
    } else {
      _ = try readFile(file)
      guard SSL_CTX_load_verify_file(context, file) == 1 else {
        throw unreadable("certificate authority", file)
      }
      if role == .server {
        // Clients with several certificates choose by this list.
        SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(file))
      }
    }
    // A certificate in the bundle is trusted, whether or not it is its own root.
    X509_STORE_set_flags(SSL_CTX_get_cert_store(context), UInt(X509_V_FLAG_PARTIAL_CHAIN))
    ERR_clear_error()
  }

  private static func setVerification(
    _ context: OpaquePointer, _ role: Role, _ settings: TLSSettings
  ) {
    let mode = settings.verifiesPeer ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0
    SSL_CTX_set_verify(context, mode, nil)
    SSL_CTX_set_cert_verify_callback(context, verifiesCertificate, nil)
    if role == .server, !settings.protocols.isEmpty {
      SSL_CTX_set_alpn_select_cb(context, selectsProtocol, nil)
    }
  }

  private static func readRevocations(_ path: String) throws(TLSError) -> OpaquePointer? {
    guard !path.isEmpty else { return nil }
    let bytes = try readFile(path)
    if let list = withPEM(bytes, { PEM_read_bio_X509_CRL($0, nil, nil, nil) }) { return list }
    let list = bytes.withUnsafeBytes { buffer in
      var cursor = buffer.baseAddress?.assumingMemoryBound(to: UInt8.self)
      return d2i_X509_CRL(nil, &cursor, buffer.count)
    }
    guard let list else { throw unreadable("revocation list", path) }
    return list
  }

  private static func readFile(_ path: String) throws(TLSError) -> Bytes {
    do { return try WholeFile.read(path) } catch { throw TLSError(error.description) }
  }

  // MARK: Rules

  /// Looks at the certificates that the other end has shown, after the roots have vouched for them.
  ///
  /// - Returns: why they are refused, and the library's number for it; nil if they are not.
  func refusal(chain: [OpaquePointer]) -> (TLSError, Int32)? {
    guard let leaf = chain.first else { return nil }
    if let revocations {
      // By the number alone, as etcd does it: one list serves all issuers of a bundle.
      for certificate in chain {
        var entry: OpaquePointer?
        let serial = X509_get_serialNumber(certificate)
        if X509_CRL_get0_by_serial(revocations, &entry, serial) == 1 {
          let number = TLSCertificate.serial(of: certificate)
          return (
            TLSError("transport: certificate serial \(number) revoked"), X509_V_ERR_CERT_REVOKED
          )
        }
      }
    }
    let names = settings.allowedCommonNames
    let hosts = settings.allowedHostNames
    let isAllowed =
      (names.isEmpty || names.contains(TLSCertificate(leaf).commonName))
      && (hosts.isEmpty || hosts.contains { TLSCertificate.matches(leaf, host: $0) })
    if isAllowed { return nil }
    return (
      TLSError("client certificate authentication failed"), X509_V_ERR_APPLICATION_VERIFICATION
    )
  }
}

private func verifiesCertificate(
  _ store: OpaquePointer?, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
  let index = SSL_get_ex_data_X509_STORE_CTX_idx()
  guard let store, let connection = X509_STORE_CTX_get_ex_data(store, index),
    let engine = TLSEngine.of(OpaquePointer(connection))
  else { return 0 }
  return engine.verify(store) ? 1 : 0
}

/// `h2` if the client knows it. One that knows HTTP/1.1 only is served as if it had asked for nothing.
private func selectsProtocol(
  _ connection: OpaquePointer?, _ selected: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
  _ selectedCount: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?,
  _ offeredCount: UInt32, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
  guard let connection, let offered, let engine = TLSEngine.of(connection) else {
    return SSL_TLSEXT_ERR_ALERT_FATAL
  }
  let bytes = UnsafeBufferPointer(start: offered, count: Int(offeredCount))
  var position = 0
  var offersOld = false
  while position < bytes.count {
    let count = Int(bytes[position])
    let name = bytes[(position + 1)..<min(position + 1 + count, bytes.count)]
    if engine.context.settings.protocols.contains(where: { name.elementsEqual($0.utf8) }) {
      selected?.pointee = offered + position + 1
      selectedCount?.pointee = UInt8(count)
      return SSL_TLSEXT_ERR_OK
    }
    if name.elementsEqual("http/1.1".utf8) { offersOld = true }
    position += 1 + count
  }
  return offersOld ? SSL_TLSEXT_ERR_NOACK : SSL_TLSEXT_ERR_ALERT_FATAL
}
