import Base
import RaftActor
import StoreActor

// Messages between members: lost, late, twice, out of order.

extension World {
  func send(_ message: Message, from node: Node) throws(Violation) {
    try oracle.check(message, from: node, nodes)
    guard let to = slot(of: message.to) else { return }
    let message = plantMessage(message, from: node)
    trace.mix(message.kind.rawValue << 32 ^ message.index ^ message.term << 48)
    let isLost = blocked[node.slot][to] || chance(options.loss, of: 1000)
    if message.kind == .snapshot {
      sendSnapshot(message, from: node, isLost: isLost)
      if isLost { return }
    } else if isLost {
      trace.note(now, "\(node.id) -> \(message.to) \(describe(message)) LOST")
      if chance(options.unreachable, of: 1000) { node.core?.reportUnreachable(message.to) }
      return
    }
    trace.note(now, "\(node.id) -> \(message.to) \(describe(message))")
    transmit(message, from: node.slot, to: to)
    // A stream never repeats a message, but a new connection may; never a proposal.
    if chance(options.duplication, of: 1000), message.kind != .proposal, message.kind != .snapshot {
      transmit(message, from: node.slot, to: to)
    }
  }

  private func transmit(_ message: Message, from: Int, to: Int) {
    var due = now + 50_000 + delay(options.messageDelay)
    if !options.reordering {
      due = max(due, linkBusyUntil[from][to])
      linkBusyUntil[from][to] = due
    }
    queue.add(.deliver(Packet(message)), at: due)
  }

  /// The sender's transport knows how the transfer ended; the file is with the receiver before its
  /// core hears of it.
  private func sendSnapshot(_ message: Message, from node: Node, isLost: Bool) {
    node.core?.reportSnapshot(message.to, succeeded: !isLost)
    trace.note(
      now,
      "\(node.id) -> \(message.to) snapshot \(message.snapshot?.metadata.index ?? 0)"
        + (isLost ? " LOST" : ""))
  }

  func deliver(_ message: Message, to node: Node) throws(Violation) {
    guard let core = node.core else { return }
    // Not the whole core: a copy would make it copy its log on the next change.
    let before = (
      term: core.term, vote: core.vote, leader: core.leader, elapsed: core.electionElapsed
    )
    // The transport refuses members that were removed, and tells them.
    if node.machine.membership.removed.contains(message.from) {
      guard let from = slot(of: message.from) else { return }
      queue.add(
        .remove(from, incarnation: nodes[from].incarnation), at: now + 10 * Self.millisecond)
      return
    }
    if let snapshot = message.snapshot, let number = Self.imageNumber(snapshot.data) {
      node.disk.received[snapshot.metadata.index] = images[number]
    }
    if let slot = slot(of: message.from), message.kind != .readIndex, message.kind != .proposal {
      node.silence[slot] = 0
    }
    let message = plantDelivery(message, to: node)
    node.core?.step(message)
    if message.kind == .preVote || message.kind == .vote {
      try checkVoteRequest(message, node, before)
    }
    // An inbox hands over what has arrived: several messages may share the effects of one turn.
    if chance(options.batching, of: 1000), let core = node.core {
      // By the voters of this moment: others may count when the effects are seen to.
      try oracle.checkCommit(core, nodes)
      queue.add(
        .drain(node.slot, incarnation: node.incarnation), at: now + UInt64(draw(0...5000)) * 1000)
    } else {
      try drain(node)
    }
  }

  /// Pre-votes change nothing, and who hears a leader grants nothing.
  private func checkVoteRequest(
    _ message: Message, _ node: Node,
    _ before: (term: Term, vote: MemberID, leader: MemberID, elapsed: Int)
  ) throws(Violation) {
    guard let core = node.core else { return }
    if message.kind == .preVote {
      try require(
        core.term == before.term && core.vote == before.vote, .quorumContact,
        "a pre-vote changed term or vote of \(node.id)")
    }
    let hearsLeader =
      before.leader != 0 && before.elapsed < options.electionTicks
      && message.context.isEmpty && message.term > before.term
    try require(
      !hearsLeader || core.term == before.term && core.vote == before.vote, .quorumContact,
      "\(node.id) hears leader \(before.leader) and still listens to \(message.from)")
  }

  func describe(_ message: Message) -> String {
    var text = "\(message.kind) term \(message.term)"
    if message.index > 0 { text += " index \(message.index)" }
    if message.logTerm > 0 { text += " log term \(message.logTerm)" }
    if !message.entries.isEmpty { text += " entries \(message.entries.count)" }
    if message.commit > 0 { text += " commit \(message.commit)" }
    if message.reject { text += " rejected" }
    return text
  }

  // MARK: - Snapshots

  static func imageData(_ number: Int) -> Bytes { UInt64(number).bigEndianBytes }

  static func imageNumber(_ data: Bytes) -> Int? {
    guard data.count == 8 else { return nil }
    return Int(data.reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
  }
}
