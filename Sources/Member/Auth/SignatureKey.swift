import Base
import COpenSSL

/// A key that signs or verifies, by OpenSSL.
///
/// OpenSSL and not a Swift library: it is linked anyway, and what jwt-kit needs (swift-crypto with its
/// own copy of BoringSSL, X.509, ASN.1) would more than double the time of a build.
///
/// Immutable after `init`, and OpenSSL's keys may be read by several threads at a time; hence the
/// unchecked conformance.
final class SignatureKey: @unchecked Sendable {
  private let key: OpaquePointer
  let canSign: Bool

  /// - Parameter key: taken over.
  private init(_ key: OpaquePointer, canSign: Bool) {
    self.key = key
    self.canSign = canSign
  }

  deinit { EVP_PKEY_free(key) }

  // MARK: - From files

  /// Reads PEM text: PKCS#8, or the forms of one algorithm. A key that asks for a password is none.
  static func privateKey(_ pem: Bytes) -> SignatureKey? {
    withBIO(pem) { bio in
      PEM_read_bio_PrivateKey(bio, nil, { _, _, _, _ in 0 }, nil).map {
        SignatureKey($0, canSign: true)
      }
    }
  }

  /// Reads PEM text: a public key in any form, or a certificate.
  static func publicKey(_ pem: Bytes) -> SignatureKey? {
    if let key = decodePublic(pem) { return SignatureKey(key, canSign: false) }
    return withBIO(pem) { bio in
      guard let certificate = PEM_read_bio_X509(bio, nil, { _, _, _, _ in 0 }, nil) else {
        return nil
      }
      defer { X509_free(certificate) }
      return X509_get_pubkey(certificate).map { SignatureKey($0, canSign: false) }
    }
  }

  private static func decodePublic(_ pem: Bytes) -> OpaquePointer? {
    var key: OpaquePointer?
    let selection = copenssl_public_key
    guard
      let context = OSSL_DECODER_CTX_new_for_pkey(
        &key, "PEM", nil, nil, selection, nil, nil)
    else { return nil }
    defer { OSSL_DECODER_CTX_free(context) }
    return withBIO(pem) { bio in OSSL_DECODER_from_bio(context, bio) == 1 ? key : nil }
  }

  private static func withBIO<Result>(
    _ bytes: Bytes, _ body: (OpaquePointer) -> Result?
  ) -> Result? {
    defer { ERR_clear_error() }
    return bytes.withUnsafeBytes { raw in
      guard let bio = BIO_new_mem_buf(raw.baseAddress, Int32(raw.count)) else { return nil }
      defer { BIO_free(bio) }
      return body(bio)
    }
  }

  // MARK: - What it is

  /// Whether both have the same public part.
  func matches(_ other: SignatureKey) -> Bool {
    defer { ERR_clear_error() }
    return EVP_PKEY_eq(key, other.key) == 1
  }

  func fits(_ method: JWTMethod) -> Bool {
    switch method.family {
    case .rsa: EVP_PKEY_is_a(key, "RSA") == 1
    case .rsaPSS: EVP_PKEY_is_a(key, "RSA") == 1 || EVP_PKEY_is_a(key, "RSA-PSS") == 1
    case .ecdsa: EVP_PKEY_is_a(key, "EC") == 1 && EVP_PKEY_get_bits(key) == method.curveBits
    case .ed25519: EVP_PKEY_is_a(key, "ED25519") == 1
    case .hmac: false
    }
  }

  // MARK: - Signatures

  /// nil if OpenSSL cannot sign with this key.
  func sign(_ message: Bytes, _ method: JWTMethod) -> Bytes? {
    defer { ERR_clear_error() }
    guard canSign, let context = EVP_MD_CTX_new() else { return nil }
    defer { EVP_MD_CTX_free(context) }
    var settings: OpaquePointer?
    guard EVP_DigestSignInit(context, &settings, method.digest, nil, key) == 1,
      method.prepare(settings, signs: true)
    else { return nil }
    var count = 0
    guard EVP_DigestSign(context, nil, &count, message, message.count) == 1 else { return nil }
    var signature = Bytes(repeating: 0, count: count)
    guard EVP_DigestSign(context, &signature, &count, message, message.count) == 1 else {
      return nil
    }
    signature.removeLast(signature.count - count)
    return method.family == .ecdsa ? Self.plain(signature, method) : signature
  }

  func verify(_ signature: Bytes, _ message: Bytes, _ method: JWTMethod) -> Bool {
    defer { ERR_clear_error() }
    guard let context = EVP_MD_CTX_new() else { return false }
    defer { EVP_MD_CTX_free(context) }
    var settings: OpaquePointer?
    guard EVP_DigestVerifyInit(context, &settings, method.digest, nil, key) == 1,
      method.prepare(settings, signs: false)
    else { return false }
    guard let encoded = method.family == .ecdsa ? Self.der(signature, method) : signature else {
      return false
    }
    return EVP_DigestVerify(context, encoded, encoded.count, message, message.count) == 1
  }

  /// The two numbers of an ECDSA signature, one after the other: the form in tokens.
  private static func plain(_ der: Bytes, _ method: JWTMethod) -> Bytes? {
    let width = method.numberBytes
    return der.withUnsafeBufferPointer { buffer -> Bytes? in
      var position = buffer.baseAddress
      guard let signature = d2i_ECDSA_SIG(nil, &position, buffer.count) else { return nil }
      defer { ECDSA_SIG_free(signature) }
      var plain = Bytes(repeating: 0, count: 2 * width)
      let isWhole = plain.withUnsafeMutableBufferPointer { out in
        BN_bn2binpad(ECDSA_SIG_get0_r(signature), out.baseAddress, Int32(width)) >= 0
          && BN_bn2binpad(
            ECDSA_SIG_get0_s(signature), out.baseAddress.map { $0 + width }, Int32(width))
            >= 0
      }
      return isWhole ? plain : nil
    }
  }

  private static func der(_ plain: Bytes, _ method: JWTMethod) -> Bytes? {
    let width = method.numberBytes
    guard plain.count == 2 * width, let signature = ECDSA_SIG_new() else { return nil }
    defer { ECDSA_SIG_free(signature) }
    let set = plain.withUnsafeBufferPointer { buffer -> Bool in
      guard let start = buffer.baseAddress, let r = BN_bin2bn(start, Int32(width), nil) else {
        return false
      }
      guard let s = BN_bin2bn(start + width, Int32(width), nil) else {
        BN_free(r)
        return false
      }
      return ECDSA_SIG_set0(signature, r, s) == 1
    }
    guard set else { return nil }
    let count = i2d_ECDSA_SIG(signature, nil)
    guard count > 0 else { return nil }
    var der = Bytes(repeating: 0, count: Int(count))
    let written = der.withUnsafeMutableBufferPointer { buffer -> Int32 in
      var position = buffer.baseAddress
      return i2d_ECDSA_SIG(signature, &position)
    }
    return written == count ? der : nil
  }
}

extension JWTMethod {
  /// nil for the one that hashes by itself.
  var digest: OpaquePointer? {
    switch self {
    case .rs256, .ps256, .es256, .hs256: EVP_sha256()
    case .rs384, .ps384, .es384, .hs384: EVP_sha384()
    case .rs512, .ps512, .es512, .hs512: EVP_sha512()
    case .edDSA: nil
    }
  }

  fileprivate var curveBits: Int32 {
    switch self {
    case .es256: 256
    case .es384: 384
    case .es512: 521
    default: 0
    }
  }

  /// Bytes of each of the two numbers of an ECDSA signature.
  fileprivate var numberBytes: Int { Int(curveBits + 7) / 8 }

  /// Chooses the padding of RSA. Tokens are signed with a salt of the digest's length, any is accepted.
  fileprivate func prepare(_ settings: OpaquePointer?, signs: Bool) -> Bool {
    guard family == .rsaPSS else { return true }
    return EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) == 1
      && EVP_PKEY_CTX_set_rsa_pss_saltlen(
        settings, signs ? RSA_PSS_SALTLEN_DIGEST : RSA_PSS_SALTLEN_AUTO) == 1
  }

  /// The keyed hash of the HS methods.
  func authenticate(_ message: Bytes, secret: Bytes) -> Bytes {
    var code = Bytes(repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var count: UInt32 = 0
    guard HMAC(digest, secret, Int32(secret.count), message, message.count, &code, &count) != nil
    else { preconditionFailure("no memory for a keyed hash") }
    return Bytes(code.prefix(Int(count)))
  }
}
