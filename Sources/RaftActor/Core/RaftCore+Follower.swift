import Base

extension RaftCore {
  /// An append, heartbeat or snapshot of the present term.
  mutating func onLeaderMessage(_ message: Message) {
    // Nobody else can lead this term.
    guard role != .leader else { return }
    if role != .follower { becomeFollower(term: term, leader: message.from) }
    electionElapsed = 0
    leader = message.from
    switch message.kind {
    case .append: onAppend(message)
    case .heartbeat: onHeartbeat(message)
    default: onSnapshot(message)
    }
  }

  private mutating func onAppend(_ message: Message) {
    guard isContiguous(message) else { return }
    if message.index < commit {
      acceptAppend(of: message, index: commit)
    } else if log.matches(index: message.index, term: message.logTerm) {
      let last = message.index + LogIndex(message.entries.count)
      appendMissing(message.entries)
      raiseCommit(to: min(message.commit, last))
      acceptAppend(of: message, index: last)
    } else {
      rejectAppend(of: message)
    }
  }

  private func isContiguous(_ message: Message) -> Bool {
    var index = message.index
    var term = message.logTerm
    for entry in message.entries {
      index += 1
      guard entry.index == index, entry.term >= term, entry.term <= message.term else {
        return false
      }
      term = entry.term
    }
    return true
  }

  private mutating func appendMissing(_ entries: [Entry]) {
    guard let first = entries.first, let start = log.firstDifference(entries) else { return }
    if start <= log.lastIndex { truncateLog(from: start) }
    log.reserve(entries.count)
    for entry in entries[Int(start - first.index)...] { log.append(entry) }
  }

  private mutating func acceptAppend(of message: Message, index: LogIndex) {
    send(Message(kind: .appendResponse, to: message.from, term: term, index: index))
  }

  /// The hint is the last position here that the leader may hold: it can skip whole terms.
  private mutating func rejectAppend(of message: Message) {
    let (hint, hintTerm) = log.lastPosition(
      atOrBelow: min(message.index, log.lastIndex), termAtMost: message.logTerm)
    send(
      Message(
        kind: .appendResponse, to: message.from, term: term, logTerm: hintTerm,
        index: message.index, reject: true, rejectHint: hint))
  }

  private mutating func onHeartbeat(_ message: Message) {
    // A leader names no commit beyond what this member has acknowledged to it.
    guard message.commit <= log.lastIndex else {
      forgotten = message.commit
      return
    }
    raiseCommit(to: message.commit)
    send(
      Message(kind: .heartbeatResponse, to: message.from, term: term, context: message.context))
  }

  private mutating func onSnapshot(_ message: Message) {
    guard let snapshot = message.snapshot, snapshot.metadata.index > 0 else { return }
    let last = accept(snapshot) ? log.lastIndex : commit
    acceptAppend(of: message, index: last)
  }

  /// Starts anew behind `snapshot`, unless the log holds that position or this member is not in it.
  private mutating func accept(_ snapshot: Snapshot) -> Bool {
    let metadata = snapshot.metadata
    let state = metadata.confState
    guard metadata.index > commit else { return false }
    guard state.votersOutgoing.isEmpty, !state.voters.isEmpty,
      state.voters.contains(id) || state.learners.contains(id)
    else { return false }
    if log.matches(index: metadata.index, term: metadata.term) {
      raiseCommit(to: metadata.index)
      return false
    }
    // Only what was committed is certain to agree with the new log.
    voidWrites(from: commit + 1)
    log.reset(baseIndex: metadata.index, baseTerm: metadata.term)
    written = metadata.index
    commit = metadata.index
    handedOut = metadata.index
    pendingSnapshot = metadata.index
    outSnapshot = snapshot
    setMembers(state)
    return true
  }
}
