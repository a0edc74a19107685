public import Base
import COpenSSL

/// SHA-256 over bytes that arrive in pieces: the hash at the end of a client's snapshot.
public struct SHA256Stream: ~Copyable {
  public static let byteCount = 32
  private let context: OpaquePointer

  public init() {
    // OpenSSL fails here only without memory.
    guard let context = EVP_MD_CTX_new() else { preconditionFailure("no memory for a digest") }
    let started = EVP_DigestInit_ex(context, EVP_sha256(), nil)
    precondition(started == 1, "SHA-256 is not available in this OpenSSL")
    self.context = context
  }

  deinit { EVP_MD_CTX_free(context) }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard !bytes.isEmpty else { return }
    let updated = EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
    precondition(updated == 1, "digest update failed")
  }

  public mutating func update(_ bytes: Bytes) { bytes.withUnsafeBytes { update($0) } }

  /// The 32-byte digest. Call once, last.
  public mutating func finish() -> Bytes {
    var digest = Bytes(repeating: 0, count: Self.byteCount)
    var count: UInt32 = 0
    let finished = EVP_DigestFinal_ex(context, &digest, &count)
    precondition(finished == 1 && Int(count) == Self.byteCount, "digest failed")
    return digest
  }

  public static func hash(_ bytes: UnsafeRawBufferPointer) -> Bytes {
    var stream = SHA256Stream()
    stream.update(bytes)
    return stream.finish()
  }
}
