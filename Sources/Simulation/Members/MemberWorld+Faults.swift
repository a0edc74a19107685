import Actors
import Base
import EtcdAPI
import FoundationEssentials
import Glibc
import RaftActor
import StoreActor
import SwiftProtobuf

// What goes wrong with simulated members, and the end of it.

extension MemberWorld {
  private func strikes(_ rate: Int) -> Bool { chance(rate * 20, of: 1_000_000) }

  private var anyNode: MemberNode { nodes[draw(0...nodes.count - 1)] }

  func injectFaults() {
    guard !isHealing else { return }
    queue.add(.faults, at: now + 20 * World.millisecond)
    if strikes(options.crash) { crashSome() }
    if strikes(options.powerCut) {
      let chosen = chance(1, of: 8) ? nodes : [anyNode]
      for node in chosen where node.actors != nil { cutPower(node) }
    }
    if strikes(options.pause) {
      let node = anyNode
      node.pausedUntil = now + UInt64(draw(100...10_000)) * World.millisecond
      trace.note(now, "\(node.id) pauses")
    }
    if strikes(options.partition) { partition() }
    if strikes(options.diskError) {
      let node = anyNode
      if node.actors != nil {
        trace.note(now, "the next write of \(node.id) fails")
        node.files.failNext(EIO)
      }
    }
    if strikes(options.diskFull) {
      let node = anyNode
      if node.actors != nil {
        trace.note(now, "the disk of \(node.id) changes between full and not")
        node.files.setFull(chance(1, of: 2))
      }
    }
    if strikes(options.transfer), let inbox = anyNode.actors?.raft.inbox {
      inbox.send(.transferLeader(to: anyNode.id))
    }
    if strikes(options.membership) { changeMembership() }
    for node in nodes { collect(node) }
  }

  private func crashSome() {
    let chosen = chance(1, of: 8) ? nodes : [anyNode]
    for node in chosen where node.actors != nil { crash(node, power: false, "is killed") }
  }

  /// At once, or at one of the next system calls of the log.
  private func cutPower(_ node: MemberNode) {
    if chance(1, of: 2) {
      crash(node, power: true, "loses power")
    } else {
      node.losesPower = true
      node.files.cutPower(afterCalls: draw(0...6))
    }
  }

  private func partition() {
    let isOneWay = chance(1, of: 3)
    let isOver = chance(1, of: 4)
    let side = nodes.map { _ in chance(1, of: 2) }
    for from in nodes.indices {
      for to in nodes.indices {
        blocked[from][to] = !isOver && side[from] != side[to] && !(isOneWay && side[from])
      }
    }
    let apart = nodes.indices.filter { side[$0] }.map { nodes[$0].id }
    trace.note(now, isOver ? "all links are up" : "cut off\(isOneWay ? " one way" : ""): \(apart)")
  }

  private func changeMembership() {
    let node = anyNode
    guard let inbox = node.actors?.raft.inbox, node.pausedUntil <= now else { return }
    let state = node.membership.confState
    let change: ConfChange
    if nodes.count < World.membersMax, chance(1, of: 2) {
      let id = MemberID(nodes.count + 1) * 10
      let learner = chance(1, of: 2)
      let joiner = makeNode(id)
      do {
        try createLog(joiner, HardState(), [])
        try start(joiner)
      } catch {
        preconditionFailure("\(error)")
      }
      change = ConfChange(
        kind: learner ? .addLearnerNode : .addNode, nodeID: id,
        context: World.context(id, learner: learner))
    } else if let learner = state.learners.first, chance(2, of: 3) {
      change = ConfChange(
        kind: .addNode, nodeID: learner, context: World.context(learner, promote: true))
    } else if state.voters.count > 2 {
      change = ConfChange(
        kind: .removeNode, nodeID: state.voters[draw(0...state.voters.count - 1)])
    } else {
      return
    }
    trace.note(now, "\(node.id) proposes \(change.kind) \(change.nodeID)")
    inbox.send(.changeConfiguration(id: 0, payload: change.encoded()))
  }

  // MARK: - Healing

  func heal() throws(Violation) {
    isHealing = true
    options.heal()
    trace.note(now, "HEALING")
    for from in blocked.indices {
      for to in blocked.indices { blocked[from][to] = false }
    }
    for node in nodes {
      node.pausedUntil = min(node.pausedUntil, now)
      node.files.setFull(false)
      if node.losesPower, node.actors != nil { crash(node, power: true, "loses power") }
      if node.actors == nil, !node.isRemoved { try start(node) }
    }
    let writes = oracle.counts.writes
    let reads = oracle.counts.reads
    for _ in 0..<60 {
      try run(until: now + 2 * electionTimeout)
      isQuiet = true
      try run(until: now + 4 * electionTimeout)
      isQuiet = false
      // Removed members that nobody talks to learn of it from their transport.
      let removed = nodes.first { $0.soft.role == .leader && $0.actors != nil }?.membership.removed
      for id in removed ?? [] {
        guard let slot = slot(of: id) else { continue }
        queue.add(.remove(slot, incarnation: nodes[slot].incarnation), at: now)
      }
      let serves =
        oracle.counts.writes > writes && (options.readShare == 0 || oracle.counts.reads > reads)
      if serves, isConverged { return try checkStates() }
    }
    throw Violation(.liveness, "no agreement after the faults ended:\n\(describeNodes())")
  }

  private var leader: MemberNode? {
    nodes.filter { $0.soft.role == .leader && $0.actors != nil }
      .max { $0.soft.term < $1.soft.term }
  }

  private var isConverged: Bool {
    guard let leader, let commit = leader.actors?.raft.status.commit
    else { return false }
    let agree = leader.membership.members.allSatisfy { member in
      guard let slot = slot(of: member.id), let actors = nodes[slot].actors else { return false }
      return actors.raft.status.leader == leader.id && actors.store.status.applied == commit
        && nodes[slot].membership == leader.membership
    }
    let last = oracle.model.revision
    return agree
      && watchers.allSatisfy { watcher in
        watcher.next == 0 || watcher.next > last
          || oracle.model.events(
            from: watcher.from, to: watcher.to, first: watcher.next, last: last
          ).isEmpty
      }
  }

  /// All members give the same checksum of their history, and the model's keys.
  private func checkStates() throws(Violation) {
    isQuiet = true
    var hashes: [MemberID: (UInt32, Int64)] = [:]
    let revision = oracle.model.revision
    let members = leader?.membership ?? Membership()
    for node in nodes where node.actors != nil && members[id: node.id] != nil {
      let hash = node.makeRequestID()
      let range = node.makeRequestID()
      let request = Etcdserverpb_RangeRequest.with {
        $0.key = .init(Model.name(0))
        $0.rangeEnd = .init(Model.name(options.keys))
      }
      let reads = [
        StoreRead(id: hash, kind: .hashKV(revision: 0)),
        StoreRead(id: range, kind: .range(request)),
      ]
      node.actors?.store.inbox.send(.read(reads, atLeast: 0))
      // A hash takes a slice for every few hundred revisions, and a turn to go on after each.
      for _ in 0..<(100 + revision / 50) {
        node.clock.set(now)
        node.actors?.storeThread.runTurn()
        for output in node.outbox.take() {
          if case .pause(let kind) = output { node.actors?.store.inbox.send(.pauseEnded(kind)) }
          guard case .replies(let replies) = output else { continue }
          for reply in replies {
            guard case .message(let message) = reply.outcome else { continue }
            if reply.id == hash,
              let answer = try? Etcdserverpb_HashKVResponse(serializedBytes: message)
            {
              hashes[node.id] = (answer.hash, answer.compactRevision)
              try require(
                answer.header.revision == revision, .determinism,
                "\(node.id) is at \(answer.header.revision), the model at \(revision)")
            } else if reply.id == range,
              let answer = try? Etcdserverpb_RangeResponse(serializedBytes: message)
            {
              try require(
                answer.count == oracle.model.rows(from: 0, to: options.keys, at: revision).count,
                .determinism, "\(node.id) holds \(answer.count) keys")
            }
          }
        }
        if hashes[node.id] != nil { break }
      }
      try require(hashes[node.id] != nil, .liveness, "\(node.id) gives no hash")
    }
    let compact = oracle.model.compactRevision
    let values = hashes.keys.sorted().compactMap { hashes[$0] }
    for value in values.dropFirst() {
      try require(
        value == values[0], .determinism,
        "members differ at revision \(revision), compacted at \(compact): \(hashes)")
    }
  }

  func describeNodes() -> String {
    nodes.map { node in
      guard let status = node.actors?.raft.status else {
        return "\(node.id) \(node.isRemoved ? "removed" : "down")"
      }
      let store = node.actors?.store.status
      return "\(node.id) \(status.role) term \(status.term) leader \(status.leader) commit "
        + "\(status.commit) last \(status.lastIndex) applied \(store?.applied ?? 0) "
        + "\(node.membership.confState.voters) \(node.membership.confState.learners)"
    }.joined(separator: "\n")
  }
}
