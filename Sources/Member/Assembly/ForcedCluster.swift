import Base
import RaftActor
import StoreActor

/// What `--force-new-cluster` makes of a member's log: a cluster of this member alone, with all data.
///
/// Entries that no quorum is known to have are dropped, and the removal of every other member is put
/// behind the rest as if it had been decided. Identity and data stay.
struct ForcedCluster: Equatable {
  let hardState: HardState
  /// What stays of the log.
  let kept: [Entry]
  /// What is written behind it, committed.
  let appended: [Entry]
  let removed: [MemberID]

  /// - Parameters:
  ///   - membership: as of `applied`.
  ///   - advertised: peer URLs for a member that its own log does not know.
  /// - Throws: `StorageError` if the member was removed: its id cannot come back.
  init(
    member: MemberID, name: String, advertised: [String], membership: Membership,
    applied: LogIndex, hardState: HardState, base: SnapshotMetadata, entries: [Entry]
  ) throws(StorageError) {
    let commit = max(hardState.commit, applied, base.index)
    kept = entries.filter { $0.index <= commit }
    let membership = Self.membership(after: kept, from: applied, membership)
    guard !membership.removed.contains(member) else {
      throw StorageError(
        "member \(member.hex) was removed from the cluster, and its id cannot be used again; "
          + "--force-new-cluster needs the data of a member. Restore a snapshot instead")
    }
    var changes = membership.members.filter { $0.id != member }.map {
      ConfChange(kind: .removeNode, nodeID: $0.id)
    }
    removed = changes.map(\.nodeID)
    if let own = membership[id: member] {
      if own.isLearner {
        let context = MemberContext(record: own, isPromote: true)
        changes.append(ConfChange(kind: .addNode, nodeID: member, context: context.encoded()))
      }
    } else {
      let record = MemberRecord(id: member, peerURLs: advertised, name: name)
      changes.append(
        ConfChange(
          kind: .addNode, nodeID: member, context: MemberContext(record: record).encoded()))
    }
    let last = kept.last.map { ($0.index, $0.term) } ?? (base.index, base.term)
    let term = max(hardState.term, last.1)
    var appended = changes.enumerated().map { position, change in
      Entry(
        term: term, index: last.0 + LogIndex(position + 1), kind: .configurationChange,
        data: change.encoded())
    }
    if appended.isEmpty, kept.count < entries.count {
      // An entry without effect takes the place of those that are dropped.
      appended = [Entry(term: term, index: last.0 + 1)]
    }
    self.appended = appended
    self.hardState = HardState(
      term: term, vote: hardState.term == term ? hardState.vote : 0,
      commit: appended.last?.index ?? last.0)
  }

  /// Changes that the log refuses are refused here alike.
  private static func membership(
    after entries: [Entry], from applied: LogIndex, _ membership: Membership
  ) -> Membership {
    var membership = membership
    for entry in entries where entry.kind == .configurationChange && entry.index > applied {
      guard let change = try? ConfChange(decoding: entry.data) else { continue }
      try? membership.apply(change, maxLearners: .max)
    }
    return membership
  }
}
