// Texts as Go's libraries read and write them, because scripts compare them.

/// Go's quoted strings (`strconv.Quote`, `%q`) and their reverse.
enum GoText {
  /// `"..."` with escapes for all that is not printable.
  static func quote(_ bytes: some Sequence<UInt8>) -> String {
    let source = Array(bytes)
    var result = "\""
    var index = 0
    while index < source.count {
      let (scalar, count) = decodeScalar(source, at: index)
      index += count
      if let scalar {
        appendQuoted(scalar, to: &result)
      } else {
        result += "\\x" + hex2(source[index - 1])
      }
    }
    return result + "\""
  }

  static func quote(_ text: String) -> String { quote(RawText.bytes(text)) }

  private static func appendQuoted(_ scalar: Unicode.Scalar, to result: inout String) {
    switch scalar.value {
    case 0x22: result += "\\\""
    case 0x5c: result += "\\\\"
    case 0x07: result += "\\a"
    case 0x08: result += "\\b"
    case 0x0c: result += "\\f"
    case 0x0a: result += "\\n"
    case 0x0d: result += "\\r"
    case 0x09: result += "\\t"
    case 0x0b: result += "\\v"
    case 0..<0x20, 0x7f: result += "\\x" + hex2(UInt8(scalar.value))
    case _ where isPrintable(scalar): result.unicodeScalars.append(scalar)
    case 0..<0x10000: result += "\\u" + padded(scalar.value, 4)
    default: result += "\\U" + padded(scalar.value, 8)
    }
  }

  /// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols, and the ASCII blank.
  private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII { return scalar.value >= 0x20 && scalar.value < 0x7f }
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .spaceSeparator,
      .lineSeparator, .paragraphSeparator:
      return false
    default: return true
    }
  }

  /// The scalar that starts at `index`, or nil and a length of 1 for an invalid byte.
  static func decodeScalar(
    _ bytes: [UInt8], at index: Int
  ) -> (Unicode.Scalar?, count: Int) {
    let first = bytes[index]
    if first < 0x80 { return (Unicode.Scalar(first), 1) }
    let count: Int
    switch first {
    case 0xc2...0xdf: count = 2
    case 0xe0...0xef: count = 3
    case 0xf0...0xf4: count = 4
    default: return (nil, 1)
    }
    guard index + count <= bytes.count else { return (nil, 1) }
    var value = UInt32(first) & (0x7f >> UInt32(count))
    for next in bytes[index + 1..<index + count] {
      guard next & 0xc0 == 0x80 else { return (nil, 1) }
      value = value << 6 | UInt32(next & 0x3f)
    }
    let minimum: UInt32 = count == 2 ? 0x80 : count == 3 ? 0x800 : 0x10000
    guard value >= minimum, let scalar = Unicode.Scalar(value) else { return (nil, 1) }
    return (scalar, count)
  }

  private static func hex2(_ byte: UInt8) -> String { padded(UInt32(byte), 2) }

  private static func padded(_ value: UInt32, _ width: Int) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  // MARK: Reading

  /// Reads a Go string literal at the start of `text`: `"..."` with escapes, or `` `...` ``.
  ///
  /// - Returns: its value and how many bytes it takes; nil if there is none.
  static func readLiteral(_ text: ArraySlice<UInt8>) -> (value: [UInt8], count: Int)? {
    guard let quote = text.first else { return nil }
    if quote == UInt8(ascii: "`") {
      guard let end = text.dropFirst().firstIndex(of: quote) else { return nil }
      let body = text[(text.startIndex + 1)..<end]
      return (body.filter { $0 != 13 }, end - text.startIndex + 1)
    }
    guard quote == UInt8(ascii: "\"") else { return nil }
    var value: [UInt8] = []
    var index = text.startIndex + 1
    while index < text.endIndex {
      let byte = text[index]
      if byte == quote { return (value, index - text.startIndex + 1) }
      if byte == 10 { return nil }
      if byte != UInt8(ascii: "\\") {
        value.append(byte)
        index += 1
        continue
      }
      guard let used = readEscape(text[(index + 1)...], into: &value) else { return nil }
      index += 1 + used
    }
    return nil
  }

  /// Reads what follows a backslash; returns how many bytes it takes.
  private static func readEscape(_ text: ArraySlice<UInt8>, into value: inout [UInt8]) -> Int? {
    guard let kind = text.first else { return nil }
    let simple: [UInt8: UInt8] = [
      UInt8(ascii: "a"): 7, UInt8(ascii: "b"): 8, UInt8(ascii: "f"): 12, UInt8(ascii: "n"): 10,
      UInt8(ascii: "r"): 13, UInt8(ascii: "t"): 9, UInt8(ascii: "v"): 11,
      UInt8(ascii: "\\"): 0x5c, UInt8(ascii: "\""): 0x22,
    ]
    if let byte = simple[kind] {
      value.append(byte)
      return 1
    }
    let hexWidths = [UInt8(ascii: "x"): 2, UInt8(ascii: "u"): 4, UInt8(ascii: "U"): 8]
    if let width = hexWidths[kind] {
      let digits = String(decoding: text.dropFirst().prefix(width), as: UTF8.self)
      guard digits.count == width, let number = UInt32(digits, radix: 16) else { return nil }
      if width == 2 {
        value.append(UInt8(truncatingIfNeeded: number))
      } else {
        guard let scalar = Unicode.Scalar(number) else { return nil }
        value += Array(String(Character(scalar)).utf8)
      }
      return 1 + width
    }
    let digits = String(decoding: text.prefix(3), as: UTF8.self)
    guard digits.utf8.count == 3, let byte = UInt8(digits, radix: 8) else { return nil }
    value.append(byte)
    return 3
  }
}

/// A number that Go would not have read, with Go's text.
struct GoNumberError: Error, Equatable {
  let description: String
}

/// Go's `strconv.ParseInt` and `ParseUint`.
enum GoNumber {
  /// - Parameter base: 10 or 16; 0 takes it from a prefix (`0x`, `0o`, `0b`, `0`).
  static func int64(_ text: String, base: Int) throws(GoNumberError) -> Int64 {
    let (isNegative, magnitude) = split(text)
    guard let value = try magnitudeValue(magnitude, base, "ParseInt", text) else {
      throw outOfRange("ParseInt", text)
    }
    if isNegative {
      guard value <= UInt64(Int64.max) + 1 else { throw outOfRange("ParseInt", text) }
      return Int64(truncatingIfNeeded: 0 &- value)
    }
    guard let result = Int64(exactly: value) else { throw outOfRange("ParseInt", text) }
    return result
  }

  static func uint64(_ text: String, base: Int) throws(GoNumberError) -> UInt64 {
    guard let value = try magnitudeValue(Substring(text), base, "ParseUint", text) else {
      throw outOfRange("ParseUint", text)
    }
    return value
  }

  private static func split(_ text: String) -> (isNegative: Bool, magnitude: Substring) {
    if text.hasPrefix("-") { return (true, text.dropFirst()) }
    return (false, text.hasPrefix("+") ? text.dropFirst() : Substring(text))
  }

  /// Nil for a number that does not fit.
  private static func magnitudeValue(
    _ magnitude: Substring, _ base: Int, _ function: String, _ text: String
  ) throws(GoNumberError) -> UInt64? {
    var digits = magnitude.lowercased()
    var radix = base
    if base == 0 {
      radix = 10
      for (prefix, value) in [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)]
      where digits.hasPrefix(prefix) && digits != "0" {
        radix = value
        digits.removeFirst(prefix.count)
        break
      }
      digits.removeAll { $0 == "_" }
    }
    let isValid = !digits.isEmpty && digits.allSatisfy { $0.isASCII && $0.hexDigit(below: radix) }
    guard isValid else {
      throw GoNumberError(
        description: "strconv.\(function): parsing \(GoText.quote(text)): invalid syntax")
    }
    return UInt64(digits, radix: radix)
  }

  private static func outOfRange(_ function: String, _ text: String) -> GoNumberError {
    GoNumberError(
      description: "strconv.\(function): parsing \(GoText.quote(text)): value out of range")
  }
}

extension Character {
  fileprivate func hexDigit(below radix: Int) -> Bool {
    hexDigitValue.map { $0 < radix } ?? false
  }
}
