// How a load is put on servers, apart from what its requests say.

/// Where the calls go, how many at a time, how fast, for how long.
struct LoadPlan: Sendable {
  var target: LoadTarget
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
  /// Of these, calls that were answered before the end. With a fixed rate, later answers count for
  /// the times too, but not for what was done per second.
  var inTime: [Method: Int] = [:]
  var errors: [String: Int] = [:]
  /// Calls that had no answer some seconds after the end.
  var unanswered = 0
  /// Calls that have ended, well or not, and bytes of messages in their answers; those of the
  /// warm-up too.
  var ended = 0
  var receivedBytes = 0
  var elapsedNanoseconds: UInt64 = 0

  mutating func add(_ other: LoadResult) {
    for (method, more) in other.latencies { latencies[method, default: Latencies()].add(more) }
    for (method, count) in other.inTime { inTime[method, default: 0] += count }
    for (text, count) in other.errors { errors[text, default: 0] += count }
    unanswered += other.unanswered
    ended += other.ended
    receivedBytes += other.receivedBytes
    elapsedNanoseconds = max(elapsedNanoseconds, other.elapsedNanoseconds)
  }
}
