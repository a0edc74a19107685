import Base
import RaftActor
import StoreActor

// What goes wrong, and the end of it.

extension World {
  private static let faultInterval = 20

  /// Rates are per 1,000 seconds; this runs every 20 ms.
  private func strikes(_ rate: Int) -> Bool {
    chance(rate * Self.faultInterval, of: 1_000_000)
  }

  private var anyNode: Node { nodes[draw(0...nodes.count - 1)] }

  func injectFaults() throws(Violation) {
    guard !isHealing else { return }
    queue.add(.faults, at: now + UInt64(Self.faultInterval) * Self.millisecond)
    if strikes(options.crash) { crashSome(power: false) }
    if strikes(options.powerCut) { crashSome(power: true) }
    if strikes(options.pause) {
      let node = anyNode
      node.pausedUntil = now + UInt64(draw(100...10_000)) * Self.millisecond
      trace.note(now, "\(node.id) pauses until \(node.pausedUntil / Self.millisecond) ms")
    }
    if strikes(options.partition) { partition() }
    if strikes(options.diskError) { anyNode.disk.failsNext = true }
    if strikes(options.diskFull) {
      let node = anyNode
      node.disk.fullUntil = now + UInt64(draw(1...8000)) * Self.millisecond
      trace.note(now, "the disk of \(node.id) is full")
    }
    if strikes(options.transfer) {
      let node = anyNode
      if node.isRunning, node.pausedUntil <= now {
        let target = anyNode.id
        trace.note(now, "\(node.id) is asked to hand leadership to \(target)")
        node.core?.transferLeader(to: target)
        try drain(node)
      }
    }
    if strikes(options.membership) { try changeMembership() }
  }

  /// One member, some, or all.
  private func crashSome(power: Bool) {
    let all = chance(1, of: 8)
    let chosen = all ? nodes : [anyNode]
    for node in chosen where node.isRunning {
      crash(node, power: power, power ? "loses power" : "is killed")
    }
  }

  private func partition() {
    for from in blocked.indices {
      for to in blocked.indices { blocked[from][to] = false }
    }
    guard chance(3, of: 4) else {
      trace.note(now, "all links are up")
      return
    }
    let isOneWay = chance(1, of: 3)
    let side = nodes.map { _ in chance(1, of: 2) }
    for from in nodes.indices {
      for to in nodes.indices where side[from] != side[to] && !(isOneWay && side[from]) {
        blocked[from][to] = true
      }
    }
    let apart = nodes.indices.filter { side[$0] }.map { nodes[$0].id }
    trace.note(now, "cut off\(isOneWay ? " one way" : ""): \(apart)")
  }

  // MARK: - Membership

  private func changeMembership() throws(Violation) {
    let node = anyNode
    guard node.isRunning, node.pausedUntil <= now else { return }
    let membership = node.machine.membership
    let voters = membership.confState.voters
    let change: ConfChange
    if chance(1, of: 6) {
      // Of a member that may be unknown or gone: then it is void.
      let id = MemberID(draw(1...nodes.count + 1)) * 10
      change = ConfChange(
        kind: .updateNode, nodeID: id, context: Self.context(id, url: "http://\(id):\(now)"))
    } else if nodes.count < Self.membersMax, voters.count < 7, chance(1, of: 2) {
      let id = MemberID(nodes.count + 1) * 10
      let learner = chance(1, of: 2)
      try start(makeNode(id))
      change = ConfChange(
        kind: learner ? .addLearnerNode : .addNode, nodeID: id,
        context: Self.context(id, learner: learner))
    } else if let learner = membership.confState.learners.first, chance(2, of: 3) {
      change = ConfChange(
        kind: .addNode, nodeID: learner, context: Self.context(learner, promote: true))
    } else if voters.count > 2 {
      change = ConfChange(kind: .removeNode, nodeID: voters[draw(0...voters.count - 1)])
    } else {
      return
    }
    trace.note(now, "\(node.id) proposes \(change.kind) \(change.nodeID)")
    try proposeChange(change, on: node)
  }

  private func proposeChange(_ change: ConfChange, on node: Node) throws(Violation) {
    if plant == .twoChangesInFlight {
      plantChange(change, on: node)
    } else {
      _ = node.core?.proposeConfChange(change.encoded())
    }
    try drain(node)
  }

  // MARK: - Healing

  /// Ends all faults; the cluster must agree, take a write and serve a read within bounded time.
  func heal() throws(Violation) {
    isHealing = true
    options.heal()
    for from in blocked.indices {
      for to in blocked.indices { blocked[from][to] = false }
    }
    trace.note(now, "HEALING")
    for node in nodes {
      node.pausedUntil = min(node.pausedUntil, now)
      node.disk.fullUntil = 0
      node.disk.failsNext = false
      if !node.isRunning, !node.isRemoved { try start(node) }
    }
    // Joiners that crashed meanwhile, long elections, slow reads of history: all have to end.
    let writes = oracle.counts.writes
    let reads = oracle.counts.reads
    for _ in 0..<60 {
      try run(until: now + electionTimeout)
      guard let leader = agreedLeader else { continue }
      // Removed members that nobody talks to learn of it from their transport.
      for id in leader.machine.membership.removed {
        guard let slot = slot(of: id) else { continue }
        queue.add(.remove(slot, incarnation: nodes[slot].incarnation), at: now)
      }
      try run(until: now + electionTimeout)
      let serves =
        oracle.counts.writes > writes && (options.readShare == 0 || oracle.counts.reads > reads)
      if try isConverged(on: leader), serves { return }
    }
    throw Violation(.liveness, "no agreement after the faults ended:\n\(describeNodes())")
  }

  /// The leader that all its members follow.
  private var agreedLeader: Node? {
    let leaders = nodes.filter { $0.core?.role == .leader }
    guard let leader = leaders.max(by: { $0.core?.term ?? 0 < $1.core?.term ?? 0 }) else {
      return nil
    }
    let follow = leader.machine.membership.members.allSatisfy { member in
      slot(of: member.id).map { nodes[$0].core?.leader == leader.id } ?? false
    }
    return follow ? leader : nil
  }

  /// Requests are held back until everybody has everything.
  private func isConverged(on leader: Node) throws(Violation) -> Bool {
    isQuiet = true
    defer { isQuiet = false }
    try run(until: now + 4 * electionTimeout)
    guard let core = leader.core, core.role == .leader else { return false }
    for member in leader.machine.membership.members {
      guard let slot = slot(of: member.id), let other = nodes[slot].core,
        other.commit == core.commit, nodes[slot].machine.applied == core.commit,
        other.confState == core.confState, nodes[slot].chain == leader.chain
      else { return false }
    }
    try require(
      core.confState == leader.machine.membership.confState, .configurationSafety,
      "the core of \(leader.id) counts \(core.confState), its store \(leader.machine.membership)")
    return watchersReachHead
  }

  private var watchersReachHead: Bool {
    let last = oracle.model.revision
    return watchers.allSatisfy { watcher in
      watcher.next == 0 || watcher.next > last
        || oracle.model.events(
          from: watcher.from, to: watcher.to, first: watcher.next, last: last
        ).isEmpty
    }
  }

  func describeNodes() -> String {
    nodes.map { node in
      guard let core = node.core else {
        return "\(node.id) \(node.isRemoved ? "removed" : "down")"
      }
      return "\(node.id) \(core.role) term \(core.term) leader \(core.leader) commit "
        + "\(core.commit) last \(core.log.lastIndex) applied \(node.machine.applied) "
        + "\(core.confState.voters) \(core.confState.learners)"
        + (core.role == .leader
          ? " \(core.status.peers.map { ($0.id, $0.match, $0.next, $0.state) })" : "")
    }.joined(separator: "\n")
  }
}
