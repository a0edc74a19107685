/// What must hold after every step, by the numbers under which `docs/testing.md` lists them.
public enum Invariant: Int, CaseIterable, Sendable {
  /// A term has at most one leader.
  case electionSafety = 1
  /// A member grants one candidate per term, crashes included; the grant is durable when it leaves.
  case voteOnce
  /// Durable terms never decrease; no message but of a pre-vote carries one that is not durable.
  case termMonotonic
  /// Equal index and term mean equal entries, and equal entries before them.
  case logMatching
  /// A leader never replaces or drops entries of its own.
  case leaderAppendOnly
  /// A new leader holds everything committed.
  case leaderCompleteness
  /// What is committed anywhere never changes, not through snapshots or restarts either.
  case committedImmutable
  /// A commit is of the leader's term and on durable storage of a quorum.
  case commitRule
  /// base <= applied <= committed <= last, durable <= last; monotonic while the process lives.
  case pointerOrder
  /// An acknowledged append is durable here when the acknowledgement leaves.
  case ackAfterDurable
  /// A client is answered after its entry was committed by the rule and applied where it asked.
  case clientAck
  /// One membership change at a time, each altering one voter; learners never count.
  case configurationSafety
  /// A leader without its quorum steps down; a pre-vote changes nothing.
  case quorumContact
  /// A snapshot never takes back what was applied, and is the state at its index.
  case snapshotInstall
  /// After a crash the log holds everything acknowledged, the vote and term promised.
  case recovery
  /// A damaged record below what is known to be synced is never cut off silently.
  case corruption
  /// After a failed write or sync the process promises nothing any more.
  case failStop
  /// The stored state is the one of the stored index.
  case atomicApply
  /// Equal applied index means equal state.
  case determinism
  /// A changing entry takes exactly one revision, any other none; it never goes back.
  case revision
  /// Versions, create revisions and tombstones follow each key's history.
  case keyHistory
  /// Reads at and above the compact revision are those of an uncompacted store; below, refused.
  case compaction
  /// A linearizable read sees everything that was committed when it was asked.
  case linearizableRead
  /// Watchers get exactly the events they asked for, in order, whole revisions.
  case watch
  /// A lease ends by a committed revocation, never before its time.
  case lease
  /// Not of the numbered list: after the faults end, the cluster agrees and serves again.
  case liveness
}

/// Something that must never happen, and did.
public struct Violation: Error, Equatable, Sendable, CustomStringConvertible {
  public let invariant: Invariant
  public let text: String

  public init(_ invariant: Invariant, _ text: String) {
    self.invariant = invariant
    self.text = text
  }

  public var description: String { "\(invariant) (\(invariant.rawValue)): \(text)" }
}

/// Throws unless `condition` holds; the text is only made then.
@inline(__always)
func require(
  _ condition: Bool, _ invariant: Invariant, _ text: @autoclosure () -> String
) throws(Violation) {
  if !condition { throw Violation(invariant, text()) }
}
