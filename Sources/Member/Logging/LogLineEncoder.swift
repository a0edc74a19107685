/// Writes the bytes of one log line. Reused from line to line, so that a line allocates nothing.
public struct LogLineEncoder: Sendable {
  public private(set) var bytes: [UInt8] = []
  /// The console form puts a blank after `:` and `,`.
  private let spaced: Bool
  private var needsComma = false

  init(format: LogFormat) {
    spaced = format == .console
    bytes.reserveCapacity(1024)
  }

  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    needsComma = false
  }

  mutating func raw(_ text: StaticString) {
    text.withUTF8Buffer { bytes.append(contentsOf: $0) }
  }
  mutating func raw(_ text: some StringProtocol) { bytes.append(contentsOf: text.utf8) }
  mutating func raw(_ byte: UInt8) { bytes.append(byte) }

  /// Ends a string whose bytes were written raw.
  mutating func endQuoted() {
    bytes.append(UInt8(ascii: "\""))
    needsComma = true
  }

  mutating func truncate(to count: Int) { bytes.removeLast(bytes.count - count) }

  mutating func beginObject() {
    bytes.append(UInt8(ascii: "{"))
    needsComma = false
  }

  mutating func endObject() {
    bytes.append(UInt8(ascii: "}"))
    needsComma = true
  }

  /// A comma if something precedes, the quoted name and a colon.
  public mutating func key(_ name: some StringProtocol) {
    separate()
    string(name)
    bytes.append(UInt8(ascii: ":"))
    if spaced { bytes.append(UInt8(ascii: " ")) }
    needsComma = false
  }

  private mutating func separate() {
    if needsComma {
      bytes.append(UInt8(ascii: ","))
      if spaced { bytes.append(UInt8(ascii: " ")) }
    }
    needsComma = true
  }

  /// A JSON string: only quotes, backslashes and control characters are escaped.
  public mutating func string(_ text: some StringProtocol) {
    bytes.append(UInt8(ascii: "\""))
    for byte in text.utf8 { escape(byte) }
    bytes.append(UInt8(ascii: "\""))
    needsComma = true
  }

  private mutating func escape(_ byte: UInt8) {
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"):
      bytes.append(UInt8(ascii: "\\"))
      bytes.append(byte)
    case 0x0A: raw("\\n" as StaticString)
    case 0x0D: raw("\\r" as StaticString)
    case 0x09: raw("\\t" as StaticString)
    case 0..<0x20:
      raw("\\u00" as StaticString)
      bytes.append(Self.hexDigit(byte >> 4))
      bytes.append(Self.hexDigit(byte & 15))
    default: bytes.append(byte)
    }
  }

  private static func hexDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
  }

  public mutating func integer(_ value: some FixedWidthInteger) {
    decimal(value)
    needsComma = true
  }

  /// A number, or a string where JSON has no number for it.
  public mutating func double(_ value: Double) {
    if value.isNaN {
      string("NaN")
    } else if value.isInfinite {
      string(value < 0 ? "-Inf" : "+Inf")
    } else if value == value.rounded(), value.magnitude < 1e15 {
      integer(Int64(value))
    } else {
      raw(value.description)
      needsComma = true
    }
  }

  public mutating func bool(_ value: Bool) {
    raw(value ? "true" as StaticString : "false")
    needsComma = true
  }

  public mutating func null() {
    raw("null" as StaticString)
    needsComma = true
  }

  public mutating func array<Value: LogFieldValue>(_ values: some Sequence<Value>) {
    bytes.append(UInt8(ascii: "["))
    needsComma = false
    for value in values {
      separate()
      value.encode(into: &self)
    }
    bytes.append(UInt8(ascii: "]"))
    needsComma = true
  }

  /// Decimal digits without a separator, padded with zeros to `width`.
  mutating func decimal(_ value: some FixedWidthInteger, width: Int = 1) {
    if value < 0 { bytes.append(UInt8(ascii: "-")) }
    var rest = UInt64(value.magnitude)
    let start = bytes.count
    var written = 0
    repeat {
      bytes.append(UInt8(ascii: "0") + UInt8(rest % 10))
      rest /= 10
      written += 1
    } while rest > 0 || written < width
    bytes[start...].reverse()
  }
}

/// A value that can stand in a log line's field.
public protocol LogFieldValue: Sendable {
  func encode(into encoder: inout LogLineEncoder)
  /// There is nothing to say: the field is left out, as Go's `zap.Error(nil)` is.
  var isAbsent: Bool { get }
}

extension LogFieldValue {
  public var isAbsent: Bool { false }
}

extension String: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.string(self) }
}
extension Substring: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.string(self) }
}
extension Bool: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.bool(self) }
}
extension Double: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.double(self) }
}
extension Int: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.integer(self) }
}
extension Int32: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.integer(self) }
}
extension Int64: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.integer(self) }
}
extension UInt16: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.integer(self) }
}
extension UInt32: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.integer(self) }
}
extension UInt64: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.integer(self) }
}
/// Go's form: `"123.4ms"`.
extension Duration: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) {
    encoder.string(GoDuration.format(self))
  }
}
extension EtcdURL: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.string(description) }
}
extension Array: LogFieldValue where Element: LogFieldValue {
  public func encode(into encoder: inout LogLineEncoder) { encoder.array(self) }
}
extension Optional: LogFieldValue where Wrapped: LogFieldValue {
  public var isAbsent: Bool { self == nil }

  public func encode(into encoder: inout LogLineEncoder) {
    if let self { self.encode(into: &encoder) } else { encoder.null() }
  }
}
