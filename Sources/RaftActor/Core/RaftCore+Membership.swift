import Base

extension RaftCore {
  /// The configuration in force: that of the last applied change, or of an accepted snapshot.
  public var confState: ConfState {
    ConfState(
      voters: members.filter { !$0.isLearner }.map(\.id),
      learners: members.filter(\.isLearner).map(\.id))
  }

  /// Puts a membership change in force. Call it when applying a configuration entry, before
  /// ``applied(through:)`` reports that entry, on every member.
  ///
  /// - Parameter change: node id 0 stands for a change that was refused on apply: nothing happens.
  /// - Returns: the configuration now in force.
  @discardableResult
  public mutating func applyConfChange(_ change: ConfChange) -> ConfState {
    guard change.nodeID != 0 else { return confState }
    switch change.kind {
    case .addNode: setMember(change.nodeID, isLearner: false)
    case .addLearnerNode: setMember(change.nodeID, isLearner: true)
    case .removeNode: removeMember(change.nodeID)
    case .updateNode: break
    }
    if transferee != 0, !isVoter(transferee) { transferee = 0 }
    if role == .leader {
      // A smaller quorum may already have what a larger one was waiting for.
      advanceCommit()
      confirmReads()
    }
    return confState
  }

  func isVoter(_ member: MemberID) -> Bool {
    guard let slot = memberSlot(member) else { return false }
    return !members[slot].isLearner
  }

  private func isLastVoter(_ member: MemberID) -> Bool {
    isVoter(member) && members.filter { !$0.isLearner }.count == 1
  }

  private mutating func setMember(_ member: MemberID, isLearner: Bool) {
    if let slot = memberSlot(member) {
      // Without a voter nothing could ever be committed again.
      if isLearner && isLastVoter(member) { return }
      members[slot].isLearner = isLearner
      return
    }
    insertMember(member, isLearner: isLearner)
  }

  private mutating func insertMember(_ member: MemberID, isLearner: Bool) {
    var progress = Progress(
      id: member, isLearner: isLearner, next: max(log.lastIndex, 1), recentActive: true,
      configuration: configuration)
    if member == id {
      progress.becomeReplicate()
      _ = progress.acknowledge(durable)
    }
    let slot = members.firstIndex { $0.id > member } ?? members.count
    members.insert(progress, at: slot)
  }

  private mutating func removeMember(_ member: MemberID) {
    guard !isLastVoter(member), let slot = memberSlot(member) else { return }
    members.remove(at: slot)
    outSnapshotWanted.removeAll { $0 == member }
  }

  /// Replaces the whole configuration: at start, and with a snapshot.
  mutating func setMembers(_ state: ConfState) {
    members.removeAll(keepingCapacity: true)
    for voter in state.voters where memberSlot(voter) == nil {
      insertMember(voter, isLearner: false)
    }
    for learner in state.learners where memberSlot(learner) == nil {
      insertMember(learner, isLearner: true)
    }
  }
}
