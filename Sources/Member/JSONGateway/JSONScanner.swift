import Base

/// Finds the values in a stream of JSON text and checks their syntax, byte by byte.
///
/// What it says of errors is worded as by Go's decoder, which clients of etcd's gateway know.
struct JSONScanner {
  /// What a run of bytes came to.
  enum Outcome: Equatable {
    /// All bytes are used, and the last value is not complete.
    case needMore
    /// A value ends before this offset.
    case value(end: Int)
    case failed(String)
  }

  private enum Step: Equatable {
    /// The byte belongs to a value that is not complete, or to the space between two.
    case goOn
    /// The byte is the last one of a value.
    case complete
    /// The value had ended before this byte, which belongs to what follows.
    case completeBefore
    case failed(String)
  }

  private enum State {
    case value, valueOrEnd, key, keyOrEnd, colon, afterMember, afterElement
    case string(isKey: Bool), escape(isKey: Bool), hex(isKey: Bool, left: Int)
    case minus, zero, digits, point, fraction, exponent, exponentSign, exponentDigits
    case word(StaticString, next: Int)
  }

  /// Go refuses deeper nesting than this.
  private static let depthMax = 10_000

  private var state = State.value
  /// Open containers: true for objects.
  private var containers: [Bool] = []
  /// Whether a value has begun.
  private(set) var isInValue = false

  /// Takes bytes up to the end of a value. Space before it counts as part of it.
  mutating func scan(_ bytes: UnsafeRawBufferPointer) -> Outcome {
    var at = 0
    while at < bytes.count {
      if case .string = state {
        // Most of a request is long strings.
        while at < bytes.count, Self.isPlainText(bytes[at]) { at += 1 }
        if at == bytes.count { break }
      }
      switch step(bytes[at]) {
      case .goOn: at += 1
      case .complete: return .value(end: at + 1)
      case .completeBefore: return .value(end: at)
      case .failed(let reason): return .failed(reason)
      }
    }
    return .needMore
  }

  private static func isPlainText(_ byte: UInt8) -> Bool {
    byte >= 0x20 && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\")
  }

  /// Takes the next byte.
  private mutating func step(_ byte: UInt8) -> Step {
    if Self.isSpace(byte), let step = space() { return step }
    isInValue = true
    switch state {
    case .value, .valueOrEnd, .key, .keyOrEnd, .colon, .afterMember, .afterElement:
      return structure(byte)
    case .string, .escape, .hex: return text(byte)
    case .word(let word, let next): return literal(byte, word, next)
    default: return number(byte)
    }
  }

  /// The text ends here. Returns whether a number that ends with it completes a value; what else is
  /// incomplete then stays so.
  mutating func end() -> Bool {
    guard isInValue, containers.isEmpty, isNumberComplete else { return false }
    reset()
    return true
  }

  private mutating func reset() {
    state = .value
    isInValue = false
  }

  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09
  }

  /// Nil where a space is a byte like any other.
  private mutating func space() -> Step? {
    switch state {
    case .value, .valueOrEnd, .key, .keyOrEnd, .colon, .afterMember, .afterElement: return .goOn
    default: return nil
    }
  }

  // MARK: - Structure

  private mutating func structure(_ byte: UInt8) -> Step {
    switch (state, byte) {
    case (.value, _): return beginValue(byte)
    case (.valueOrEnd, UInt8(ascii: "]")): return close()
    case (.valueOrEnd, _): return beginValue(byte)
    case (.keyOrEnd, UInt8(ascii: "}")): return close()
    case (.key, UInt8(ascii: "\"")), (.keyOrEnd, UInt8(ascii: "\"")):
      state = .string(isKey: true)
    case (.key, _), (.keyOrEnd, _):
      return failure(byte, "looking for beginning of object key string")
    case (.colon, UInt8(ascii: ":")): state = .value
    case (.colon, _): return failure(byte, "after object key")
    case (.afterMember, UInt8(ascii: ",")): state = .key
    case (.afterMember, UInt8(ascii: "}")): return close()
    case (.afterMember, _): return failure(byte, "after object key:value pair")
    case (.afterElement, UInt8(ascii: ",")): state = .value
    case (.afterElement, UInt8(ascii: "]")): return close()
    default: return failure(byte, "after array element")
    }
    return .goOn
  }

  private mutating func beginValue(_ byte: UInt8) -> Step {
    switch byte {
    case UInt8(ascii: "{"), UInt8(ascii: "["):
      guard containers.count < Self.depthMax else { return .failed("exceeded max depth") }
      let isObject = byte == UInt8(ascii: "{")
      containers.append(isObject)
      state = isObject ? .keyOrEnd : .valueOrEnd
    case UInt8(ascii: "\""): state = .string(isKey: false)
    case UInt8(ascii: "-"): state = .minus
    case UInt8(ascii: "0"): state = .zero
    case UInt8(ascii: "1")...UInt8(ascii: "9"): state = .digits
    case UInt8(ascii: "t"): state = .word("true", next: 1)
    case UInt8(ascii: "f"): state = .word("false", next: 1)
    case UInt8(ascii: "n"): state = .word("null", next: 1)
    default: return failure(byte, "looking for beginning of value")
    }
    return .goOn
  }

  private mutating func close() -> Step {
    containers.removeLast()
    return valueEnded()
  }

  private mutating func valueEnded() -> Step {
    guard let isObject = containers.last else {
      reset()
      return .complete
    }
    state = isObject ? .afterMember : .afterElement
    return .goOn
  }

  // MARK: - Scalars

  private mutating func text(_ byte: UInt8) -> Step {
    switch state {
    case .string(let isKey):
      if byte == UInt8(ascii: "\\") {
        state = .escape(isKey: isKey)
      } else if byte == UInt8(ascii: "\"") {
        guard isKey else { return valueEnded() }
        state = .colon
      } else if byte < 0x20 {
        return failure(byte, "in string literal")
      }
    case .escape(let isKey):
      switch byte {
      case UInt8(ascii: "u"): state = .hex(isKey: isKey, left: 4)
      case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"),
        UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
        state = .string(isKey: isKey)
      default: return failure(byte, "in string escape code")
      }
    case .hex(let isKey, let left):
      guard Self.isHexDigit(byte) else {
        return failure(byte, "in \\u hexadecimal character escape")
      }
      state = left == 1 ? .string(isKey: isKey) : .hex(isKey: isKey, left: left - 1)
    default: preconditionFailure("not in a string")
    }
    return .goOn
  }

  private static func isDigit(_ byte: UInt8) -> Bool {
    byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    let lowered = byte | 0x20
    return isDigit(byte) || (lowered >= UInt8(ascii: "a") && lowered <= UInt8(ascii: "f"))
  }

  private mutating func literal(_ byte: UInt8, _ word: StaticString, _ next: Int) -> Step {
    let expected = word.utf8Start[next]
    guard byte == expected else {
      let wanted = Character(UnicodeScalar(expected))
      return failure(byte, "in literal \(word) (expecting '\(wanted)')")
    }
    guard next + 1 == word.utf8CodeUnitCount else {
      state = .word(word, next: next + 1)
      return .goOn
    }
    return valueEnded()
  }

  private var isNumberComplete: Bool {
    switch state {
    case .zero, .digits, .fraction, .exponentDigits: true
    default: false
    }
  }

  private mutating func number(_ byte: UInt8) -> Step {
    let isDigit = Self.isDigit(byte)
    switch state {
    case .minus:
      guard isDigit else { return failure(byte, "in numeric literal") }
      state = byte == UInt8(ascii: "0") ? .zero : .digits
    case .digits where isDigit: break
    case .zero, .digits:
      if byte == UInt8(ascii: ".") {
        state = .point
      } else if byte | 0x20 == UInt8(ascii: "e") {
        state = .exponent
      } else {
        return numberEnded(before: byte)
      }
    case .point:
      guard isDigit else { return failure(byte, "after decimal point in numeric literal") }
      state = .fraction
    case .fraction where isDigit: break
    case .fraction where byte | 0x20 == UInt8(ascii: "e"): state = .exponent
    case .exponent where byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-"):
      state = .exponentSign
    case .exponent, .exponentSign:
      guard isDigit else { return failure(byte, "in exponent of numeric literal") }
      state = .exponentDigits
    case .exponentDigits where isDigit: break
    default: return numberEnded(before: byte)
    }
    return .goOn
  }

  /// Only the byte after it ends a number.
  private mutating func numberEnded(before byte: UInt8) -> Step {
    if valueEnded() == .complete { return .completeBefore }
    return step(byte)
  }

  // MARK: - Errors

  private func failure(_ byte: UInt8, _ context: String) -> Step {
    .failed("invalid character \(Self.quoted(byte)) \(context)")
  }

  /// The byte as Go quotes a character.
  private static func quoted(_ byte: UInt8) -> String {
    switch byte {
    case UInt8(ascii: "'"): return #"'\''"#
    case UInt8(ascii: "\\"): return #"'\\'"#
    case 0x07: return #"'\a'"#
    case 0x08: return #"'\b'"#
    case 0x09: return #"'\t'"#
    case 0x0a: return #"'\n'"#
    case 0x0b: return #"'\v'"#
    case 0x0c: return #"'\f'"#
    case 0x0d: return #"'\r'"#
    case 0x20...0x7e, 0xa1...0xac, 0xae...0xff: return "'\(Character(UnicodeScalar(byte)))'"
    default:
      let digits = String(byte, radix: 16)
      let padded = String(repeating: "0", count: 2 - digits.count) + digits
      return byte < 0x80 ? "'\\x\(padded)'" : "'\\u00\(padded)'"
    }
  }
}
