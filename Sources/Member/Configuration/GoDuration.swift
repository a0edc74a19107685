/// Durations as Go programs write them: `300ms`, `1h30m0s`, `-1.5h`.
///
/// etcd's flags, environment, configuration file and log lines all use this form, and scripts
/// match on the exact text, so both directions follow Go's rules to the digit.
public enum GoDuration {
  /// Why a text is no duration. `description` is Go's own wording.
  public enum ParseError: Error, Equatable, CustomStringConvertible {
    case invalid(String)
    case missingUnit(String)
    case unknownUnit(String, unit: String)

    public var description: String {
      switch self {
      case .invalid(let text): "time: invalid duration \(text.goQuoted)"
      case .missingUnit(let text): "time: missing unit in duration \(text.goQuoted)"
      case .unknownUnit(let text, let unit):
        "time: unknown unit \(unit.goQuoted) in duration \(text.goQuoted)"
      }
    }
  }

  /// Nanoseconds per unit, or nil if `unit` is none of Go's.
  private static func nanoseconds(perUnit unit: Substring) -> UInt64? {
    switch unit {
    case "ns": 1
    case "us", "\u{B5}s", "\u{3BC}s": 1_000
    case "ms": 1_000_000
    case "s": 1_000_000_000
    case "m": 60_000_000_000
    case "h": 3_600_000_000_000
    default: nil
    }
  }

  /// Parses a signed sequence of decimal numbers, each with a unit. `0` alone needs no unit.
  public static func parse(_ text: String) throws(ParseError) -> Duration {
    var rest = Substring(text)
    var negative = false
    if let sign = rest.first, sign == "-" || sign == "+" {
      negative = sign == "-"
      rest = rest.dropFirst()
    }
    if rest == "0" { return .zero }
    guard !rest.isEmpty else { throw .invalid(text) }
    // Go keeps one more negative than positive value; the sum may reach 2^63 before the sign.
    var total: UInt64 = 0
    while !rest.isEmpty {
      let term = try parseTerm(&rest, of: text)
      let (sum, overflow) = total.addingReportingOverflow(term)
      guard !overflow, sum <= 1 << 63 else { throw .invalid(text) }
      total = sum
    }
    if negative {
      return .nanoseconds(total == 1 << 63 ? Int64.min : -Int64(total))
    }
    guard total < 1 << 63 else { throw .invalid(text) }
    return .nanoseconds(Int64(total))
  }

  /// Takes one number and its unit off `rest`. Returns nanoseconds.
  private static func parseTerm(_ rest: inout Substring, of text: String) throws(ParseError)
    -> UInt64
  {
    let whole = rest.prefix { $0.isASCIIDigit }
    rest = rest.dropFirst(whole.count)
    var fraction: Substring = ""
    if rest.first == "." {
      rest = rest.dropFirst()
      fraction = rest.prefix { $0.isASCIIDigit }
      rest = rest.dropFirst(fraction.count)
    }
    guard !whole.isEmpty || !fraction.isEmpty else { throw .invalid(text) }
    guard let wholeValue = whole.isEmpty ? 0 : UInt64(whole) else { throw .invalid(text) }
    let unit = rest.prefix { $0 != "." && !$0.isASCIIDigit }
    guard !unit.isEmpty else { throw .missingUnit(text) }
    rest = rest.dropFirst(unit.count)
    guard let scale = nanoseconds(perUnit: unit) else {
      throw .unknownUnit(text, unit: String(unit))
    }
    let (product, overflow) = wholeValue.multipliedReportingOverflow(by: scale)
    guard !overflow else { throw .invalid(text) }
    return product + fractionNanoseconds(fraction, scale: scale)
  }

  /// The part after the point, cut (not rounded) to whole nanoseconds.
  private static func fractionNanoseconds(_ digits: Substring, scale: UInt64) -> UInt64 {
    var numerator: UInt64 = 0
    var denominator: UInt64 = 1
    for digit in digits.utf8.prefix(18) {
      numerator = numerator * 10 + UInt64(digit - 0x30)
      denominator *= 10
    }
    let (high, low) = numerator.multipliedFullWidth(by: scale)
    return denominator.dividingFullWidth((high, low)).quotient
  }

  /// Go's `Duration.String`: `1h30m0s`, `2.5s`, `1.5ms`, `0s`. Finer than 1 ns is cut off.
  public static func format(_ duration: Duration) -> String {
    format(nanoseconds: duration.wholeNanoseconds)
  }

  public static func format(nanoseconds value: Int64) -> String {
    let sign = value < 0 ? "-" : ""
    let magnitude = value.magnitude
    if magnitude == 0 { return "0s" }
    if magnitude < 1_000_000_000 {
      if magnitude < 1_000 { return "\(sign)\(magnitude)ns" }
      if magnitude < 1_000_000 {
        return sign + decimal(magnitude, fractionDigits: 3) + "\u{B5}s"
      }
      return sign + decimal(magnitude, fractionDigits: 6) + "ms"
    }
    let minutes = magnitude / 60_000_000_000
    let seconds = decimal(magnitude % 60_000_000_000, fractionDigits: 9) + "s"
    if minutes == 0 { return sign + seconds }
    if minutes < 60 { return "\(sign)\(minutes)m\(seconds)" }
    return "\(sign)\(minutes / 60)h\(minutes % 60)m\(seconds)"
  }

  /// `value` / 10^fractionDigits without trailing zeros: 1500 with 3 digits is `1.5`.
  private static func decimal(_ value: UInt64, fractionDigits: Int) -> String {
    var scale: UInt64 = 1
    for _ in 0..<fractionDigits { scale *= 10 }
    let fraction = value % scale
    guard fraction != 0 else { return String(value / scale) }
    var digits = String(fraction)
    digits = String(repeating: "0", count: fractionDigits - digits.count) + digits
    while digits.last == "0" { digits.removeLast() }
    return "\(value / scale).\(digits)"
  }
}

extension Duration {
  /// Whole nanoseconds, clamped to what an `Int64` holds (about 292 years).
  public var wholeNanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    let limit = seconds < 0 ? Int64.min : Int64.max
    if overflow { return limit }
    let (sum, carry) = product.addingReportingOverflow(attoseconds / 1_000_000_000)
    return carry ? limit : sum
  }
}

extension Character {
  /// `0` to `9` only; `isNumber` would accept other scripts.
  var isASCIIDigit: Bool { ("0"..."9").contains(self) && isASCII }
}

extension String {
  /// The text as Go's `%q` prints it: double quotes, backslash escapes.
  public var goQuoted: String {
    var out = "\""
    for scalar in unicodeScalars {
      switch scalar {
      case "\"": out += "\\\""
      case "\\": out += "\\\\"
      case "\n": out += "\\n"
      case "\r": out += "\\r"
      case "\t": out += "\\t"
      case _ where scalar.value < 0x20 || scalar.value == 0x7F:
        let digits = String(scalar.value, radix: 16)
        out += "\\x" + (digits.count == 1 ? "0" : "") + digits
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out + "\""
  }
}
