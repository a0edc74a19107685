/// The `grpc-timeout` header: at most eight digits and a unit.
public enum GRPCTimeout {
  /// Reads a header value as nanoseconds; nil if it is malformed. Saturates, never overflows.
  public static func parse(_ value: UnsafeBufferPointer<UInt8>) -> UInt64? {
    guard value.count >= 2, value.count <= 9, let unit = value.last else { return nil }
    var amount: UInt64 = 0
    for byte in value.dropLast() {
      guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
      amount = amount * 10 + UInt64(byte - UInt8(ascii: "0"))
    }
    let scale: UInt64
    switch unit {
    case UInt8(ascii: "H"): scale = 3_600_000_000_000
    case UInt8(ascii: "M"): scale = 60_000_000_000
    case UInt8(ascii: "S"): scale = 1_000_000_000
    case UInt8(ascii: "m"): scale = 1_000_000
    case UInt8(ascii: "u"): scale = 1_000
    case UInt8(ascii: "n"): scale = 1
    default: return nil
    }
    let product = amount.multipliedReportingOverflow(by: scale)
    return product.overflow ? .max : product.partialValue
  }

  /// The header value for a timeout, rounded up to the finest unit that fits eight digits.
  public static func format(nanoseconds: UInt64) -> String {
    let units: [(UInt64, String)] = [
      (1, "n"), (1_000, "u"), (1_000_000, "m"), (1_000_000_000, "S"), (60_000_000_000, "M"),
    ]
    for (scale, suffix) in units {
      let amount = nanoseconds / scale + (nanoseconds % scale == 0 ? 0 : 1)
      if amount <= 99_999_999 { return "\(amount)\(suffix)" }
    }
    return "\(nanoseconds / 3_600_000_000_000)H"
  }
}

/// Base64 as gRPC uses it for `-bin` metadata: written without padding, read with or without.
public enum Base64 {
  private static let alphabet: StaticString =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

  public static func encode(_ bytes: some Collection<UInt8>) -> String {
    var text: [UInt8] = []
    text.reserveCapacity((bytes.count * 4 + 2) / 3)
    var bits: UInt32 = 0
    var pending = 0
    for byte in bytes {
      bits = bits << 8 | UInt32(byte)
      pending += 8
      while pending >= 6 {
        pending -= 6
        text.append(alphabet.utf8Start[Int(bits >> UInt32(pending) & 63)])
      }
    }
    if pending > 0 {
      text.append(alphabet.utf8Start[Int(bits << UInt32(6 - pending) & 63)])
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Returns nil for a character outside the alphabet or an impossible length.
  public static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
    var result: [UInt8] = []
    result.reserveCapacity(text.count * 3 / 4)
    var bits: UInt32 = 0
    var pending = 0
    var digits = 0
    var padding = 0
    for byte in text {
      if byte == UInt8(ascii: "=") {
        padding += 1
        continue
      }
      guard padding == 0, let digit = value(of: byte) else { return nil }
      digits += 1
      bits = bits << 6 | digit
      pending += 6
      if pending >= 8 {
        pending -= 8
        result.append(UInt8(truncatingIfNeeded: bits >> UInt32(pending)))
      }
    }
    guard padding <= 2, digits % 4 != 1, padding == 0 || (digits + padding) % 4 == 0 else {
      return nil
    }
    return result
  }

  private static func value(of byte: UInt8) -> UInt32? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
  }
}
