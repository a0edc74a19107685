import Base
import StoreActor

/// Linearizable reads on their way to a confirmed index: all that wait when a round begins share it.
///
/// A value machine: the owner sends the ids it returns to Raft, and tells it what comes back.
struct ReadCoordinator: Sendable {
  private struct Round: Sendable {
    /// Ids under which the round was asked; each try has a new one, any answer will do.
    var ids: [UInt64]
    var reads: [StoreRead]
    let startedAt: UInt64
    var askedAt: UInt64
  }

  private var waiting: [StoreRead] = []
  private var waitingSince: UInt64 = 0
  private var round: Round?
  /// Nanoseconds between two tries of a round, and the longest that one may take.
  private let retryAfter: UInt64
  private let giveUpAfter: UInt64

  init(retryAfter: UInt64 = 500_000_000, giveUpAfter: UInt64) {
    self.retryAfter = retryAfter
    self.giveUpAfter = giveUpAfter
  }

  mutating func add(_ read: StoreRead, now: UInt64) {
    if waiting.isEmpty { waitingSince = now }
    waiting.append(read)
  }

  /// Whether a round can begin: call `begin` with a fresh id, and ask Raft with it.
  var wantsRound: Bool { round == nil && !waiting.isEmpty }

  mutating func begin(id: UInt64, now: UInt64) {
    precondition(wantsRound)
    round = Round(ids: [id], reads: waiting, startedAt: waitingSince, askedAt: now)
    waiting = []
  }

  /// Under which the round was asked last; 0 if there is none.
  var lastID: UInt64 { round?.ids.last ?? 0 }

  /// Raft has confirmed `id`.
  /// - Returns: the reads that may be served at that index; empty for an id of an older round.
  mutating func confirmed(id: UInt64) -> [StoreRead] {
    guard let current = round, current.ids.contains(id) else { return [] }
    round = nil
    return current.reads
  }

  /// Whether the round under way should be asked again with a new id: see `retry`.
  func wantsRetry(now: UInt64, leaderChanged: Bool) -> Bool {
    guard let round else { return false }
    return leaderChanged || now - round.askedAt >= retryAfter
  }

  mutating func retry(id: UInt64, now: UInt64) {
    round?.ids.append(id)
    round?.askedAt = now
  }

  /// Reads that have waited too long, which are given up.
  mutating func expired(now: UInt64) -> [StoreRead] {
    guard let current = round, now - current.startedAt >= giveUpAfter else { return [] }
    round = nil
    return current.reads
  }
}
