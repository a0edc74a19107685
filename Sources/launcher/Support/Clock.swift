// Times as people read them.

import Glibc

enum Clock {
  /// The local time of day, `12:03:04.123`.
  static func timeOfDay() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    var seconds = now.tv_sec
    localtime_r(&seconds, &parts)
    let milliseconds = now.tv_nsec / 1_000_000
    return padded(Int(parts.tm_hour), 2) + ":" + padded(Int(parts.tm_min), 2) + ":"
      + padded(Int(parts.tm_sec), 2) + "." + padded(milliseconds, 3)
  }

  /// A duration in its two largest units: `12s`, `3m04s`, `2h05m`, `4d03h`.
  static func uptime(seconds: Int) -> String {
    let (days, hours) = (seconds / 86400, seconds / 3600 % 24)
    let minutes = seconds / 60 % 60
    if days > 0 { return "\(days)d\(padded(hours, 2))h" }
    if hours > 0 { return "\(hours)h\(padded(minutes, 2))m" }
    if minutes > 0 { return "\(minutes)m\(padded(seconds % 60, 2))s" }
    return "\(seconds)s"
  }

  /// A wait with one decimal: `0.7 s`.
  static func wait(nanoseconds: UInt64) -> String {
    let tenths = (nanoseconds + 50_000_000) / 100_000_000
    return "\(tenths / 10).\(tenths % 10) s"
  }

  private static func padded(_ number: Int, _ width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}
