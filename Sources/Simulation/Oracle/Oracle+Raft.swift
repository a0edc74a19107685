import Base
import RaftActor
import StoreActor

// What must hold of terms, votes, logs and commits.

extension Oracle {
  // MARK: - Effects

  /// A batch of effects leaves the core.
  mutating func check(_ effects: RaftCore.Effects, of node: Node, _ core: RaftCore)
    throws(Violation)
  {
    try register(effects.entries, of: node, core)
    guard let soft = effects.softState, soft.role == .leader else { return }
    if let known = leaders[soft.term] {
      try require(
        known == (node.id, node.incarnation), .electionSafety,
        "\(known.member) and \(node.id) lead term \(soft.term)")
      return
    }
    leaders[soft.term] = (node.id, node.incarnation)
    counts.elections += 1
    // One that wins late, after a later term has had its leader, need not know what that committed:
    // entries of the term before its own may be among them.
    guard !leaders.keys.contains(where: { $0 > soft.term }) else { return }
    for index in core.log.firstIndex..<max(highestCommit + 1, core.log.firstIndex)
    where committed[Int(index) - 1].term < soft.term {
      try require(
        core.log.term(at: index) == committed[Int(index) - 1].term, .leaderCompleteness,
        "leader \(node.id) of term \(soft.term) lacks committed entry \(index)")
    }
  }

  /// Entries go to a disk: position and term determine the entry and all before it.
  private mutating func register(
    _ new: [Entry], of node: Node, _ core: RaftCore
  ) throws(Violation) {
    guard let first = new.first else { return }
    if core.role == .leader, node.leaderLast.term == core.term {
      try require(
        first.index == node.leaderLast.last + 1, .leaderAppendOnly,
        "leader \(node.id) of term \(core.term) writes \(first.index) after "
          + "\(node.leaderLast.last)")
    }
    var previous = core.log.term(at: first.index - 1) ?? 0
    for entry in new {
      let key = EntryKey(index: entry.index, term: entry.term)
      if let known = written[key] {
        try require(
          known.previousTerm == previous && known.entry == entry, .logMatching,
          "\(node.id) writes another entry \(entry.index) of term \(entry.term)")
      } else {
        written[key] = Origin(entry: entry, previousTerm: previous)
        if entry.kind != .normal, core.role == .leader, entry.term == core.term {
          try checkSingleChange(entry, core, node)
        }
      }
      previous = entry.term
    }
  }

  private func checkSingleChange(
    _ entry: Entry, _ core: RaftCore, _ node: Node
  ) throws(Violation) {
    var index = max(core.applied, core.log.baseIndex) + 1
    while index < entry.index {
      let term = core.log.term(at: index) ?? 0
      let kind = written[EntryKey(index: index, term: term)]?.entry.kind ?? .normal
      try require(
        kind == .normal, .configurationSafety,
        "\(node.id) proposed the change at \(entry.index) while the one at \(index) waits")
      index += 1
    }
  }

  // MARK: - After each step

  /// Pointers, terms and commits of a member that has just done something.
  func check(_ node: Node, _ core: RaftCore) throws(Violation) {
    let last = core.log.lastIndex
    try require(
      core.applied <= core.handedOut && core.handedOut <= core.commit && core.commit <= last
        && core.durable <= last && (core.log.baseIndex <= core.applied || core.pendingSnapshot > 0),
      .pointerOrder,
      "\(node.id): base \(core.log.baseIndex) applied \(core.applied) handed out "
        + "\(core.handedOut) commit \(core.commit) durable \(core.durable) last \(last)")
    let before = node.lastStatus
    try require(
      core.commit >= before.commit && core.applied >= before.applied, .pointerOrder,
      "\(node.id): commit \(before.commit) -> \(core.commit), applied \(before.applied) -> "
        + "\(core.applied)")
    try require(
      core.term >= before.term, .termMonotonic, "\(node.id): \(before.term) -> \(core.term)")
    if core.role == .leader {
      if node.leaderLast.term == core.term {
        try require(
          last >= node.leaderLast.last, .leaderAppendOnly,
          "leader \(node.id) of term \(core.term) shortened its log to \(last)")
      }
      node.leaderLast = (core.term, last)
    }
    node.lastStatus = (core.term, core.commit, core.applied)
  }

  /// What a leader commits is of its term and lies on the disks of a quorum.
  mutating func checkCommit(_ core: RaftCore, _ nodes: [Node]) throws(Violation) {
    guard core.role == .leader, core.commit > ruledCommit else { return }
    try require(
      core.log.term(at: core.commit) == core.term, .commitRule,
      "leader \(core.id) of term \(core.term) committed \(core.commit) of an older term")
    let node = nodes.first { $0.id == core.id }
    // Membership is what the store has applied; the core must count the same voters.
    let voters = node?.machine.membership.confState.voters ?? []
    var holders = 0
    for node in nodes where voters.contains(node.id) {
      let log = node.disk.log
      let holds = log.base.index >= core.commit || log.term(at: core.commit) == core.term
      if holds { holders += 1 }
    }
    try require(
      holders > voters.count / 2, .commitRule,
      "leader \(core.id) committed \(core.commit) on \(holders) disks of voters \(voters)")
    ruledCommit = core.commit
  }

  // MARK: - Messages

  /// A message really leaves a member.
  mutating func check(_ message: Message, from node: Node, _ nodes: [Node]) throws(Violation) {
    let state = node.disk.log.hardState
    switch message.kind {
    case .preVote, .preVoteResponse, .proposal, .readIndex: break
    default:
      try require(
        message.term <= state.term, .termMonotonic,
        "\(node.id) sends \(message.kind) of term \(message.term), durable is \(state.term)")
      node.promisedTerm = max(node.promisedTerm, message.term)
    }
    switch message.kind {
    case .vote: try vote(node, for: node.id, message.term, state)
    case .voteResponse where !message.reject:
      try vote(node, for: message.to, message.term, state)
    case .appendResponse where !message.reject && message.index > 0:
      try checkAcknowledgement(message, of: node, nodes)
    default: break
    }
    if message.kind != .readIndexResponse, message.kind != .proposal {
      try require(
        !node.hasFailed, .failStop, "\(node.id) sends \(message.kind) after a failed write")
    }
  }

  private mutating func vote(
    _ voter: Node, for candidate: MemberID, _ term: Term, _ durable: HardState
  ) throws(Violation) {
    let known = votes.updateValue(candidate, forKey: VoteKey(voter: voter.id, term: term))
    try require(
      known == nil || known == candidate, .voteOnce,
      "\(voter.id) votes for \(known ?? 0) and \(candidate) in term \(term)")
    try require(
      durable.term > term || durable.term == term && durable.vote == candidate, .voteOnce,
      "\(voter.id) votes for \(candidate) in term \(term), durable are term \(durable.term) and "
        + "vote \(durable.vote)")
    if voter.promisedTerm <= term { voter.promisedVote = candidate }
  }

  /// The leader's log and the durable one here agree through the acknowledged index.
  private func checkAcknowledgement(
    _ message: Message, of node: Node, _ nodes: [Node]
  ) throws(Violation) {
    let log = node.disk.log
    // One sync may have made durable both the acknowledged entries and, behind them, what a later
    // leader put in their place. To everybody else that is an acknowledgement that was long on its way.
    guard log.hardState.term == message.term else { return }
    try require(
      message.index <= log.lastIndex, .ackAfterDurable,
      "\(node.id) acknowledges \(message.index), durable is \(log.lastIndex)")
    guard let term = log.term(at: message.index), message.index > log.base.index else { return }
    // What a later leader has replaced in memory is not bound to survive: its write is on the way.
    if message.index >= node.acknowledged.index, node.core?.log.term(at: message.index) == term {
      node.acknowledged = (message.index, term)
    }
    guard let leader = nodes.first(where: { $0.id == message.to })?.core,
      leader.role == .leader, leader.term == message.term,
      let own = leader.log.term(at: message.index)
    else { return }
    try require(
      own == term, .ackAfterDurable,
      "\(node.id) acknowledges \(message.index) of term \(term), the leader has term \(own)")
  }

  // MARK: - Restarts

  /// A member has read its disk after a crash.
  func checkRecovery(_ node: Node, _ log: LogImage) throws(Violation) {
    try require(
      log.hardState.term >= node.promisedTerm, .recovery,
      "\(node.id) promised term \(node.promisedTerm), recovered \(log.hardState.term)")
    try require(
      log.hardState.term > node.promisedTerm || node.promisedVote == 0
        || votes[VoteKey(voter: node.id, term: log.hardState.term)] ?? log.hardState.vote
          == log.hardState.vote,
      .recovery, "\(node.id) forgot its vote in term \(log.hardState.term)")
    let (index, term) = node.acknowledged
    try require(
      index <= log.base.index || log.term(at: index) == term, .recovery,
      "\(node.id) acknowledged \(index) of term \(term), recovered up to \(log.lastIndex)")
    for entry in log.entries where entry.index <= min(log.hardState.commit, highestCommit) {
      try require(
        committed[Int(entry.index) - 1] == entry, .committedImmutable,
        "\(node.id) recovered another committed entry \(entry.index)")
    }
  }
}
