import Base

/// Escapes in JSON strings that the decoder of `bytes` fields does not read.
enum JSONEscapes {
  /// The same text with `\\/` and `\\uXXXX` of plain ASCII as the characters they stand for: some encoders
  /// escape every slash, of which base64 has many.
  ///
  /// - Parameter text: valid JSON.
  static func resolved(_ text: Bytes) -> Bytes {
    guard text.contains(UInt8(ascii: "\\")) else { return text }
    var result = Bytes()
    result.reserveCapacity(text.count)
    var at = 0
    while at < text.count {
      guard text[at] == UInt8(ascii: "\\"), at + 1 < text.count else {
        result.append(text[at])
        at += 1
        continue
      }
      switch text[at + 1] {
      case UInt8(ascii: "/"):
        result.append(UInt8(ascii: "/"))
        at += 2
      case UInt8(ascii: "u"):
        if let byte = plainASCII(text[min(at + 2, text.count)..<min(at + 6, text.count)]) {
          result.append(byte)
        } else {
          result.append(contentsOf: text[at..<min(at + 6, text.count)])
        }
        at += 6
      default:
        result.append(contentsOf: text[at...at + 1])
        at += 2
      }
    }
    return result
  }

  /// The character of four hexadecimal digits, if it may stand in a string as it is.
  private static func plainASCII(_ digits: ArraySlice<UInt8>) -> UInt8? {
    guard let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 16),
      code >= 0x20, code < 0x7f, code != UInt8(ascii: "\""), code != UInt8(ascii: "\\")
    else { return nil }
    return code
  }

  /// The same text without the line breaks in strings that else are all base64; nil if there are none.
  static func withoutLineBreaks(_ text: Bytes) -> Bytes? {
    var result = Bytes()
    var start: Int?
    var at = 0
    var found = false
    while at < text.count {
      let byte = text[at]
      if byte == UInt8(ascii: "\""), let first = start {
        let string = text[first...at]
        let joined = unbroken(string)
        found = found || joined.count != string.count
        result.append(contentsOf: joined)
        start = nil
      } else if byte == UInt8(ascii: "\"") {
        start = at
      } else if start == nil {
        result.append(byte)
      }
      at += byte == UInt8(ascii: "\\") ? 2 : 1
    }
    return found ? result : nil
  }

  private static func unbroken(_ string: ArraySlice<UInt8>) -> Bytes {
    var result = Bytes()
    var at = string.startIndex
    while at < string.endIndex {
      let byte = string[at]
      if byte == UInt8(ascii: "\\"), at + 1 < string.endIndex {
        guard [UInt8(ascii: "n"), UInt8(ascii: "r")].contains(string[at + 1]) else {
          return Bytes(string)
        }
        at += 2
        continue
      }
      guard isBase64(byte) || byte == UInt8(ascii: "\"") else { return Bytes(string) }
      result.append(byte)
      at += 1
    }
    return result
  }

  private static func isBase64(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"),
      UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "="):
      true
    default: false
    }
  }
}
