/// Decides which thread writes a batch of the log: its own, or the loop's in its place.
///
/// A write that the loop does itself saves two hand-overs between threads, which for a single
/// client is a sixth of its put. But the loop then serves nobody until the disk is done: neither clients nor
/// heartbeats. So it only does this for the few entries of a calm moment, on a disk that has proved to be
/// quick, and stays away from a disk for long that has kept it waiting once.
///
/// All times are nanoseconds of the monotonic clock.
public struct LogPlacement: Sendable {
  /// Entries of a batch beyond which there is enough work for two threads.
  static let entriesMax = 4
  static let bytesMax = 64 << 10
  /// The mean time of a sync up to which the loop can wait for it.
  static let promptSync: UInt64 = 1_000_000
  /// A single sync that nobody should wait for again soon, and how soon.
  static let stall: UInt64 = 100_000_000
  static let stallMemory: UInt64 = 60_000_000_000
  /// How long the loop's use of its processor is watched before it counts.
  static let window: UInt64 = 5_000_000

  /// Mean time of a sync, of the last sixteen or so. A disk has to prove that it is quick.
  private var meanSync: UInt64 = 16 * promptSync
  private var stalledUntil: UInt64 = 0
  private var windowStart: (time: UInt64, used: UInt64) = (0, 0)
  private var isCalm = false

  public init() {}

  /// A sync has taken so long, on whichever thread.
  public mutating func synced(nanoseconds: UInt64, now: UInt64) {
    meanSync = meanSync - meanSync / 16 + nanoseconds / 16
    if nanoseconds >= Self.stall { stalledUntil = now + Self.stallMemory }
  }

  /// Whether the loop should write a batch of so many entries itself.
  ///
  /// - Parameter processorTime: what the loop's thread has used in all; asked for once per window.
  public mutating func isOnLoop(
    _ batch: LogBatch, now: UInt64, processorTime: () -> UInt64
  ) -> Bool {
    let elapsed = now - windowStart.time
    if elapsed >= Self.window {
      let used = processorTime()
      isCalm = used - windowStart.used <= elapsed / 2
      windowStart = (now, used)
    }
    return isCalm && meanSync <= Self.promptSync && now >= stalledUntil && Self.isSmall(batch)
  }

  /// A write that needs no sync is waited for by nobody: the log's thread may have it.
  private static func isSmall(_ batch: LogBatch) -> Bool {
    guard batch.mustSync, batch.entries.count <= entriesMax, batch.releaseThrough == nil else {
      return false
    }
    return batch.entries.reduce(0) { $0 + $1.data.count } <= bytesMax
  }
}
