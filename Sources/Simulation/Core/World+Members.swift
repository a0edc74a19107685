import Base
import RaftActor
import StoreActor

// Starting, stopping and crashing members.

extension World {
  /// The way a static cluster starts: one committed entry per member.
  func bootstrap() throws(Violation) {
    let (ids, entries) = firstMembers()
    oracle.bootstrap(entries)
    var first = StoreImage()
    for id in ids {
      let node = makeNode(id)
      // The first store is made once: all start equal.
      if first.applied == 0 {
        var machine = node.machine
        var output = ApplyOutput()
        for entry in entries {
          try? machine.apply(entry, now: 0, hasSpace: { _ in true }, output: &output)
          output.removeAll()
        }
        first = StoreImage(machine, chain: 0)
      }
      node.disk.store = first
      let state = HardState(term: 1, vote: 0, commit: LogIndex(entries.count))
      node.disk.log.append(DiskBatch(sequence: 0, entries: entries, hardState: state))
      try start(node)
    }
    oracle.voters[LogIndex(entries.count)] = first.membership.confState
    addClientsAndWatchers()
  }

  static func context(
    _ id: MemberID, url: String? = nil, learner: Bool = false, promote: Bool = false
  ) -> Bytes {
    MemberContext(
      record: MemberRecord(id: id, peerURLs: [url ?? "http://\(id)"], isLearner: learner),
      isPromote: promote
    ).encoded()
  }

  func makeNode(_ id: MemberID) -> Node {
    let empty = StoreImage()
    let lessor = makeLessor()
    let machine = SimulatedMachine(
      settings: .init(member: id, cluster: Self.cluster, maxLearners: 2),
      kv: KeyValueMachine(store: SimulatedRecords()), lessor: lessor, alarms: AlarmSet(),
      membership: Membership(), applied: 0, appliedTerm: 0)
    let node = Node(slot: nodes.count, id: id, machine: machine, store: empty)
    node.drift = options.drift > 0 ? draw(-options.drift...options.drift) : 0
    node.silence = Array(repeating: 0, count: Self.membersMax)
    nodes.append(node)
    for from in blocked.indices { blocked[from].append(false) }
    blocked.append(Array(repeating: false, count: nodes.count))
    for from in linkBusyUntil.indices { linkBusyUntil[from].append(0) }
    linkBusyUntil.append(Array(repeating: 0, count: nodes.count))
    return node
  }

  private func makeLessor() -> Lessor {
    Lessor(
      ttlMin: Lessor.ttlMin(electionTimeout: electionTimeout), retryPeriod: 2 * Self.second,
      checkpointInterval: nil)
  }

  /// Starts a process on what the disk holds.
  func start(_ node: Node) throws(Violation) {
    node.incarnation += 1
    node.hasFailed = false
    plantRestart(node)
    let log = node.disk.log
    try oracle.checkRecovery(node, log)
    if node.disk.store.applied < log.base.index {
      // The installation of a received snapshot was interrupted.
      guard let received = node.disk.received[log.base.index] else {
        throw Violation(.snapshotInstall, "\(node.id) lacks the snapshot at \(log.base.index)")
      }
      node.disk.store = received
    }
    node.disk.received = [:]
    node.machine = try load(node.disk.store, on: node)
    node.chain = node.disk.store.chain
    try oracle.check(node.machine, chain: node.chain, node.id, .atomicApply)
    node.storedIndex = node.machine.applied
    node.hub = WatchHub(
      currentRevision: node.machine.kv.currentRevision,
      compactRevision: node.machine.kv.compactRevision)
    node.soft = RaftCore.SoftState(role: .follower, leader: 0, term: 0)
    node.promotesAtTerm = nil
    node.asked = 0
    node.persisted = 0
    node.trimmedThrough = log.base.index
    node.configurationChangedAt = 0
    node.mustProve = false
    node.lastTick = now
    node.core = makeCore(node, log)
    node.lastStatus = (0, 0, 0)
    node.leaderLast = (0, 0)
    let interval = UInt64(options.tick) * 1000
    queue.add(
      .tick(node.slot, incarnation: node.incarnation),
      at: now + UInt64(draw(0...options.tick)) * 1000 % interval)
    if node.machine.kv.finishedCompactRevision < node.machine.kv.compactRevision {
      scheduleCompaction(node)
    }
    trace.note(
      now,
      "\(node.id) starts: term \(log.hardState.term) commit \(log.hardState.commit) base "
        + "\(log.base.index) last \(log.lastIndex) applied \(node.machine.applied)")
    try drain(node)
  }

  func load(_ image: StoreImage, on node: Node) throws(Violation) -> SimulatedMachine {
    var image = image
    if plant == .revisionFromKeys { image.scheduledCompactRevision = -1 }
    return try image.load(settings: node.machine.settings, lessor: makeLessor())
  }

  private func makeCore(_ node: Node, _ log: LogImage) -> RaftCore {
    let known = node.machine.membership.confState
    return RaftCore(
      configuration: RaftCore.Configuration(
        id: node.id, electionTicks: options.electionTicks,
        maxMessageBytes: options.maxMessageBytes,
        maxInflightMessages: options.maxInflightMessages, maxApplyBytes: 400,
        preVote: options.preVote),
      hardState: log.hardState, snapshot: log.base, entries: log.entries,
      applied: node.machine.applied, confState: known,
      generator: SeededGenerator(seed: random.next()))
  }

  /// The process ends; what the disk makes of it is up to the caller.
  func stop(_ node: Node) {
    node.stop()
    for index in watchers.indices where watchers[index].node == node.slot {
      watchers[index].node = nil
    }
  }

  /// A crash of the process, or of the machine under it.
  func crash(_ node: Node, power: Bool, _ reason: String) {
    trace.note(now, "\(node.id) \(reason)")
    oracle.counts.crashes += 1
    stop(node)
    let before = node.disk.log
    plantCrash(node)
    node.disk.lose(power: power, &random)
    plantTornTail(node, before)
    node.pausedUntil = 0
    queue.add(.restart(node.slot), at: now + UInt64(draw(1...5000)) * Self.millisecond)
  }

  func restart(_ node: Node) throws(Violation) {
    guard !node.isRunning, !node.isRemoved else { return }
    if node.disk.fullUntil > now && !isHealing {
      // The log cannot be made ready.
      queue.add(.restart(node.slot), at: node.disk.fullUntil)
      return
    }
    try start(node)
  }
}
