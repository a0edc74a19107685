public import Base
import COpenSSL

/// One end of a TLS connection without a socket: bytes in, bytes out.
///
/// What is to be sent collects in ``output`` and is taken from there after each call. Not for more
/// than one thread at a time.
public final class TLSEngine {
  public enum Phase: Sendable, Equatable {
    case handshaking, open
    /// An error or ``close()`` has ended it.
    case closed
  }

  public let context: TLSContext
  public private(set) var phase = Phase.handshaking
  /// The other end has said that nothing more comes from it.
  public private(set) var peerHasFinished = false
  /// Records that have to be sent, in order.
  public private(set) var output = Bytes()
  private let ssl: OpaquePointer
  /// The ciphertext of the call under way.
  private var input = UnsafeRawBufferPointer(start: nil, count: 0)
  /// Ciphertext that nobody wanted to have opened yet.
  private var kept = Bytes()
  private var refusal: TLSError?
  private let serverName: String

  /// - Parameter serverName: whom a client wants to speak to, a host name or an address. A server's
  ///   certificate has to name it.
  public init(_ context: TLSContext, serverName: String = "") throws(TLSError) {
    self.context = context
    self.serverName = serverName
    guard let ssl = SSL_new(context.pointer), let bio = MemoryBIO.make() else {
      throw .fromQueue("tls: out of memory")
    }
    self.ssl = ssl
    let own = Unmanaged.passUnretained(self).toOpaque()
    SSL_set_ex_data(ssl, 0, own)
    BIO_set_data(bio, own)
    SSL_set_bio(ssl, bio, bio)
    switch context.role {
    case .server: SSL_set_accept_state(ssl)
    case .client:
      SSL_set_connect_state(ssl)
      prepareClient()
    }
  }

  deinit { SSL_free(ssl) }

  /// The engine that a connection of the library belongs to.
  static func of(_ connection: OpaquePointer) -> TLSEngine? {
    SSL_get_ex_data(connection, 0).map { Unmanaged<TLSEngine>.fromOpaque($0).takeUnretainedValue() }
  }

  private func prepareClient() {
    let isAddress = TLSCertificate.isIPAddress(serverName)
    if !serverName.isEmpty && !isAddress {
      serverName.withCString {
        _ = SSL_ctrl(
          ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, Int(TLSEXT_NAMETYPE_host_name),
          UnsafeMutableRawPointer(mutating: $0))
      }
    }
    if context.settings.verifiesPeer && !serverName.isEmpty {
      let rules = SSL_get0_param(ssl)
      X509_VERIFY_PARAM_set_hostflags(rules, TLSCertificate.hostFlags)
      if isAddress {
        X509_VERIFY_PARAM_set1_ip_asc(rules, serverName)
      } else {
        X509_VERIFY_PARAM_set1_host(rules, serverName, 0)
      }
    }
    var list = Bytes()
    for name in context.settings.protocols {
      list.append(UInt8(truncatingIfNeeded: name.utf8.count))
      list += name.utf8
    }
    if !list.isEmpty { SSL_set_alpn_protos(ssl, list, UInt32(list.count)) }
  }

  // MARK: Handshake

  /// Begins: a client's first bytes are in ``output`` then.
  public func start() throws(TLSError) {
    if phase == .handshaking { try stepHandshake() }
  }

  private func stepHandshake() throws(TLSError) {
    ERR_clear_error()
    let result = SSL_do_handshake(ssl)
    if result == 1 {
      phase = .open
      return
    }
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return
    default:
      // A pending alert is in `output` and worth sending.
      phase = .closed
      let error = refusal ?? .fromQueue("tls: handshake failed")
      if error == .noCertificate, output.suffix(Self.alert.count) == Self.alert[...] {
        output[output.count - 1] = Self.badCertificate
      }
      throw error
    }
  }

  // What the library tells a client of TLS 1.2 that shows no certificate, and what Go's library says
  // instead: stock clients print it.
  private static let alert: Bytes = [21, 3, 3, 0, 2, 2, 40]
  private static let badCertificate: UInt8 = 42

  /// The library asks whether the certificates of the other end will do.
  func verify(_ store: OpaquePointer) -> Bool {
    let isVouchedFor = X509_verify_cert(store) == 1
    guard context.settings.verifiesPeer else { return true }
    guard isVouchedFor else {
      refusal = VerificationText.error(store, serverName: serverName)
      return false
    }
    var chain: [OpaquePointer] = []
    if let list = X509_STORE_CTX_get0_chain(store) {
      for index in 0..<OPENSSL_sk_num(list) {
        if let entry = OPENSSL_sk_value(list, index) { chain.append(OpaquePointer(entry)) }
      }
    }
    guard let (error, number) = context.refusal(chain: chain) else { return true }
    refusal = error
    X509_STORE_CTX_set_error(store, number)
    return false
  }

  // MARK: What is known of the other end

  /// The certificate that the other end has shown; nil before and without one.
  public var peerCertificate: TLSCertificate? {
    guard let certificate = SSL_get1_peer_certificate(ssl) else { return nil }
    defer { X509_free(certificate) }
    return TLSCertificate(certificate)
  }

  /// The certificate of the other end if the roots vouch for it.
  public var verifiedCertificate: TLSCertificate? {
    phase == .open && context.settings.verifiesPeer ? peerCertificate : nil
  }

  /// What both have agreed to speak; nil if nothing.
  public var applicationProtocol: String? {
    var name: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    SSL_get0_alpn_selected(ssl, &name, &count)
    guard let name, count > 0 else { return nil }
    return String(decoding: UnsafeBufferPointer(start: name, count: Int(count)), as: UTF8.self)
  }

  /// The name that a client has asked for; empty if none.
  public var requestedName: String {
    SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) } ?? ""
  }

  /// `TLSv1.3`.
  public var version: String { SSL_get_version(ssl).map { String(cString: $0) } ?? "" }
  public var cipher: String {
    SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)).map { String(cString: $0) } ?? ""
  }

  // MARK: Bytes

  /// Bytes are at hand that a further ``receive(_:opens:scratch:deliver:)`` may open.
  public var hasPendingInput: Bool { !kept.isEmpty || SSL_has_pending(ssl) == 1 }

  /// Puts ciphertext aside for the next ``receive(_:opens:scratch:deliver:)``.
  public func keep(_ bytes: UnsafeRawBufferPointer) { kept.append(contentsOf: bytes) }

  /// Takes ciphertext, goes on with the handshake, and hands out what the records hold.
  ///
  /// - Parameters:
  ///   - opens: false leaves records for later and only goes on with the handshake.
  ///   - scratch: where plaintext is put.
  ///   - deliver: gets it, valid during the call. Returning false leaves the rest for later.
  /// - Throws: what ends the connection. What came before has been delivered, and ``output`` may
  ///   hold an alert for the other end.
  public func receive(
    _ bytes: UnsafeRawBufferPointer, opens: Bool = true, scratch: UnsafeMutableRawBufferPointer,
    deliver: (UnsafeRawBufferPointer) -> Bool
  ) throws(TLSError) {
    guard phase != .closed else { return }
    guard !kept.isEmpty else { return try open(bytes, opens, scratch, deliver) }
    var whole = Bytes()
    swap(&whole, &kept)
    whole.append(contentsOf: bytes)
    let result = whole.withUnsafeBytes { buffer -> Result<Void, TLSError> in
      do throws(TLSError) { return .success(try open(buffer, opens, scratch, deliver)) } catch {
        return .failure(error)
      }
    }
    try result.get()
  }

  private func open(
    _ bytes: UnsafeRawBufferPointer, _ opens: Bool, _ scratch: UnsafeMutableRawBufferPointer,
    _ deliver: (UnsafeRawBufferPointer) -> Bool
  ) throws(TLSError) {
    input = bytes
    defer {
      // The caller's bytes are gone when this returns.
      kept.append(contentsOf: input)
      input = UnsafeRawBufferPointer(start: nil, count: 0)
    }
    if phase == .handshaking { try stepHandshake() }
    guard phase == .open, opens else { return }
    while !peerHasFinished {
      var filled = 0
      let failure = fill(scratch, &filled)
      let goesOn = filled == 0 || deliver(UnsafeRawBufferPointer(rebasing: scratch[..<filled]))
      if let failure {
        phase = .closed
        throw failure
      }
      // Less than a full buffer: there is no whole record left.
      if !goesOn || phase == .closed || filled < scratch.count { return }
    }
  }

  /// Opens records until the buffer is full or none is left.
  private func fill(_ scratch: UnsafeMutableRawBufferPointer, _ filled: inout Int) -> TLSError? {
    ERR_clear_error()
    while filled < scratch.count {
      let room = Int32(clamping: scratch.count - filled)
      let count = SSL_read(ssl, scratch.baseAddress?.advanced(by: filled), room)
      if count > 0 {
        filled += Int(count)
        continue
      }
      switch SSL_get_error(ssl, count) {
      case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return nil
      case SSL_ERROR_ZERO_RETURN:
        peerHasFinished = true
        return nil
      default: return .fromQueue("tls: broken connection")
      }
    }
    return nil
  }

  /// Seals plaintext into ``output``. Only while open.
  public func write(_ bytes: UnsafeRawBufferPointer) throws(TLSError) {
    guard phase == .open, !bytes.isEmpty else { return }
    ERR_clear_error()
    output.reserveCapacity(output.count + bytes.count + (bytes.count >> 14 + 1) * 64)
    var rest = bytes
    while !rest.isEmpty {
      let count = SSL_write(ssl, rest.baseAddress, Int32(clamping: rest.count))
      guard count > 0 else {
        phase = .closed
        throw .fromQueue("tls: write")
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[Int(count)...])
    }
  }

  /// Tells the other end that nothing more will be written. Reading goes on.
  public func finish() {
    guard phase == .open else { return }
    ERR_clear_error()
    SSL_shutdown(ssl)
    ERR_clear_error()
  }

  /// Ends it: nothing is read or written from now on.
  public func close() { phase = .closed }

  /// Removes and returns what has to be sent.
  public func takeOutput() -> Bytes {
    var taken = Bytes()
    swap(&taken, &output)
    return taken
  }

  // MARK: The library's side

  fileprivate func libraryReads(_ target: UnsafeMutableRawPointer, _ wanted: Int) -> Int {
    guard let base = input.baseAddress else { return 0 }
    let count = min(wanted, input.count)
    target.copyMemory(from: base, byteCount: count)
    input = UnsafeRawBufferPointer(rebasing: input[count...])
    return count
  }

  fileprivate func libraryWrites(_ bytes: UnsafeRawBufferPointer) {
    output.append(contentsOf: bytes)
  }
}

/// A BIO that reads an engine's input and appends to its output, without copies in between.
private enum MemoryBIO {
  // Never changed once it is made, and needed until the process ends.
  private nonisolated(unsafe) static let method: OpaquePointer? = {
    guard
      let method = BIO_meth_new(
        BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "engine")
    else { return nil }
    BIO_meth_set_read(method, bioReads)
    BIO_meth_set_write(method, bioWrites)
    BIO_meth_set_ctrl(method, bioControls)
    return method
  }()

  static func make() -> OpaquePointer? {
    guard let method, let bio = BIO_new(method) else { return nil }
    BIO_set_init(bio, 1)
    return bio
  }
}

private let retryFlags =
  BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_IO_SPECIAL | BIO_FLAGS_SHOULD_RETRY

private func engine(_ bio: OpaquePointer?) -> TLSEngine? {
  BIO_get_data(bio).map { Unmanaged<TLSEngine>.fromOpaque($0).takeUnretainedValue() }
}

private func bioReads(
  _ bio: OpaquePointer?, _ target: UnsafeMutablePointer<CChar>?, _ wanted: Int32
) -> Int32 {
  BIO_clear_flags(bio, retryFlags)
  guard let engine = engine(bio), let target, wanted > 0 else { return -1 }
  let count = engine.libraryReads(UnsafeMutableRawPointer(target), Int(wanted))
  if count > 0 { return Int32(count) }
  BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
  return -1
}

private func bioWrites(
  _ bio: OpaquePointer?, _ bytes: UnsafePointer<CChar>?, _ count: Int32
) -> Int32 {
  BIO_clear_flags(bio, retryFlags)
  guard let engine = engine(bio), let bytes, count > 0 else { return 0 }
  engine.libraryWrites(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
  return count
}

private func bioControls(
  _ bio: OpaquePointer?, _ command: Int32, _ number: Int, _ pointer: UnsafeMutableRawPointer?
) -> Int {
  command == BIO_CTRL_FLUSH ? 1 : 0
}
