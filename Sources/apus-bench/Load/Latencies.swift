// A histogram of times.

import Histogram

/// Times from 1 ns to 10 minutes, exact to three digits.
struct Latencies: Sendable {
  private var histogram = Histogram<UInt64>(
    highestTrackableValue: 600_000_000_000, numberOfSignificantValueDigits: .three)
  private(set) var count = 0

  mutating func record(_ nanoseconds: UInt64, count: Int = 1) {
    histogram.record(min(nanoseconds, 600_000_000_000), count: UInt64(count))
    self.count += count
  }

  mutating func add(_ other: Latencies) {
    histogram.add(other.histogram)
    count += other.count
  }

  func percentile(_ value: Double) -> UInt64 { histogram.valueAtPercentile(value) }

  var mean: Double { count == 0 ? 0 : histogram.mean }
  var deviation: Double { count == 0 ? 0 : histogram.stdDeviation }
  var least: UInt64 { count == 0 ? 0 : histogram.min }
  var most: UInt64 { count == 0 ? 0 : histogram.maxRecorded }
}
