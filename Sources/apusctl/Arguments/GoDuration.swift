// Durations as Go reads and prints them.

/// Go's `time.ParseDuration` and `Duration.String`. Nanoseconds.
enum GoDuration {
  private static let units: [(name: String, scale: Double)] = [
    ("ns", 1), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9),
    ("h", 3600e9),
  ]

  static func parse(_ text: String) throws(GoNumberError) -> Duration {
    var rest = Substring(text)
    var sign = 1.0
    if rest.hasPrefix("-") || rest.hasPrefix("+") {
      sign = rest.hasPrefix("-") ? -1 : 1
      rest.removeFirst()
    }
    if rest == "0" { return .zero }
    guard !rest.isEmpty else { throw invalid(text) }
    var total = 0.0
    while !rest.isEmpty {
      let number = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      guard let value = Double(number.hasPrefix(".") ? "0" + number : String(number)) else {
        throw invalid(text)
      }
      rest = rest.dropFirst(number.count)
      let name = rest.prefix { $0 != "." && !($0.isASCII && $0.isNumber) }
      guard !name.isEmpty else {
        throw GoNumberError(
          description: "time: missing unit in duration \(GoText.quote(text))")
      }
      guard let unit = units.first(where: { $0.name == name }) else {
        throw GoNumberError(
          description: "time: unknown unit \(GoText.quote(String(name))) in duration "
            + GoText.quote(text))
      }
      total += value * unit.scale
      rest = rest.dropFirst(name.count)
    }
    guard total < 9.2e18 else { throw invalid(text) }
    return .nanoseconds(Int64(sign * total))
  }

  private static func invalid(_ text: String) -> GoNumberError {
    GoNumberError(description: "time: invalid duration \(GoText.quote(text))")
  }

  /// `1m1.5s`, `3.03963ms`, `883.754µs`, `17ns`, `0s`.
  static func format(nanoseconds: UInt64) -> String {
    switch nanoseconds {
    case 0: return "0s"
    case ..<1_000: return "\(nanoseconds)ns"
    case ..<1_000_000: return decimal(nanoseconds, 1_000, 3) + "µs"
    case ..<1_000_000_000: return decimal(nanoseconds, 1_000_000, 6) + "ms"
    default: break
    }
    let seconds = decimal(nanoseconds % 60_000_000_000, 1_000_000_000, 9) + "s"
    let minutes = nanoseconds / 60_000_000_000
    if minutes == 0 { return seconds }
    let hours = minutes / 60
    return (hours > 0 ? "\(hours)h" : "") + "\(minutes % 60)m" + seconds
  }

  static func format(_ duration: Duration) -> String {
    let (seconds, attoseconds) = duration.components
    let sign = seconds < 0 || attoseconds < 0 ? "-" : ""
    return sign
      + format(
        nanoseconds: seconds.magnitude * 1_000_000_000 + attoseconds.magnitude / 1_000_000_000)
  }

  private static func decimal(_ value: UInt64, _ scale: UInt64, _ width: Int) -> String {
    let fraction = String(value % scale)
    var digits = String(repeating: "0", count: width - fraction.count) + fraction
    while digits.hasSuffix("0") { digits.removeLast() }
    return "\(value / scale)" + (digits.isEmpty ? "" : "." + digits)
  }
}
