// JSON as Go's encoding/json writes it.

/// One JSON object under construction. Members keep their order; those named `nonZero` are left out
/// when they say nothing.
struct JSONObject {
  private var text = "{"

  var closed: String { text + "}" }
  var isEmpty: Bool { text == "{" }

  mutating func raw(_ name: String, _ value: String) {
    if text != "{" { text += "," }
    text += "\"\(name)\":\(value)"
  }

  mutating func number(_ name: String, _ value: some BinaryInteger) { raw(name, "\(value)") }
  mutating func bool(_ name: String, _ value: Bool) { raw(name, value ? "true" : "false") }
  mutating func string(_ name: String, _ value: String) { raw(name, JSON.string(value)) }

  mutating func nonZero(_ name: String, _ value: some BinaryInteger) {
    if value != 0 { number(name, value) }
  }

  mutating func nonZero(_ name: String, _ value: Bool) {
    if value { bool(name, true) }
  }

  mutating func nonZero(_ name: String, _ value: String) {
    if !value.isEmpty { string(name, value) }
  }

  /// Base64.
  mutating func nonZero(_ name: String, bytes: some Collection<UInt8>) {
    if !bytes.isEmpty { raw(name, JSON.base64(bytes)) }
  }

  mutating func nonZero(_ name: String, array: [String]) {
    if !array.isEmpty { raw(name, JSON.array(array)) }
  }
}

enum JSON {
  static func array(_ items: [String]) -> String { "[" + items.joined(separator: ",") + "]" }

  static func string(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 0x22: result += "\\\""
      case 0x5c: result += "\\\\"
      case 0x0a: result += "\\n"
      case 0x0d: result += "\\r"
      case 0x09: result += "\\t"
      case 0x08: result += "\\b"
      case 0x0c: result += "\\f"
      case 0..<0x20, 0x3c, 0x3e, 0x26, 0x2028, 0x2029:
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  /// Quoted standard base64 with padding.
  static func base64(_ bytes: some Collection<UInt8>) -> String {
    let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    let source = Array(bytes)
    var text: [UInt8] = [UInt8(ascii: "\"")]
    text.reserveCapacity((source.count + 2) / 3 * 4 + 2)
    for start in stride(from: 0, to: source.count, by: 3) {
      let group = source[start..<min(start + 3, source.count)]
      var bits: UInt32 = 0
      for byte in group { bits = bits << 8 | UInt32(byte) }
      bits <<= UInt32(3 - group.count) * 8
      for digit in 0..<4 {
        let index = Int(bits >> UInt32(18 - 6 * digit) & 63)
        text.append(digit <= group.count ? alphabet[index] : UInt8(ascii: "="))
      }
    }
    text.append(UInt8(ascii: "\""))
    return String(decoding: text, as: UTF8.self)
  }
}
