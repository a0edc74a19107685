import Base

/// Constants and small codecs of the bbolt file format, version 2 (little-endian).
enum BoltFormat {
  static let magic: UInt32 = 0xed0c_daed
  static let version: UInt32 = 2
  static let pageHeaderBytes = 16
  static let elementBytes = 16
  static let bucketHeaderBytes = 16
  static let metaBytes = 64
  /// A freelist page id of all ones: no free list is stored, readers find free pages by themselves.
  static let noFreelist = UInt64.max
  static let pageBytes = 4_096
  static let pageBytesRange = 512...(1 << 24)

  enum PageFlag {
    static let branch: UInt16 = 0x01
    static let leaf: UInt16 = 0x02
    static let meta: UInt16 = 0x04
  }

  /// Leaf element flag: the value is a bucket.
  static let bucketElement: UInt32 = 1

  static func fnv1a64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
  }
}

extension UnsafeRawBufferPointer {
  /// The caller has checked that the bytes are there.
  func littleEndian<Integer: FixedWidthInteger>(_: Integer.Type, at offset: Int) -> Integer {
    Integer(littleEndian: loadUnaligned(fromByteOffset: offset, as: Integer.self))
  }
}

extension Array where Element == UInt8 {
  mutating func appendLittleEndian(_ value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }
}
