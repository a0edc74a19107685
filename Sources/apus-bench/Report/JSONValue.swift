// JSON, written by hand: the reports are small and their order matters to readers.

import Base

/// An encoded JSON value.
struct JSONValue: CustomStringConvertible {
  let description: String

  static func integer(_ value: Int) -> JSONValue { JSONValue(description: "\(value)") }

  /// Rounded to three decimals.
  static func number(_ value: Double) -> JSONValue {
    JSONValue(description: value.isFinite ? "\((value * 1000).rounded() / 1000)" : "null")
  }

  static func text(_ value: String) -> JSONValue { JSONValue(description: JSONText.string(value)) }

  static func object(_ members: [(String, JSONValue)]) -> JSONValue {
    let inner = members.map { name, value in JSONText.string(name) + ": " + value.description }
    return JSONValue(description: "{" + inner.joined(separator: ", ") + "}")
  }
}
