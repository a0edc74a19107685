import Base
import Glibc

/// Keys longer than LMDB's 511 bytes: user and role names have no limit of their own in etcd.
///
/// Up to 478 bytes a key is stored as it is. A longer one is stored as its first 478 bytes, a zero
/// byte and its SHA-256, 511 bytes together, and the value becomes length (u32, big-endian), whole
/// key, value. The stored length alone tells the two forms apart. Long keys with a common beginning
/// stand together but in hash order: `ReadView.scan` sorts such a run.
enum LongKey {
  static let plainBytesMax = 478
  static let storedBytes = 511
  /// The limit of the snapshot format (bbolt's largest key).
  static let keyBytesMax = 32_768

  static func needsLongForm(_ key: UnsafeRawBufferPointer) -> Bool { key.count > plainBytesMax }

  static func isLongForm(_ storedKey: UnsafeRawBufferPointer) -> Bool {
    storedKey.count == storedBytes
  }

  static func storedKey(_ key: UnsafeRawBufferPointer) -> Bytes {
    var stored = Bytes(key.prefix(plainBytesMax))
    stored.append(0)
    stored.append(contentsOf: SHA256Stream.hash(key))
    return stored
  }

  static func storedValue(_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bytes {
    var stored: Bytes = []
    stored.reserveCapacity(4 + key.count + value.count)
    withUnsafeBytes(of: UInt32(key.count).bigEndian) { stored.append(contentsOf: $0) }
    stored.append(contentsOf: key)
    stored.append(contentsOf: value)
    return stored
  }

  /// The key and value inside a stored value; nil if the length does not fit.
  static func split(
    _ stored: UnsafeRawBufferPointer
  ) -> (key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)? {
    guard stored.count >= 4 else { return nil }
    let count = Int(UInt32(bigEndian: stored.loadUnaligned(as: UInt32.self)))
    guard count <= stored.count - 4 else { return nil }
    return (
      UnsafeRawBufferPointer(rebasing: stored[4..<(4 + count)]),
      UnsafeRawBufferPointer(rebasing: stored[(4 + count)...])
    )
  }
}

extension UnsafeRawBufferPointer {
  /// Unsigned byte order, the shorter first on a tie.
  func compare(_ other: UnsafeRawBufferPointer) -> Int {
    let common = Swift.min(count, other.count)
    if common > 0, let left = baseAddress, let right = other.baseAddress {
      let order = Int(memcmp(left, right, common))
      if order != 0 { return order }
    }
    return count - other.count
  }
}

extension Array where Element == UInt8 {
  /// `withUnsafeBytes` that keeps the type of the error.
  func withBuffer<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try withUnsafeBufferPointer { (buffer) throws(Failure) in
      try body(UnsafeRawBufferPointer(buffer))
    }
  }
}
