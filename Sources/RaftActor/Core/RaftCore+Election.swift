import Base

extension RaftCore {
  /// Only a voter that has its whole state may lead.
  var isPromotable: Bool {
    pendingSnapshot == 0 && isVoter(id)
  }

  /// Starts an election now, as when the election timeout passes.
  public mutating func campaign() {
    guard canCampaign else { return }
    if configuration.preVote {
      becomePreCandidate()
    } else {
      becomeCandidate(isTransfer: false)
    }
  }

  private var canCampaign: Bool {
    // A committed membership change that is not applied yet would make this member count the wrong
    // quorum.
    role != .leader && isPromotable && !log.hasConfiguration(after: applied, through: commit)
  }

  mutating func onTimeoutNow() {
    guard role == .follower, canCampaign else { return }
    becomeCandidate(isTransfer: true)
  }

  mutating func drawElectionTimeout() {
    let ticks = configuration.electionTicks
    electionTimeout = ticks + Int(generator.next() % UInt64(ticks))
  }

  /// The connection to the leader broke: most of the random part of the timeout is spared. A leader
  /// that lives goes on unharmed, since its heartbeats start the timeout anew, and nobody grants a
  /// vote before the least timeout has passed.
  mutating func expectLossOfLeader() {
    let ticks = configuration.electionTicks
    let spread = max(1, ticks / 3)
    // Drawn only once, or many losses would bring all members to the same least timeout.
    guard role == .follower, electionTimeout >= ticks + spread else { return }
    electionTimeout = ticks + Int(generator.next() % UInt64(spread))
  }

  // MARK: - Roles

  mutating func becomeFollower(term: Term, leader: MemberID) {
    reset(term: term)
    role = .follower
    self.leader = leader
  }

  private mutating func becomePreCandidate() {
    role = .preCandidate
    leader = 0
    electionElapsed = 0
    drawElectionTimeout()
    for slot in members.indices { members[slot].granted = nil }
    requestVotes(kind: .preVote, term: term + 1, context: [])
    countVote(from: id, granted: true)
  }

  /// The own vote counts when `persisted(_:)` covers it.
  private mutating func becomeCandidate(isTransfer: Bool) {
    reset(term: term + 1)
    role = .candidate
    vote = id
    requestVotes(
      kind: .vote, term: term, context: isTransfer ? RaftCore.transferContext : [])
  }

  private mutating func becomeLeader() {
    precondition(role == .candidate && vote == id, "a leader must have voted for itself")
    reset(term: term)
    role = .leader
    leader = id
    // Anything in the log may be an unapplied membership change.
    pendingConfIndex = log.lastIndex
    appendToLog(kind: .normal, data: [])
  }

  /// What every change of term or role does.
  private mutating func reset(term: Term) {
    precondition(term >= self.term, "the term went back")
    if term > self.term {
      self.term = term
      vote = 0
      // Promises of the old term mean nothing any longer. A snapshot holds resources of the owner,
      // who was told that it will leave.
      outNow.removeAll { $0.term != 0 && $0.term < term && $0.kind != .snapshot }
      outAfterSync.removeAll { $0.term != 0 && $0.term < term && $0.kind != .snapshot }
    }
    if role == .leader { dropReads() }
    leader = 0
    electionElapsed = 0
    heartbeatElapsed = 0
    transferee = 0
    pendingConfIndex = 0
    outSnapshotWanted.removeAll(keepingCapacity: true)
    drawElectionTimeout()
    for slot in members.indices {
      members[slot].reset(next: log.lastIndex + 1)
      guard members[slot].id == id else { continue }
      members[slot].becomeReplicate()
      _ = members[slot].acknowledge(durable)
      members[slot].recentActive = true
    }
  }

  // MARK: - Votes

  private mutating func requestVotes(kind: Message.Kind, term: Term, context: Bytes) {
    for member in members where member.id != id && !member.isLearner {
      send(
        Message(
          kind: kind, to: member.id, term: term, logTerm: log.lastTerm, index: log.lastIndex,
          context: context))
    }
  }

  /// A learner answers too: it may have been promoted without knowing it yet.
  mutating func onVoteRequest(_ message: Message) {
    let isPreVote = message.kind == .preVote
    let response: Message.Kind = isPreVote ? .preVoteResponse : .voteResponse
    let isFree =
      vote == message.from || (vote == 0 && leader == 0) || (isPreVote && message.term > term)
    guard isFree, log.isUpToDate(index: message.index, term: message.logTerm) else {
      send(Message(kind: response, to: message.from, term: term, reject: true))
      return
    }
    if !isPreVote {
      electionElapsed = 0
      vote = message.from
    }
    send(Message(kind: response, to: message.from, term: message.term))
    if isPreVote, yields(to: message) { becomeFollower(term: term, leader: 0) }
  }

  /// Whether another pre-candidate of this round goes first.
  ///
  /// Members that lost their leader's connection at the same moment ask each other at the same moment,
  /// too. Where both go on, both vote for themselves, and nobody leads for a whole timeout more. A
  /// pre-candidate has promised nothing, so it may always step back.
  private func yields(to message: Message) -> Bool {
    role == .preCandidate && message.term == term + 1 && message.from > id && isVoter(message.from)
  }

  mutating func onVoteResponse(_ message: Message) {
    switch (role, message.kind) {
    case (.candidate, .voteResponse): break
    case (.preCandidate, .preVoteResponse):
      // A late grant of an earlier round proves nothing about this one.
      guard message.reject || message.term == term + 1 else { return }
    default: return
    }
    countVote(from: message.from, granted: !message.reject)
  }

  mutating func countVote(from voter: MemberID, granted: Bool) {
    guard let slot = memberSlot(voter), !members[slot].isLearner else { return }
    if members[slot].granted == nil { members[slot].granted = granted }
    var yes = 0
    var no = 0
    var voters = 0
    for member in members where !member.isLearner {
      voters += 1
      if member.granted == true { yes += 1 }
      if member.granted == false { no += 1 }
    }
    switch Quorum.tally(voters: voters, granted: yes, refused: no) {
    case .pending: break
    case .lost: becomeFollower(term: term, leader: 0)
    case .won where role == .preCandidate: becomeCandidate(isTransfer: false)
    case .won: becomeLeader()
    }
  }
}
