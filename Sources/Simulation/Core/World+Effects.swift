import Base
import RaftActor
import StoreActor

// What the actor around a core does with its effects, and the log with its batches.

extension World {
  /// Sees to everything that a core has to say.
  func drain(_ node: Node) throws(Violation) {
    try releasePromises(node)
    while var effects = node.core?.takeEffects() {
      guard let core = node.core else { return }
      try oracle.checkCommit(core, nodes)
      if plant == .twoChangesInFlight { effects.entries = plantedEntries(effects.entries) }
      try oracle.check(effects, of: node, core)
      for message in effects.sendNow { try send(message, from: node) }
      let batch = DiskBatch(
        sequence: effects.sequence, mark: effects.snapshot?.metadata,
        entries: effects.entries, hardState: effects.hardState,
        mustSync: effects.mustSync)
      if batch.recordCount > 0 {
        node.asked = effects.sequence
        write(batch, on: node)
      }
      if !effects.sendAfterSync.isEmpty || effects.snapshot != nil {
        node.promises.append(
          Promise(
            sequence: node.asked, messages: effects.sendAfterSync, install: effects.snapshot))
      }
      try handOut(effects, on: node)
      try releasePromises(node)
    }
    if let core = node.core {
      try oracle.checkCommit(core, nodes)
      try oracle.check(node, core)
      try plantAfterDrain(node, core)
    }
  }

  private func handOut(_ effects: RaftCore.Effects, on node: Node) throws(Violation) {
    let committed =
      plant == .twoChangesInFlight ? plantedEntries(effects.committed) : effects.committed
    for entry in committed {
      try oracle.commit(entry, at: node.id, now: now, drift: options.drift)
      enqueue(.entry(entry), on: node)
    }
    for state in effects.readStates { try confirm(state, on: node) }
    for context in effects.droppedReads { dropRead(context, on: node) }
    if let soft = effects.softState {
      trace.note(now, "\(node.id) \(soft.role), leader \(soft.leader), term \(soft.term)")
      trace.mix(soft.term << 8 ^ soft.leader)
      if soft.role == .leader { for slot in node.silence.indices { node.silence[slot] = 0 } }
      enqueue(.role(soft), on: node)
    }
    for member in effects.snapshotWanted { enqueue(.makeSnapshot(for: member), on: node) }
  }

  /// Sends what was waiting for syncs that are done.
  private func releasePromises(_ node: Node) throws(Violation) {
    while let first = node.promises.first,
      first.sequence <= node.persisted || plant == .acknowledgeBeforeSync && first.install == nil
    {
      node.promises.removeFirst()
      if let snapshot = first.install { enqueue(.install(snapshot), on: node) }
      for message in first.messages { try send(message, from: node) }
    }
  }

  // MARK: - The log

  func write(_ batch: DiskBatch, on node: Node) {
    if let first = batch.entries.first, first.index <= node.acknowledged.index {
      // A newer leader replaces what an older one was promised.
      let kept = node.core?.log.term(at: first.index - 1)
      node.acknowledged = kept.map { (first.index - 1, $0) } ?? (0, 0)
    }
    if let mark = batch.mark, mark.index >= node.acknowledged.index { node.acknowledged = (0, 0) }
    node.disk.queued.append(batch)
    startFlush(node)
  }

  /// Everything queued goes to the disk with one write and one sync.
  private func startFlush(_ node: Node) {
    guard !node.disk.isFlushing, !node.disk.queued.isEmpty else { return }
    node.disk.isFlushing = true
    node.disk.flushing = node.disk.queued
    node.disk.queued = []
    let mustSync = node.disk.flushing.contains(where: \.mustSync)
    let takes = mustSync ? delay(options.syncDelay) : 20_000
    queue.add(.flushed(node.slot, incarnation: node.incarnation), at: now + takes)
  }

  func flushed(_ node: Node) throws(Violation) {
    if node.disk.failsNext || node.disk.fullUntil > now, !isHealing {
      node.disk.failsNext = false
      node.hasFailed = true
      if plant != .syncErrorIgnored {
        crash(node, power: true, "ends: the log cannot be written")
        return
      }
      node.hasFailed = false
      plantSyncError(node)
    }
    var batches = node.disk.flushing
    node.disk.flushing.removeAll(keepingCapacity: true)
    node.disk.isFlushing = false
    guard let last = batches.last else { return }
    let termBefore = node.disk.log.hardState.term
    if batches.contains(where: \.mustSync) {
      plantTruncation(node, &batches)
      node.disk.sync(batches)
    } else {
      node.disk.unsynced += batches
    }
    try require(
      node.disk.log.hardState.term >= termBefore, .termMonotonic,
      "the durable term of \(node.id) went back to \(node.disk.log.hardState.term)")
    node.persisted = last.sequence
    node.core?.persisted(last.sequence)
    startFlush(node)
    try drain(node)
  }

  /// Drops from the log what neither a restart nor a slow member needs any longer.
  func trimLog(_ node: Node) {
    guard let core = node.core else { return }
    let point = min(node.storedIndex, core.applied)
    guard point >= node.trimmedThrough + UInt64(options.entriesBetween),
      point >= node.configurationChangedAt, let term = core.log.term(at: point)
    else { return }
    node.trimmedThrough = point
    let mark = SnapshotMetadata(index: point, term: term, confState: core.confState)
    let keep = UInt64(options.catchUpEntries)
    node.core?.compact(through: max(core.log.baseIndex, point > keep ? point - keep : 0))
    write(DiskBatch(sequence: node.asked, mark: mark, mustSync: true), on: node)
  }

  // MARK: - Time

  private func tickInterval(of node: Node) -> UInt64 {
    UInt64(options.tick) * 1_000_000 / UInt64(1000 + node.drift)
  }

  /// As the gateway's `StallGuard`: what comes first after a pause may be a tick, or a request.
  func noteStall(_ node: Node) {
    if now - node.lastTick > 3 * tickInterval(of: node) { node.mustProve = true }
  }

  func tick(_ node: Node) throws(Violation) {
    queue.add(.tick(node.slot, incarnation: node.incarnation), at: now + tickInterval(of: node))
    noteStall(node)
    node.lastTick = now
    node.ticks += 1
    node.core?.tick()
    try drain(node)
    try checkQuorumContact(node)
    guard node.isRunning else { return }
    tickStore(node)
    if chance(100, of: 1000) { try startStoreCommit(node) }
    try drain(node)
  }

  /// A leader hears a quorum at least every second election timeout, or steps down.
  private func checkQuorumContact(_ node: Node) throws(Violation) {
    guard let core = node.core, core.role == .leader else { return }
    if core.transferee != 0 {
      // A transfer begins the count anew.
      for slot in node.silence.indices { node.silence[slot] = 0 }
    }
    let voters = core.confState.voters
    let limit = 2 * options.electionTicks + 2
    var heard = 0
    for slot in node.silence.indices {
      node.silence[slot] += 1
      let id = MemberID(slot + 1) * 10
      if voters.contains(id), id == node.id || node.silence[slot] <= limit { heard += 1 }
    }
    try require(
      heard > voters.count / 2, .quorumContact,
      "\(node.id) leads term \(core.term) and has heard only \(heard) of \(voters) for \(limit) ticks"
    )
  }
}
