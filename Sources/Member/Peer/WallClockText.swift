import Glibc

/// The wall clock in UTC as Go writes it in JSON: `2006-01-02T15:04:05.000000000Z`.
func wallClockText() -> String {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  var seconds = time.tv_sec
  var parts = tm()
  gmtime_r(&seconds, &parts)
  func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
  }
  let date = [Int(parts.tm_mon) + 1, Int(parts.tm_mday)].map { padded($0, 2) }
  let clock = [parts.tm_hour, parts.tm_min, parts.tm_sec].map { padded(Int($0), 2) }
  return padded(Int(parts.tm_year) + 1900, 4) + "-" + date.joined(separator: "-") + "T"
    + clock.joined(separator: ":") + "." + padded(time.tv_nsec, 9) + "Z"
}
