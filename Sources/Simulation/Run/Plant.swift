/// Known bugs of Raft and etcd, put at the edges of the simulation one at a time, to see that the
/// checks find them. The code under test stays as it is.
public enum Plant: String, CaseIterable, Sendable {
  /// A member forgets its vote when it restarts.
  case voteTwice
  /// Promises leave before the sync that they speak for.
  case acknowledgeBeforeSync
  /// Followers are told of a commit as soon as a quorum has the entry, whatever its term.
  case commitOfOlderTerm
  /// Confirmations of an old read round count for the newest (etcd #20418).
  case readIDReuse
  /// The stored applied index is ahead of the stored data (etcd #13766).
  case appliedIndexApart
  /// Truncating the log loses the hard state.
  case hardStateLostOnTruncation
  /// The leader counts a learner's acknowledgements.
  case learnerCounted
  /// A second membership change is accepted while the first waits.
  case twoChangesInFlight
  /// Watchers go on behind a received snapshot without what it skipped.
  case watchGapAfterSnapshot
  /// A new leader counts leases down from the past.
  case earlyLeaseExpiry
  /// Compaction drops the tombstone at its own revision (etcd #19179).
  case tombstoneAtCompaction
  /// A torn tail is cut off one entry too early.
  case tornTailCutTooFar
  /// A failed sync counts as done.
  case syncErrorIgnored
  /// A leader serves reads without asking the others.
  case readWithoutQuorum
  /// The revision is taken from the newest key at start (etcd #17780).
  case revisionFromKeys
  /// Progress is reported ahead of events that wait (etcd #15220).
  case progressTooEarly
}
