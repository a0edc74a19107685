public import Base

extension RaftCore {
  // MARK: - Proposals

  /// Proposes normal entries, in order, as one batch.
  ///
  /// Appended or forwarded does not mean committed: recognise a committed proposal by its payload.
  /// - Parameter payloads: at least one.
  public mutating func propose(_ payloads: [Bytes]) -> ProposalOutcome {
    precondition(!payloads.isEmpty, "nothing to propose")
    guard role == .leader else {
      return forward(payloads.map { Entry(term: 0, index: 0, data: $0) })
    }
    let bytes = payloads.reduce(0) { $0 + $1.count + RaftLog.entryOverhead }
    if let reason = refusal(bytes: bytes) { return .dropped(reason) }
    let first = log.lastIndex + 1
    log.reserve(payloads.count)
    for payload in payloads { appendToLog(kind: .normal, data: payload) }
    return .appended(first: first, last: log.lastIndex)
  }

  /// Proposes one membership change (an encoded ConfChange).
  ///
  /// While another one is not applied, the leader puts an empty entry in its place: the proposer gets
  /// no answer and times out, as with etcd.
  public mutating func proposeConfChange(_ data: Bytes) -> ProposalOutcome {
    let entry = Entry(term: 0, index: 0, kind: .configurationChange, data: data)
    guard role == .leader else { return forward([entry]) }
    if let reason = refusal(bytes: RaftLog.bytes(of: entry)) { return .dropped(reason) }
    appendProposed(entry)
    return .appended(first: log.lastIndex, last: log.lastIndex)
  }

  /// Proposals forwarded by a follower. Refused ones are dropped silently: the proposer times out.
  mutating func onProposal(_ message: Message) {
    guard !message.entries.isEmpty else { return }
    guard role == .leader else {
      if leader != message.from { _ = forward(message.entries, from: message.from) }
      return
    }
    let bytes = message.entries.reduce(0) { $0 + RaftLog.bytes(of: $1) }
    guard refusal(bytes: bytes) == nil else { return }
    log.reserve(message.entries.count)
    for entry in message.entries { appendProposed(entry) }
    forwardedThrough = log.lastIndex
  }

  private func refusal(bytes: Int) -> DropReason? {
    if memberSlot(id) == nil { return .notMember }
    if transferee != 0 { return .transferInProgress }
    // A single proposal of any size passes when nothing else waits.
    // What followers committed without this member's disk waits here, too.
    let waiting = log.bytes(after: min(commit, durable))
    return waiting > 0 && waiting + bytes > configuration.maxUncommittedBytes ? .overloaded : nil
  }

  private mutating func forward(_ entries: [Entry], from: MemberID = 0) -> ProposalOutcome {
    guard role == .follower, leader != 0 else { return .dropped(.noLeader) }
    var start = 0
    while start < entries.count {
      var end = start
      var bytes = 0
      repeat {
        bytes += RaftLog.bytes(of: entries[end])
        end += 1
      } while end < entries.count && bytes < configuration.maxMessageBytes
      let chunk = start == 0 && end == entries.count ? entries : Array(entries[start..<end])
      send(Message(kind: .proposal, to: leader, from: from, entries: chunk))
      start = end
    }
    return .forwarded(to: leader)
  }

  /// Appends what was proposed, one membership change at a time.
  private mutating func appendProposed(_ entry: Entry) {
    switch entry.kind {
    case .normal:
      appendToLog(kind: .normal, data: entry.data)
    case .configurationChange where pendingConfIndex <= applied:
      appendToLog(kind: .configurationChange, data: entry.data)
      pendingConfIndex = log.lastIndex
    case .configurationChange, .configurationChangeV2:
      // Joint consensus would stop every etcd member of the cluster.
      appendToLog(kind: .normal, data: [])
    }
  }

  mutating func appendToLog(kind: Entry.Kind, data: Bytes) {
    log.append(Entry(term: term, index: log.lastIndex + 1, kind: kind, data: data))
  }

  // MARK: - Commit

  /// Commits what a quorum of the voters holds durably, if it is of this term.
  mutating func advanceCommit() {
    scratch.removeAll(keepingCapacity: true)
    for member in members where !member.isLearner { scratch.append(member.match) }
    let index = Quorum.reached(&scratch)
    guard index > commit, log.term(at: index) == term else { return }
    raiseCommit(to: index)
    // A member that is removed has to hear of it before it is gone from here.
    if pendingConfIndex > applied { announcesCommit = true }
    releaseParkedReads()
  }

  // MARK: - Ticks

  mutating func tickLeader() {
    announcesCommit = true
    heartbeatElapsed += 1
    if electionElapsed >= configuration.electionTicks {
      electionElapsed = 0
      transferee = 0
      guard hasActiveQuorum() else {
        becomeFollower(term: term, leader: 0)
        return
      }
    }
    if heartbeatElapsed >= configuration.heartbeatTicks {
      heartbeatElapsed = 0
      sendHeartbeats()
    }
  }

  /// Whether a majority was heard since the last call.
  private mutating func hasActiveQuorum() -> Bool {
    var voters = 0
    var active = 0
    for slot in members.indices {
      let isActive = members[slot].recentActive || members[slot].id == id
      members[slot].recentActive = members[slot].id == id
      if members[slot].isLearner { continue }
      voters += 1
      if isActive { active += 1 }
    }
    return active >= Quorum.size(voters: voters)
  }

  /// A follower is never told a commit beyond what it acknowledged.
  mutating func sendHeartbeats() {
    let context = reads.rounds.last.map { ReadQueue.encode($0.number) } ?? []
    for member in members where member.id != id {
      send(
        Message(
          kind: .heartbeat, to: member.id, term: term, commit: min(member.match, commit),
          context: context))
    }
  }

  // MARK: - Appends

  /// Makes at most one append per follower, if there is anything to tell it.
  mutating func flushReplication() {
    for slot in members.indices where members[slot].id != id && !members[slot].isPaused {
      flush(slot)
    }
    announcesCommit = false
  }

  private mutating func flush(_ slot: Int) {
    // Fields one by one: a copy of the whole would make the window's array copy on its next change.
    let next = members[slot].next
    let isThrottled = members[slot].state == .replicate && members[slot].inflight.isFull
    let hasNews = next <= log.lastIndex && !isThrottled
    let mustTell = announcesCommit && members[slot].canRaiseCommit(to: commit)
    guard hasNews || members[slot].appendDue || mustTell else { return }
    let previous = next - 1
    guard let previousTerm = log.term(at: previous) else {
      wantSnapshot(slot)
      return
    }
    // A throttled follower gets an empty append: its answer releases the window even if everything
    // in flight was lost.
    let entries =
      hasNews ? log.entries(from: next, maxBytes: configuration.maxMessageBytes) : []
    let bytes = entries.reduce(0) { $0 + RaftLog.bytes(of: $1) }
    send(
      Message(
        kind: .append, to: members[slot].id, term: term, logTerm: previousTerm, index: previous,
        entries: entries, commit: commit))
    members[slot].sent(count: entries.count, bytes: bytes, commit: commit)
  }

  mutating func onAppendResponse(_ message: Message) {
    guard let slot = memberSlot(message.from), message.index <= log.lastIndex || message.reject
    else { return }
    members[slot].recentActive = true
    if message.reject {
      onRejection(message, slot)
      return
    }
    let isNews = members[slot].acknowledge(message.index)
    let probe = members[slot].state == .probe && members[slot].match == message.index
    guard isNews || probe else { return }
    switch members[slot].state {
    case .probe:
      members[slot].becomeReplicate()
    case .snapshot:
      if members[slot].match + 1 >= log.firstIndex { members[slot].becomeReplicate() }
    case .replicate:
      members[slot].inflight.release(through: message.index)
    }
    advanceCommit()
    if message.from == transferee && members[slot].match == log.lastIndex { sendTimeoutNow() }
  }

  private mutating func onRejection(_ message: Message, _ slot: Int) {
    var hint = message.rejectHint
    if message.logTerm > 0 {
      hint = log.lastPosition(atOrBelow: hint, termAtMost: message.logTerm).0
    }
    if members[slot].reject(message.index, hint: hint) { members[slot].appendDue = true }
  }

  mutating func onHeartbeatResponse(_ message: Message) {
    guard let slot = memberSlot(message.from) else { return }
    members[slot].recentActive = true
    members[slot].paused = false
    if members[slot].match < log.lastIndex || members[slot].state == .probe {
      members[slot].appendDue = true
    }
    if let round = ReadQueue.decode(message.context), round <= reads.lastRound {
      members[slot].readRound = max(members[slot].readRound, round)
      confirmReads()
    }
  }

  /// Messages to `member` were lost, or it cannot be reached.
  public mutating func reportUnreachable(_ member: MemberID) {
    if member == leader { expectLossOfLeader() }
    guard role == .leader, let slot = memberSlot(member) else { return }
    if members[slot].state == .replicate { members[slot].becomeProbe() }
  }

  // MARK: - Snapshots

  private mutating func wantSnapshot(_ slot: Int) {
    // Making a snapshot for a dead member is wasted.
    guard members[slot].recentActive, !members[slot].snapshotRequested else { return }
    // What was in flight optimistically is no longer here to be sent again.
    if members[slot].state == .replicate { members[slot].becomeProbe() }
    members[slot].snapshotRequested = true
    outSnapshotWanted.append(members[slot].id)
  }

  /// The snapshot asked for is ready: sends it, if the member still needs it.
  ///
  /// - Returns: whether the next effects batch carries the message. If not, let the snapshot go.
  public mutating func snapshotReadyToSend(to member: MemberID, _ snapshot: Snapshot) -> Bool {
    guard role == .leader, let slot = memberSlot(member), members[slot].snapshotRequested else {
      return false
    }
    members[slot].snapshotRequested = false
    let index = snapshot.metadata.index
    guard members[slot].state == .probe, log.term(at: members[slot].next - 1) == nil,
      index > members[slot].match, index <= commit
    else { return false }
    members[slot].becomeSnapshot(index: index)
    send(Message(kind: .snapshot, to: member, term: term, snapshot: snapshot))
    return true
  }

  /// The end of a snapshot transfer, or (false) the failure to make a snapshot that was wanted.
  public mutating func reportSnapshot(_ member: MemberID, succeeded: Bool) {
    guard role == .leader, let slot = memberSlot(member) else { return }
    if members[slot].state == .snapshot {
      if !succeeded { members[slot].pendingSnapshot = 0 }
      members[slot].becomeProbe()
    } else if !members[slot].snapshotRequested {
      return
    }
    members[slot].snapshotRequested = false
    // Wait for a sign of life before the next attempt.
    members[slot].paused = true
  }

  // MARK: - Transfer

  /// Hands leadership to `member` once it has the whole log; given up after one election timeout.
  /// Until then proposals are dropped. A follower passes the request on to the leader.
  public mutating func transferLeader(to member: MemberID) {
    guard role == .leader else {
      if role == .follower && leader != 0 {
        send(Message(kind: .transferLeader, to: leader, from: member, term: term))
      }
      return
    }
    guard isVoter(member), transferee != member else { return }
    transferee = 0
    guard member != id, let slot = memberSlot(member) else { return }
    electionElapsed = 0
    transferee = member
    if members[slot].match == log.lastIndex {
      sendTimeoutNow()
    } else {
      members[slot].appendDue = true
    }
  }

  private mutating func sendTimeoutNow() {
    send(Message(kind: .timeoutNow, to: transferee, term: term))
  }
}
