import Base
import RaftActor
import StoreActor

/// What planted faults remember.
struct PlantState {
  /// Payloads of membership changes that travel as normal entries through the core that took them.
  var changes: Set<Bytes> = []
  /// The newest read round of each member, and the constant that stands for all of them on the wire.
  var rounds: [MemberID: Bytes] = [:]
  /// Commits that a leader pretends, by slot.
  var pretended: [Int: LogIndex] = [:]
}

// Known bugs at the edges of the simulation: see `Plant`. Without one these do nothing.

extension World {
  // MARK: - Disk

  func plantRestart(_ node: Node) {
    if plant == .voteTwice { node.disk.log.forget(vote: true, term: false) }
  }

  func plantCrash(_ node: Node) {
    guard plant == .appliedIndexApart, let newer = node.disk.storeUnderWay else { return }
    node.disk.store.applied = newer.applied
    node.disk.store.term = newer.term
  }

  func plantTornTail(_ node: Node, _ before: LogImage) {
    guard plant == .tornTailCutTooFar, node.disk.log.lastIndex == before.lastIndex else { return }
    node.disk.log.dropLast(1)
  }

  func plantTruncation(_ node: Node, _ batches: inout [DiskBatch]) {
    guard plant == .hardStateLostOnTruncation else { return }
    let truncates = batches.contains { batch in
      batch.entries.first.map { $0.index <= node.disk.log.lastIndex } ?? false
    }
    if truncates {
      for slot in batches.indices { batches[slot].hardState = nil }
      node.disk.log.forget(vote: true, term: true)
    }
  }

  /// What failed to be written is taken for written: it is not there.
  func plantSyncError(_ node: Node) {
    guard let last = node.disk.flushing.last else { return }
    node.disk.flushing = [DiskBatch(sequence: last.sequence)]
  }

  // MARK: - Messages

  func plantMessage(_ message: Message, from node: Node) -> Message {
    var message = message
    switch plant {
    case .readIDReuse where message.kind == .heartbeat && !message.context.isEmpty:
      planted.rounds[node.id] = message.context
      message.context = Bytes(repeating: 1, count: 8)
    case .commitOfOlderTerm where message.kind == .append || message.kind == .heartbeat:
      let last = message.index + LogIndex(message.entries.count)
      guard let pretended = planted.pretended[node.slot], message.kind == .append else { break }
      message.commit = max(message.commit, min(pretended, last))
    case .twoChangesInFlight: message.entries = plantedEntries(message.entries)
    default: break
    }
    return message
  }

  func plantDelivery(_ message: Message, to node: Node) -> Message {
    guard plant == .readIDReuse, message.kind == .heartbeatResponse, !message.context.isEmpty,
      let newest = planted.rounds[node.id]
    else { return message }
    var message = message
    message.context = newest
    return message
  }

  /// A quorum has it: that is taken for a commit even if the entry is of an older term.
  func plantAfterDrain(_ node: Node, _ core: RaftCore) throws(Violation) {
    guard plant == .commitOfOlderTerm, core.role == .leader else { return }
    let matches = core.status.peers.filter { !$0.isLearner }.map(\.match).sorted()
    guard !matches.isEmpty else { return }
    let reached = matches[(matches.count - 1) / 2]
    if reached > core.commit { planted.pretended[node.slot] = reached }
  }

  // MARK: - Membership

  func plantedChange(_ change: ConfChange, on node: Node) -> ConfChange {
    guard plant == .learnerCounted, change.kind == .addLearnerNode else { return change }
    var change = change
    change.kind = .addNode
    return change
  }

  /// The core takes the change for a normal entry; on disks and wires it is one.
  func plantChange(_ change: ConfChange, on node: Node) {
    let data = change.encoded()
    planted.changes.insert(data)
    _ = node.core?.propose([data])
  }

  func plantedEntries(_ entries: [Entry]) -> [Entry] {
    guard plant == .twoChangesInFlight else { return entries }
    return entries.map { entry in
      guard planted.changes.contains(entry.data) else { return entry }
      var entry = entry
      entry.kind = .configurationChange
      return entry
    }
  }

  // MARK: - Store

  func plantedPromotion(_ clock: UInt64) -> UInt64 {
    guard plant == .earlyLeaseExpiry else { return clock }
    return clock > 4 * Self.second ? clock - 4 * Self.second : 0
  }

  func plantCompaction(_ node: Node, _ limit: Int64) {
    if plant == .tombstoneAtCompaction { node.machine.kv.store.hiddenTombstone = limit }
  }

  func plantedOutputs(_ outputs: [WatchOutput]) -> [WatchOutput] {
    guard plant == .progressTooEarly else { return outputs }
    var first: [WatchOutput] = []
    var rest: [WatchOutput] = []
    for output in outputs {
      if case .progress = output { first.append(output) } else { rest.append(output) }
    }
    return first + rest
  }

  /// Watchers start anew at the snapshot's revision.
  func plantHub(_ node: Node) {
    let kv = node.machine.kv
    node.hub = WatchHub(
      currentRevision: kv.currentRevision, compactRevision: kv.compactRevision)
    for number in watchers.indices where watchers[number].node == node.slot {
      let next = watchers[number].next
      watchers[number].next = 0
      connect(number, to: node)
      watchers[number].next = next
    }
  }
}
