public import Actors
import Base

/// When to compact by itself (`--auto-compaction-mode`, `--auto-compaction-retention`): a value
/// machine with etcd's schedule. Times are nanoseconds of the monotonic clock.
public struct CompactionSchedule: Sendable {
  public enum Policy: Equatable, Sendable {
    case off
    /// Keep about this much time of history.
    case periodic(retention: UInt64)
    /// Keep this many revisions.
    case revisions(Int64)
  }

  private static let hour: UInt64 = 3_600_000_000_000
  private static let revisionInterval: UInt64 = 300_000_000_000

  private let policy: Policy
  private var nextLook: UInt64
  /// Revisions seen at past looks, oldest first.
  private var samples: [Int64] = []
  private var lastSuccess: UInt64
  private var hasSucceeded = false
  private var lastRevision: Int64 = 0
  private var proposed: Int64?

  public init(policy: Policy, now: UInt64) {
    self.policy = policy
    lastSuccess = now
    nextLook = now
    switch policy {
    case .off: nextLook = .max
    case .periodic: break
    case .revisions: nextLook += Self.revisionInterval
    }
  }

  /// Nanoseconds between two looks at the revision.
  public var interval: UInt64 {
    switch policy {
    case .off: .max
    case .periodic(let retention): max(1, min(retention, Self.hour) / 10)
    case .revisions: Self.revisionInterval
    }
  }

  /// - Parameter mayCompact: only the leader compacts; the others keep taking samples.
  /// - Returns: the revision to compact at. Nothing more happens before `finished` tells how it went.
  public mutating func tick(now: UInt64, revision: Int64, mayCompact: Bool) -> Int64? {
    guard policy != .off, proposed == nil, now >= nextLook else { return nil }
    nextLook += interval
    if nextLook <= now { nextLook = now + interval }
    switch policy {
    case .off: return nil
    case .revisions(let kept):
      let target = revision - kept
      if mayCompact, target > 0, target != lastRevision { proposed = target }
    case .periodic(let retention):
      if mayCompact, let oldest = samples.first, isDue(now, retention), oldest != lastRevision {
        proposed = oldest
      }
      // After the decision, as etcd does: what is compacted is at least the whole period old.
      samples.append(revision)
      let window = Int(clamping: retention / interval) + 1
      if samples.count > window { samples.removeFirst(samples.count - window) }
    }
    return proposed
  }

  private func isDue(_ now: UInt64, _ retention: UInt64) -> Bool {
    now - lastSuccess >= (hasSucceeded ? min(retention, Self.hour) : retention)
  }

  /// - Parameter succeeded: also if history was compacted further already. Otherwise the next look
  ///   tries again.
  public mutating func finished(now: UInt64, succeeded: Bool) {
    guard let revision = proposed else { return }
    proposed = nil
    guard succeeded else { return }
    lastRevision = revision
    lastSuccess = now
    hasSucceeded = true
  }
}

public enum CompactorInput: Sendable {
  case tick(revision: Int64, isLeader: Bool)
  /// The compaction that was asked for is in force, or was not needed.
  case finished(Bool)
}

/// The actor that has history compacted on schedule. Lives on the STORE thread.
public actor Compactor {
  private nonisolated let executor: any ActorExecutor
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  public nonisolated let inbox = Inbox<CompactorInput>(name: "compactor", limit: 1 << 16)
  private var schedule: CompactionSchedule
  private let compact: @Sendable (_ revision: Int64) -> Void

  /// - Parameter compact: puts a compaction into the log; its outcome comes back as `finished`.
  public init(
    schedule: CompactionSchedule, executor: any ActorExecutor,
    compact: @escaping @Sendable (Int64) -> Void
  ) {
    self.schedule = schedule
    self.executor = executor
    self.compact = compact
  }

  public nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { compactor in
        for input in batch { compactor.handle(input) }
      }
    }
  }

  private func handle(_ input: CompactorInput) {
    let now = monotonicNanoseconds()
    switch input {
    case .tick(let revision, let isLeader):
      if let target = schedule.tick(now: now, revision: revision, mayCompact: isLeader) {
        compact(target)
      }
    case .finished(let succeeded): schedule.finished(now: now, succeeded: succeeded)
    }
  }
}
