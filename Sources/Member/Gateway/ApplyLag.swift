import Base
import RaftActor

/// Whether the store has fallen so far behind what is committed that writes are refused, as in etcd.
///
/// etcd looks at the moment: 5,000 entries between commit and apply. Here entries are committed and
/// applied in batches, and with ten thousand clients one batch is more than that, though it is applied
/// within milliseconds. So only a lag counts that lasts.
struct ApplyLag {
  static let entriesMax: UInt64 = 5000
  /// Nanoseconds after which all that was committed should have been applied.
  static let patience: UInt64 = 500_000_000

  private var sampledAt: UInt64 = 0
  private var committed: LogIndex = 0
  private var lasts = false

  /// - Parameter now: monotonic nanoseconds.
  mutating func tick(now: UInt64, commit: LogIndex, applied: LogIndex) {
    guard now >= sampledAt + Self.patience else { return }
    lasts = applied < committed
    sampledAt = now
    committed = commit
  }

  func refuses(commit: LogIndex, applied: LogIndex) -> Bool {
    lasts && commit > applied + Self.entriesMax
  }
}
