import Actors
import Base
import Glibc
import RaftActor
import StoreActor

// Messages between simulated members, and what must hold when one leaves.

extension MemberWorld {
  func send(_ message: Message, from node: MemberNode) throws(Violation) {
    try check(message, from: node)
    guard let to = slot(of: message.to) else { return }
    trace.mix(message.kind.rawValue << 32 ^ message.index ^ message.term << 48)
    let isLost = blocked[node.slot][to] || chance(options.loss, of: 1000)
    trace.note(
      now,
      "\(node.id) -> \(message.to) \(message.kind) term \(message.term) index "
        + "\(message.index) commit \(message.commit)" + (isLost ? " LOST" : ""))
    if message.kind == .snapshot {
      sendSnapshot(message, from: node, isLost: isLost)
      return
    }
    if isLost {
      if chance(options.unreachable, of: 1000) {
        node.actors?.raft.inbox.send(.unreachable(message.to))
      }
      return
    }
    queue.add(
      .deliver(MemberPacket(message)), at: now + 50_000 + delay(options.messageDelay))
  }

  /// The file travels with the message; the sender hears how it ended.
  private func sendSnapshot(_ message: Message, from node: MemberNode, isLost: Bool) {
    let index = message.snapshot?.metadata.index ?? 0
    let key = SnapshotFileKey(from: node.id, to: message.to, index: index)
    let path = snapshotFiles.removeValue(forKey: key)
    var isSent = false
    if let path, !isLost, access(path, F_OK) == 0 {
      filesMade += 1
      let copy = "\(root)/sent-\(filesMade).db"
      Self.copy(path, to: copy)
      queue.add(
        .deliver(MemberPacket(message, file: copy)),
        at: now + 200_000 + delay(options.messageDelay))
      isSent = true
    }
    node.actors?.raft.inbox.send(.snapshotSent(to: message.to, succeeded: isSent))
  }

  func deliver(_ packet: MemberPacket, _ event: Event) throws(Violation) {
    let message = packet.message
    guard let slot = slot(of: message.to), let actors = nodes[slot].actors,
      let node = live(slot, nodes[slot].incarnation, event)
    else { return }
    // The transport refuses members that were removed, and tells them.
    if node.membership.removed.contains(message.from) {
      guard let from = self.slot(of: message.from) else { return }
      queue.add(
        .remove(from, incarnation: nodes[from].incarnation), at: now + 10 * World.millisecond)
      return
    }
    if let file = packet.file, let snapshot = message.snapshot {
      let path = MemberNode.receivedPath(snapshot.metadata.index, in: node.folder)
      Glibc.rename(file, path)
      do {
        try ReceivedStore.examine(path, snapshot)
      } catch {
        throw Violation(.snapshotInstall, "\(node.id) received a bad file: \(error)")
      }
      oracle.counts.snapshots += 1
    }
    actors.raft.inbox.send(.messages([message]))
    collect(node)
  }

  // MARK: - Checks

  private func check(_ message: Message, from node: MemberNode) throws(Violation) {
    switch message.kind {
    case .preVote, .preVoteResponse, .proposal, .readIndex: break
    default: node.promisedTerm = max(node.promisedTerm, message.term)
    }
    switch message.kind {
    case .vote: try vote(node, for: node.id, message.term)
    case .voteResponse where !message.reject: try vote(node, for: message.to, message.term)
    case .append where message.term > 0:
      for entry in message.entries { try register(entry, from: node) }
    case .appendResponse where !message.reject && message.index > 0:
      acknowledged(message, by: node)
    default: break
    }
  }

  private func vote(
    _ node: MemberNode, for candidate: MemberID, _ term: Term
  ) throws(Violation) {
    let key = Oracle.VoteKey(voter: node.id, term: term)
    let known = oracle.votes.updateValue(candidate, forKey: key)
    try require(
      known == nil || known == candidate, .voteOnce,
      "\(node.id) votes for \(known ?? 0) and \(candidate) in term \(term)")
  }

  private func register(_ entry: Entry, from node: MemberNode) throws(Violation) {
    let key = Oracle.EntryKey(index: entry.index, term: entry.term)
    if let known = oracle.written[key] {
      try require(
        known.entry == entry, .logMatching,
        "\(node.id) sends another entry \(entry.index) of term \(entry.term)")
    } else {
      oracle.written[key] = Oracle.Origin(entry: entry, previousTerm: 0)
    }
  }

  /// What is acknowledged to the leader of a term must be found after every crash, until a leader of
  /// a later term replaces it.
  private func acknowledged(_ message: Message, by node: MemberNode) {
    if message.term > node.acknowledged.term || message.index > node.acknowledged.index {
      node.acknowledged = (message.index, message.term)
    }
  }

  /// A process has read its log: everything promised is there.
  func checkRecovery(_ node: MemberNode, _ found: WALRecovered) throws(Violation) {
    let state = found.hardState
    let last = found.entries.last?.index ?? found.snapshot.index
    let term = max(state.term, found.entries.last?.term ?? 0)
    try require(
      term >= node.promisedTerm, .recovery,
      "\(node.id) promised term \(node.promisedTerm), recovered \(term)")
    let vote = oracle.votes[Oracle.VoteKey(voter: node.id, term: term)]
    try require(
      vote == nil || vote == state.vote && term == state.term, .recovery,
      "\(node.id) voted for \(vote ?? 0) in term \(term), recovered \(state)")
    // A leader of a later term may have made the log shorter, never below what is committed.
    let (index, leaderTerm) = node.acknowledged
    try require(
      last >= index || term > leaderTerm, .recovery,
      "\(node.id) acknowledged \(index) in term \(leaderTerm), recovered up to \(last)")
    for entry in found.entries where entry.index <= min(state.commit, oracle.highestCommit) {
      try require(
        oracle.committed[Int(entry.index) - 1] == entry, .committedImmutable,
        "\(node.id) recovered another committed entry \(entry.index)")
    }
    if term == leaderTerm, index <= oracle.highestCommit, index > found.snapshot.index {
      let offset = Int(index - found.snapshot.index) - 1
      try require(
        offset < found.entries.count
          && found.entries[offset].term == oracle.committed[Int(index) - 1].term, .recovery,
        "\(node.id) acknowledged committed entry \(index), recovered another")
    }
  }
}
