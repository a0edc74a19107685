// Words of the command line that need not be UTF-8.

/// Strings that can carry any bytes.
///
/// Bytes that are not UTF-8 stand as scalars of the last private-use plane, one each, so that words
/// can be handled as strings and keys still arrive byte for byte.
enum RawText {
  private static let base: UInt32 = 0x10ff00
  private static let range: ClosedRange<UInt32> = 0x10ff80...0x10ffff

  static func string(_ bytes: some Sequence<UInt8>) -> String {
    let source = Array(bytes)
    var text = String.UnicodeScalarView()
    var index = 0
    while index < source.count {
      let (scalar, count) = GoText.decodeScalar(source, at: index)
      if let scalar, !range.contains(scalar.value) {
        text.append(scalar)
        index += count
      } else if let stand = Unicode.Scalar(base + UInt32(source[index])) {
        text.append(stand)
        index += 1
      }
    }
    return String(text)
  }

  static func bytes(_ text: String) -> [UInt8] {
    let utf8 = Array(text.utf8)
    // Only text with a stand-in has this lead byte.
    guard utf8.contains(0xf4) else { return utf8 }
    var result: [UInt8] = []
    for scalar in text.unicodeScalars {
      if range.contains(scalar.value) {
        result.append(UInt8(truncatingIfNeeded: scalar.value))
      } else {
        result += Array(String(scalar).utf8)
      }
    }
    return result
  }
}
