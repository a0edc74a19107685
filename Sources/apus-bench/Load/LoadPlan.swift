// How a load is put on servers, apart from what its requests say.

import EtcdClient

/// Where the calls go, how many at a time, how fast, for how long.
struct LoadPlan: Sendable {
  var endpoints: [Endpoint]
  var connections: Int
  var streams: Int
  var workers: Int
  /// Calls per second by the clock; 0 sends the next one when the last was answered.
  var rate: Double
  var warmUpNanoseconds: UInt64
  var durationNanoseconds: UInt64
  /// Ends after so many calls; 0 for no such end.
  var total: Int
  /// Calls due within one tick of a fixed rate are sent together.
  var tickNanoseconds: UInt64 = 1_000_000
  var connectTimeoutMilliseconds = 10_000
}

/// What came of it. Times are nanoseconds.
struct LoadResult: Sendable {
  var latencies: [Method: Latencies] = [:]
  var errors: [String: Int] = [:]
  /// Calls that had no answer some seconds after the end.
  var unanswered = 0
  var elapsedNanoseconds: UInt64 = 0

  var succeeded: Int { latencies.values.reduce(0) { $0 + $1.count } }
  var failed: Int { errors.values.reduce(0, +) }

  mutating func add(_ other: LoadResult) {
    for (method, more) in other.latencies { latencies[method, default: Latencies()].add(more) }
    for (text, count) in other.errors { errors[text, default: 0] += count }
    unanswered += other.unanswered
    elapsedNanoseconds = max(elapsedNanoseconds, other.elapsedNanoseconds)
  }
}
