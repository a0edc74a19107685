// JSON with its members in order, for log lines, state files and the control socket.

/// A JSON value. Numbers keep their text, objects keep the order of their members.
enum JSONValue: Equatable, Sendable {
  struct Member: Equatable, Sendable {
    let key: String
    let value: JSONValue

    init(_ key: String, _ value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  case null
  case bool(Bool)
  case number(String)
  case string(String)
  case array([JSONValue])
  case object([Member])

  static func int(_ value: some BinaryInteger) -> JSONValue { .number(String(value)) }

  /// The value of an object's first member of that name.
  subscript(key: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  var text: String? {
    if case .string(let text) = self { text } else { nil }
  }

  var flag: Bool? {
    if case .bool(let flag) = self { flag } else { nil }
  }

  var elements: [JSONValue]? {
    if case .array(let elements) = self { elements } else { nil }
  }

  func integer<Number: FixedWidthInteger>(as type: Number.Type = Number.self) -> Number? {
    if case .number(let digits) = self { Number(digits) } else { nil }
  }

  /// The value on one line, without spaces; control characters are escaped.
  var compactText: String {
    switch self {
    case .null: "null"
    case .bool(let flag): flag ? "true" : "false"
    case .number(let digits): digits
    case .string(let text): Self.quoted(text)
    case .array(let elements): "[" + elements.map(\.compactText).joined(separator: ",") + "]"
    case .object(let members):
      "{"
        + members.map { Self.quoted($0.key) + ":" + $0.value.compactText }
        .joined(separator: ",") + "}"
    }
  }

  /// The value over several lines, two spaces per level; empty and scalar lists stay on one line.
  func prettyText(indent: Int = 0) -> String {
    let outer = String(repeating: " ", count: indent)
    let inner = outer + "  "
    switch self {
    case .array(let elements) where !elements.isEmpty:
      let lines = elements.map { inner + $0.prettyText(indent: indent + 2) }
      return "[\n" + lines.joined(separator: ",\n") + "\n" + outer + "]"
    case .object(let members) where !members.isEmpty:
      let lines = members.map {
        inner + Self.quoted($0.key) + ": " + $0.value.prettyText(indent: indent + 2)
      }
      return "{\n" + lines.joined(separator: ",\n") + "\n" + outer + "}"
    default:
      return compactText
    }
  }

  static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case _ where isControl(scalar):
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

/// A character that a terminal would act on instead of showing it.
func isControl(_ scalar: Unicode.Scalar) -> Bool {
  scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value)
}
