import Actors
import Base
import EtcdAPI
import Glibc
import RaftActor
import StoreActor

// Making members' disks, starting processes on them, and ending them.

extension MemberWorld {
  static let logDirectory = "/wal"

  static var logOptions: WriteAheadLog.Options {
    var options = WriteAheadLog.Options()
    // Small, so that segments are cut often.
    options.segmentBytes = 24_576
    options.slackBytes = 8_192
    options.firstFillBytes = 4_096
    options.unsyncedBytesMax = 16_384
    return options
  }

  /// The first start of all members: one committed entry per member, in the log.
  func bootstrap() throws(Violation) {
    let (ids, entries) = firstMembers()
    oracle.bootstrap(entries)
    oracle.ruledCommit = .max
    for id in ids {
      let node = makeNode(id)
      let state = HardState(term: 1, vote: 0, commit: LogIndex(entries.count))
      try createLog(node, state, entries)
      try start(node)
    }
    addClientsAndWatchers()
  }

  func makeNode(_ id: MemberID) -> MemberNode {
    let node = MemberNode(
      slot: nodes.count, id: id, folder: "\(root)/\(id)-0", seed: random.next())
    nodes.append(node)
    for from in blocked.indices { blocked[from].append(false) }
    blocked.append(Array(repeating: false, count: nodes.count))
    return node
  }

  func createLog(
    _ node: MemberNode, _ state: HardState, _ entries: [Entry]
  ) throws(Violation) {
    do {
      let log = try WriteAheadLog.create(
        directory: Self.logDirectory,
        metadata: WALMetadata(nodeID: node.id, clusterID: World.cluster),
        options: Self.logOptions, fileSystem: node.files)
      log.append(hardState: state, entries: entries)
      try log.flush(sync: true)
      try log.close()
      try node.files.syncDirectory("")
    } catch {
      throw Violation(.recovery, "the log of \(node.id) cannot be made: \(error)")
    }
  }

  /// Starts a process on what the disks hold, by the steps of a member's start.
  func start(_ node: MemberNode) throws(Violation) {
    node.incarnation += 1
    mkdir(node.folder, 0o700)
    let recovered: (log: WriteAheadLog, recovered: WALRecovered)
    do {
      recovered = try WriteAheadLog.open(
        directory: Self.logDirectory, options: Self.logOptions, fileSystem: node.files)
    } catch {
      throw Violation(.recovery, "the log of \(node.id) cannot be opened: \(error)")
    }
    let found = recovered.recovered
    try checkRecovery(node, found)
    let backend = try openBackend(node, found.snapshot)
    let machine = try Self.load(backend, node.id, found.snapshot, electionTimeout)
    // Read before the state goes to its actor: afterwards it is no longer ours.
    let applied = machine.applied
    let revision = machine.kv.currentRevision
    let membership = machine.membership
    let actors = wire(
      node, makeCore(node, found, applied: applied, membership), recovered.log, backend, machine)
    let last = found.entries.last?.index ?? found.snapshot.index
    try require(
      applied <= last, .recovery,
      "\(node.id) has stored entry \(applied), its log ends at \(last)")
    try require(
      Int(applied) < oracle.revisions.count && oracle.revisions[Int(applied)] == revision,
      .atomicApply, "\(node.id) has stored entry \(applied) with revision \(revision)")
    node.membership = membership
    node.lastApplied = applied
    node.actors = actors
    trace.note(
      now,
      "\(node.id) starts: term \(found.hardState.term) commit \(found.hardState.commit) base "
        + "\(found.snapshot.index) last \(last) applied \(applied)"
        + (found.tornTail.map { ", torn at \($0.offset): \($0.reason)" } ?? ""))
    queue.add(
      .tick(node.slot, incarnation: node.incarnation),
      at: now + UInt64(draw(1...options.tick)) * 1000)
    collect(node)
  }

  private static func load(
    _ backend: Backend, _ id: MemberID, _ position: SnapshotMetadata, _ electionTimeout: UInt64
  ) throws(Violation) -> sending StateMachine<DiskRecords> {
    do {
      return try StoreLoader.load(
        backend: backend,
        settings: .init(member: id, cluster: World.cluster, maxLearners: 2),
        lessor: Lessor(
          ttlMin: Lessor.ttlMin(electionTimeout: electionTimeout), retryPeriod: 2 * World.second),
        position: position, failed: { preconditionFailure("the store cannot be read: \($0)") })
    } catch {
      throw Violation(.atomicApply, "the store of \(id) cannot be loaded: \(error)")
    }
  }

  private func openBackend(
    _ node: MemberNode, _ position: SnapshotMetadata
  ) throws(Violation) -> Backend {
    do {
      let backend = try Backend.open(
        directory: node.folder, options: BackendOptions(mapBytes: 1 << 28, noSync: true))
      guard backend.progress.consistentIndex < position.index else { return backend }
      let path = MemberNode.receivedPath(position.index, in: node.folder)
      try ReceivedStore.check(path, endsAt: position.index)
      _ = try ReceivedStore.install(path, into: backend)
      return backend
    } catch {
      throw Violation(.snapshotInstall, "the store of \(node.id) cannot be opened: \(error)")
    }
  }

  private func makeCore(
    _ node: MemberNode, _ found: WALRecovered, applied: LogIndex, _ membership: Membership
  ) -> RaftCore {
    var known = membership.confState
    if known.voters.isEmpty, applied == 0 {
      known.voters = found.entries.prefix { $0.kind == .configurationChange && $0.term == 1 }
        .compactMap { try? ConfChange(decoding: $0.data).nodeID }.sorted()
    }
    return RaftCore(
      configuration: RaftCore.Configuration(
        id: node.id, electionTicks: options.electionTicks,
        maxMessageBytes: options.maxMessageBytes,
        maxInflightMessages: options.maxInflightMessages, preVote: options.preVote,
        announcesCommitLazily: true),
      hardState: found.hardState, snapshot: found.snapshot, entries: found.entries,
      applied: applied, confState: known, generator: SeededGenerator(seed: random.next()))
  }

  private func wire(
    _ node: MemberNode, _ core: RaftCore, _ log: sending WriteAheadLog, _ backend: Backend,
    _ machine: sending StateMachine<DiskRecords>
  ) -> MemberActors {
    let outbox = node.outbox
    let clock = node.clock
    let loop = ReplayExecutor(name: "loop")
    let logThread = ReplayExecutor(name: "log")
    let storeThread = ReplayExecutor(name: "store")
    let backendThread = ReplayExecutor(name: "backend")
    let exportThread = ReplayExecutor(name: "export")
    let raft = RaftNode(
      core: core,
      policy: .init(
        entriesBetween: UInt64(options.entriesBetween),
        catchUpEntries: UInt64(options.catchUpEntries), parkedTicksMax: 20),
      executor: loop)
    let logWriter = LogWriter(
      log: log, segmentsKept: 5, executor: logThread,
      outlets: LogWriter.Outlets(
        persisted: { outbox.add(.persisted($0)) },
        failed: { outbox.add(.logFailed("\($0)")) }, measured: { _ in }))
    let reports = Relay<StoreInput>()
    let later = Relay<BackendInput>()
    let writer = BackendWriter(
      backend: backend, executor: backendThread, exporter: exportThread,
      later: { later.send($1) }, report: { reports.send(.backend($0)) })
    let writerInbox = writer.inbox
    later.connect { writerInbox.send($0) }
    let store = KVStore(
      machine: machine, backend: backend, backendInbox: writer.inbox,
      settings: KVStore.Settings(
        quotaBytes: nil, electionTimeout: electionTimeout, fragmentBytes: 2 << 20,
        snapshotDirectory: node.folder, progressTicks: 20, slowApply: .max, compactionBatch: 3,
        hashesCompactions: false),
      executor: storeThread, tokens: TokenBoard(ttl: .max),
      outlets: storeOutlets(raft.inbox, outbox), clock: { clock.now })
    let storeInbox = store.inbox
    reports.connect { storeInbox.send($0) }
    let logInbox = logWriter.inbox
    let folder = node.folder
    logWriter.start()
    writer.start()
    store.start()
    raft.start(
      RaftOutlets(
        write: { logInbox.send($0) },
        send: { outbox.add(.send($0)) },
        apply: { entries in
          outbox.add(.committed(entries))
          storeInbox.send(.apply(entries))
        },
        confirmReads: { outbox.add(.reads($0)) },
        softStateChanged: { state in
          storeInbox.send(.role(state))
          outbox.add(.soft(state))
        },
        proposalsDropped: { ids, _ in outbox.add(.dropped(ids)) },
        makeSnapshot: { storeInbox.send(.makeSnapshot(for: $0)) },
        installSnapshot: { snapshot in
          let path = MemberNode.receivedPath(snapshot.metadata.index, in: folder)
          storeInbox.send(.install(snapshot, path: path))
        },
        announceLater: { outbox.add(.announceLater) }))
    return MemberActors(
      loop: loop, logThread: logThread, storeThread: storeThread, backendThread: backendThread,
      exportThread: exportThread, raft: raft, log: logWriter, store: store, backend: writer)
  }

  private func storeOutlets(_ raft: Inbox<RaftInput>, _ outbox: MemberOutbox) -> StoreOutlets {
    StoreOutlets(
      reply: { outbox.add(.replies($0)) },
      deliver: { deliveries, _ in outbox.add(.watch(deliveries)) },
      stream: { _, _ in },
      applied: { raft.send(.applied($0)) },
      configurationApplied: { raft.send(.configurationApplied($0, index: $1)) },
      stored: { raft.send(.stored($0)) },
      snapshotMade: { member, snapshot, path in
        outbox.add(.snapshotMade(member, snapshot, path: path))
        raft.send(.snapshotMade(for: member, snapshot))
      },
      snapshotInstalled: { raft.send(.snapshotInstalled($0)) },
      exported: { _, _ in },
      proposeAsLeader: { term, _, requests in
        raft.send(
          .proposeAsLeader(
            term,
            payloads: requests.map {
              InternalRequestEnvelope.wrap($0.0, payload: $0.1, requestID: 0)
            }))
      },
      raiseNoSpace: { _ in },
      diskFull: { _, _ in },
      membershipChanged: { outbox.add(.membership($0)) },
      compactionFinished: { _ in },
      pause: { outbox.add(.pause($0)) },
      measured: { _ in },
      failed: { preconditionFailure("a store ends its member: \($0)") })
  }

  /// Ends a process; with the power, what was not synced is lost in part.
  func crash(_ node: MemberNode, power: Bool, _ reason: String) {
    trace.note(now, "\(node.id) \(reason)")
    oracle.counts.crashes += 1
    node.stop()
    for index in watchers.indices where watchers[index].node == node.slot {
      watchers[index].node = nil
    }
    node.pausedUntil = 0
    node.losesPower = false
    // Whoever restarts the process has made room.
    node.files.setFull(false)
    node.files.restart(power: power)
    moveStore(node)
    queue.add(.restart(node.slot), at: now + UInt64(draw(1...4000)) * World.millisecond)
  }

  /// The next process gets copies of the files: nothing of the old one can write to them any more.
  /// Commits of the store are durable when they are reported, as its file's own code promises.
  private func moveStore(_ node: MemberNode) {
    let next = "\(root)/\(node.id)-\(node.incarnation)"
    mkdir(next, 0o700)
    for name in Self.list(node.folder)
    where name == "store.lmdb" || name.hasPrefix("received-") {
      Self.copy("\(node.folder)/\(name)", to: "\(next)/\(name)")
    }
    Self.removeFolder(node.folder)
    node.folder = next
  }

  static func list(_ folder: String) -> [String] {
    ((try? PosixFileSystem().list(folder)) ?? []).sorted()
  }

  static func copy(_ from: String, to: String) {
    let files = PosixFileSystem()
    guard let source = try? files.openForReading(from), let size = try? files.size(source),
      let target = try? files.open(to, create: true)
    else { return }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, size), alignment: 16)
    defer {
      buffer.deallocate()
      files.close(source)
      files.close(target)
    }
    let count = (try? files.read(source, into: buffer, at: 0)) ?? 0
    _ = try? files.write(target, UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: 0)
  }

  static func removeFolder(_ folder: String) {
    for name in list(folder) { unlink("\(folder)/\(name)") }
    rmdir(folder)
  }
}
