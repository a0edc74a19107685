import CIntrinsics

/// CRC-32C (Castagnoli), chained by value: `extend(extend(0, a), b) == extend(0, a + b)`.
public enum CRC32C {
  /// The checksum of what `crc` covers followed by `bytes`.
  public static func extend(_ crc: UInt32, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
    guard let base = bytes.baseAddress else { return crc }
    if hasInstruction {
      return ~apus_crc32c(~crc, base.assumingMemoryBound(to: UInt8.self), bytes.count)
    }
    return software(crc, bytes)
  }

  public static func extend(_ crc: UInt32, _ bytes: some Sequence<UInt8>) -> UInt32 {
    let viaStorage = bytes.withContiguousStorageIfAvailable {
      extend(crc, UnsafeRawBufferPointer($0))
    }
    return viaStorage ?? Bytes(bytes).withUnsafeBytes { extend(crc, $0) }
  }

  private static let hasInstruction = apus_has_crc32c() != 0

  /// Byte-wise table method, for processors without the instruction.
  public static func software(_ crc: UInt32, _ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var state = ~crc
    for byte in bytes {
      state = table[Int((state ^ UInt32(byte)) & 0xff)] ^ (state >> 8)
    }
    return ~state
  }

  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in
      value & 1 == 1 ? 0x82f6_3b78 ^ (value >> 1) : value >> 1
    }
  }
}
