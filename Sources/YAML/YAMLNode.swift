/// One value of a YAML document, and where it stands.
public struct YAMLNode: Sendable {
  public enum Value: Sendable {
    case scalar(YAMLScalar)
    case sequence([YAMLNode])
    /// In the order of the file; keys differ.
    case mapping([(key: YAMLNode, value: YAMLNode)])
  }

  public let value: Value
  /// Of its first character, from 1.
  public let line: Int

  /// nil but for a scalar.
  public var scalar: YAMLScalar? {
    if case .scalar(let scalar) = value { scalar } else { nil }
  }

  /// nil but for a sequence.
  public var sequence: [YAMLNode]? {
    if case .sequence(let elements) = value { elements } else { nil }
  }

  /// nil but for a mapping.
  public var mapping: [(key: YAMLNode, value: YAMLNode)]? {
    if case .mapping(let pairs) = value { pairs } else { nil }
  }

  /// A scalar as it is written, without quotes; nil but for a scalar.
  public var text: String? { scalar?.text }

  /// What stands under a key; nil without it, or if this is no mapping.
  public subscript(key: String) -> YAMLNode? {
    mapping?.first { $0.key.text == key }?.value
  }
}

/// A plain or quoted value.
public struct YAMLScalar: Hashable, Sendable {
  /// Without quotes, escapes resolved.
  public let text: String
  /// Neither quoted nor in block form, and without a tag: such text may mean a number, and so on.
  public let isPlain: Bool

  public init(text: String, isPlain: Bool) {
    self.text = text
    self.isPlain = isPlain
  }

  /// What plain text means, by the rules of Go's YAML library, which etcd uses.
  public var meaning: Meaning {
    isPlain ? Meaning(text) : .text
  }

  public enum Meaning: Equatable, Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    /// Also whole numbers beyond 64 bits.
    case float
    case text

    init(_ text: String) {
      switch text {
      case "", "~", "null", "Null", "NULL": self = .null
      case "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
        self = .bool(true)
      case "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
        self = .bool(false)
      default: self = Self.number(text)
      }
    }

    private static func number(_ text: String) -> Self {
      let digits = text.filter { $0 != "_" }
      if let integer = integer(digits) { return .integer(integer) }
      return isFloat(digits) ? .float : .text
    }

    /// Decimal, or with the prefix 0x, 0o, 0b or (octal) 0.
    private static func integer(_ text: String) -> Int? {
      let isNegative = text.hasPrefix("-")
      let digits = isNegative || text.hasPrefix("+") ? text.dropFirst() : Substring(text)
      guard digits.first?.isNumber == true else { return nil }
      let prefixes: [(String, Int)] = [
        ("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2), ("0", 8),
      ]
      let prefix = digits.count > 1 ? prefixes.first { digits.hasPrefix($0.0) } : nil
      let rest = digits.dropFirst(prefix?.0.count ?? 0)
      guard rest.first != "+", rest.first != "-" else { return nil }
      return Int((isNegative ? "-" : "") + rest, radix: prefix?.1 ?? 10)
    }

    private static func isFloat(_ text: String) -> Bool {
      switch text {
      case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
        ".NaN", ".NAN":
        return true
      default:
        let allowed = text.utf8.allSatisfy { "0123456789.+-eE".utf8.contains($0) }
        let hasDigit = text.utf8.contains { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        return allowed && hasDigit && Double(text) != nil
      }
    }
  }
}
