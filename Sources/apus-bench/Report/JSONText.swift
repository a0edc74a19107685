// JSON, written by hand: the reports are small and their order matters to readers.

/// An encoded JSON value.
struct JSONText: CustomStringConvertible {
  let description: String

  static func integer(_ value: Int) -> JSONText { JSONText(description: "\(value)") }

  /// Rounded to three decimals.
  static func number(_ value: Double) -> JSONText {
    JSONText(description: value.isFinite ? "\((value * 1000).rounded() / 1000)" : "null")
  }

  static func text(_ value: String) -> JSONText { JSONText(description: quoted(value)) }

  static func object(_ members: [(String, JSONText)]) -> JSONText {
    let inner = members.map { name, value in quoted(name) + ": " + value.description }
    return JSONText(description: "{" + inner.joined(separator: ", ") + "}")
  }

  private static func quoted(_ text: String) -> String {
    var out = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }
}
