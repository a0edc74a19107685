import Base
import EtcdAPI
import RaftActor
import StoreActor

// What a member's store does: applying, leases, snapshots, compaction, its file.

extension World {
  func enqueue(_ item: StoreItem, on node: Node) {
    node.storeQueue.append(item)
    guard !node.storeIsDue else { return }
    node.storeIsDue = true
    queue.add(
      .store(node.slot, incarnation: node.incarnation), at: now + delay(options.applyDelay))
  }

  /// Works off a batch of what has arrived.
  func workStore(_ node: Node) throws(Violation) {
    var left = options.applyDelay > 0 ? draw(1...20) : Int.max
    while left > 0, let item = node.popStoreItem() {
      left -= 1
      try work(item, on: node)
      guard node.isRunning else { return }
    }
    if node.hasStoreWork {
      node.storeIsDue = true
      queue.add(
        .store(node.slot, incarnation: node.incarnation), at: now + delay(options.applyDelay))
    }
    try serveReads(node)
    try deliverWatchOutput(node)
    scheduleCatchUp(node)
    try drain(node)
  }

  private func work(_ item: StoreItem, on node: Node) throws(Violation) {
    switch item {
    case .entry(let entry): try apply(entry, on: node)
    case .role(let soft): roleChanged(soft, on: node)
    case .keepAlive(let client, let operation, let lease):
      try renew(lease, on: node, client, operation)
    case .install(let snapshot): try install(snapshot, on: node)
    case .makeSnapshot(let member): try makeSnapshot(for: member, on: node)
    }
  }

  private func apply(_ entry: Entry, on node: Node) throws(Violation) {
    steps += 1
    do {
      try node.machine.apply(
        entry, now: node.clock(now), hasSpace: { _ in true }, output: &node.output)
    } catch {
      throw Violation(.determinism, "\(node.id) cannot apply entry \(entry.index): \(error)")
    }
    try oracle.applied(entry, node.output, on: node)
    trace.mix(node.chain)
    if !node.output.effects.changes.isEmpty {
      let kv = node.machine.kv
      node.hub.notify(node.output.effects.changes, revision: kv.currentRevision) { change in
        kv.previousKeyValue(of: change.key, before: change.revision.main)
      }
    }
    if let change = node.output.configurationChange {
      node.configurationChangedAt = entry.index
      // A snapshot that was accepted meanwhile has brought a newer configuration.
      if let core = node.core, entry.index > core.log.baseIndex {
        node.core?.applyConfChange(plantedChange(change, on: node))
      }
      // Another quorum counts from here on: it gets its time.
      for slot in node.silence.indices { node.silence[slot] = 0 }
      trace.note(now, "\(node.id) applies \(change.kind) \(change.nodeID)")
      if node.machine.membership.removed.contains(node.id) {
        queue.add(
          .remove(node.slot, incarnation: node.incarnation), at: now + Self.second)
      }
    }
    if let compaction = node.output.compacted {
      node.hub.compacted(to: compaction.revision)
      oracle.counts.compactions += 1
      scheduleCompaction(node)
    }
    node.core?.applied(through: entry.index)
    for reply in node.output.replies { try answer(reply, on: node) }
    if node.promotesAtTerm == entry.term { promoteLessor(node) }
    node.output.removeAll()
  }

  // MARK: - Leases

  private func roleChanged(_ soft: RaftCore.SoftState, on node: Node) {
    node.soft = soft
    if soft.role == .leader {
      node.promotesAtTerm = soft.term
      if node.machine.appliedTerm == soft.term { promoteLessor(node) }
    } else {
      node.promotesAtTerm = nil
      node.machine.lessor.demote()
    }
  }

  private func promoteLessor(_ node: Node) {
    node.promotesAtTerm = nil
    node.machine.lessor.promote(now: plantedPromotion(node.clock(now)), extend: electionTimeout)
  }

  func tickStore(_ node: Node) {
    guard node.ticks % 5 == 0, node.machine.lessor.isPrimary else { return }
    for lease in node.machine.lessor.expired(now: node.clock(now)) {
      guard let core = node.core, core.role == .leader, core.term == node.soft.term else { return }
      var writer = ProtobufWriter()
      writer.field(1, signed: lease)
      let payload = InternalRequestEnvelope.wrap(
        .leaseRevoke, payload: writer.bytes, requestID: 0)
      _ = node.core?.propose([payload])
      trace.note(now, "\(node.id) revokes lease \(lease), whose time is up")
    }
    if node.ticks % 20 == 0 { node.hub.progressTick() }
  }

  private func renew(
    _ lease: LeaseID, on node: Node, _ client: Int, _ operation: UInt64
  ) throws(Violation) {
    switch node.machine.lessor.renew(lease, now: node.clock(now)) {
    case .renewed(let ttl):
      guard waits(client, operation) else { return }
      try oracle.renewed(lease, ttl: ttl, since: clients[client].since, on: node)
      finish(client, operation)
    case .notFound, .expiredPendingRevoke, .clearCheckpointFirst, .notPrimary:
      finish(client, operation)
    }
  }

  // MARK: - The store's file

  /// Begins to write the state as of now.
  func startStoreCommit(_ node: Node) throws(Violation) {
    guard node.disk.storeUnderWay == nil, node.machine.applied > node.disk.store.applied else {
      return
    }
    let image = StoreImage(node.machine, chain: node.chain)
    try oracle.check(node.machine, chain: node.chain, node.id, .determinism)
    node.disk.storeUnderWay = image
    queue.add(
      .storeCommitted(node.slot, incarnation: node.incarnation),
      at: now + delay(options.storeCommitDelay))
  }

  func storeCommitted(_ node: Node) throws(Violation) {
    guard let image = node.disk.storeUnderWay else { return }
    node.disk.storeUnderWay = nil
    // A snapshot that was installed meanwhile is newer.
    guard image.applied > node.disk.store.applied else { return }
    node.disk.store = image
    node.storedIndex = image.applied
    trimLog(node)
    try drain(node)
  }

  // MARK: - Snapshots

  private func makeSnapshot(for member: MemberID, on node: Node) throws(Violation) {
    var number: Int?
    if !chance(100, of: 1000) || isHealing {
      images.append(StoreImage(node.machine, chain: node.chain))
      number = images.count - 1
    }
    queue.add(
      .snapshotMade(node.slot, incarnation: node.incarnation, member: member, image: number),
      at: now + delay(options.storeCommitDelay))
  }

  func snapshotMade(_ node: Node, for member: MemberID, image: Int?) throws(Violation) {
    if let image {
      let held = images[image]
      let metadata = SnapshotMetadata(
        index: held.applied, term: held.term, confState: held.membership.confState)
      _ = node.core?.snapshotReadyToSend(
        to: member, Snapshot(metadata: metadata, data: Self.imageData(image)))
    } else {
      node.core?.reportSnapshot(member, succeeded: false)
    }
    try drain(node)
  }

  /// A received state takes the place of the own one, in the file and in memory.
  private func install(_ snapshot: Snapshot, on node: Node) throws(Violation) {
    let index = snapshot.metadata.index
    guard let image = node.disk.received[index] else {
      throw Violation(.snapshotInstall, "\(node.id) lacks the snapshot at \(index)")
    }
    try require(
      index > node.machine.applied, .snapshotInstall,
      "\(node.id) installs \(index) over \(node.machine.applied)")
    node.disk.store = image
    node.disk.storeUnderWay = nil
    node.machine = try load(image, on: node)
    node.chain = image.chain
    try oracle.check(node.machine, chain: node.chain, node.id, .snapshotInstall)
    oracle.counts.snapshots += 1
    node.storedIndex = index
    node.trimmedThrough = max(node.trimmedThrough, index)
    restoreHub(node)
    if node.machine.kv.finishedCompactRevision < node.machine.kv.compactRevision {
      scheduleCompaction(node)
    }
    trace.note(now, "\(node.id) installs the snapshot at \(index)")
    node.core?.snapshotInstalled(index)
  }

  // MARK: - Compaction

  func scheduleCompaction(_ node: Node) {
    guard !node.compactionIsDue else { return }
    node.compactionIsDue = true
    queue.add(
      .compact(node.slot, incarnation: node.incarnation), at: now + 1_000_000 + delay(50_000))
  }

  func compactSlice(_ node: Node) {
    node.compactionIsDue = false
    let limit = node.machine.kv.compactRevision
    if !node.machine.kv.compactionStep(keys: draw(1...4), drops: draw(1...6)) {
      scheduleCompaction(node)
    } else {
      plantCompaction(node, limit)
    }
  }
}
