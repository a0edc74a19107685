import Actors
import Base
import EtcdAPI
import Glibc
import HTTP
import RaftActor
import StoreActor
import Synchronization

/// Joins a member's actors by their inboxes and outlets.
struct MemberWiring {
  let configuration: MemberConfiguration
  let storage: MemberStorage
  let snapshotDirectory: String
  let loop: EventLoop
  let logThread: ThreadExecutor
  let storeThread: ThreadExecutor
  let backendThread: ThreadExecutor
  let exportThread: ThreadExecutor
  let log: EtcdLogger
  let metrics: MemberMetrics
  let fatal: FatalExit

  // Inboxes exist before the actors behind them, which refer to each other.
  private let gatewayInbox = Inbox<GatewayInput>(name: "gateway", limit: ClientGateway.inboxLimit)
  private let quotaInbox = Inbox<QuotaInput>(name: "quota", limit: 1 << 16)
  private let controllerInbox = Inbox<ControllerInput>(name: "controller", limit: 1 << 16)
  private let servicesInbox = Inbox<PeerServiceInput>(name: "peer services", limit: 1 << 16)
  private let supervisorInbox = Inbox<SupervisorInput>(name: "supervisor", limit: 1 << 10)
  private let corruptionInbox = Inbox<CorruptionInput>(name: "corruption", limit: 1 << 12)

  /// What outlives the wiring.
  final class Running: Sendable {
    /// Inboxes refer to their actors weakly; here they are held.
    let actors = Mutex<[any Actor]>([])
    let signal = Atomic<Int32>(0)
    /// Questions to peers that are under way, by their ids, which no caller's call has.
    fileprivate let peerQuestions =
      Mutex<(next: UInt64, asked: [UInt64: PeerAnswerHandler])>((1, [:]))
  }

  fileprivate typealias PeerAnswerHandler = @Sendable (Result<PeerResponse, PeerError>) -> Void

  /// Starts everything; what the loop runs from here on is events.
  func start() throws -> Running {
    let running = Running()
    let raft = makeRaft()
    let logWriter = makeLogWriter(raft)
    let peers = makePeers(raft, running)
    let (store, backendWriter) = makeStore(raft, peers)
    let corruption = makeCorruptionChecker(raft, store, peers, running)
    let streamer = makeStreamer()
    let gateway = makeGateway(raft, store, peers, streamer)
    let compactor = makeCompactor()
    let quota = makeQuotaMonitor()
    let controller = makeController(peers, running)
    let services = makeServices(store, peers)
    let supervisor = makeSupervisor(raft, store, peers, compactor, logWriter, running)

    let membership = storage.membership
    peers.submit(.members(membership.peers(beside: storage), removed: membership.removed))
    if membership.removed.contains(storage.member) { supervisorInbox.send(.removalApplied) }
    try listen(gateway)
    try peers.start()
    logWriter.start()
    backendWriter.start()
    store.start()
    streamer.start()
    gateway.start()
    compactor.start()
    quota.start()
    controller.start()
    services.start()
    corruption.start()
    connect(raft, logWriter, store, peers)
    supervisor.start()
    running.actors.withLock {
      $0 = [
        raft, logWriter, peers, store, backendWriter, streamer, gateway, compactor, quota,
        controller, services, supervisor, corruption,
      ]
    }
    if storage.confState.voters == [storage.member] {
      raft.inbox.send(.campaign)
    }
    return running
  }

  private func listen(_ gateway: ClientGateway) throws {
    let addresses = configuration.listenClientURLs.map(\.listenAddress)
    let metricsAddresses = configuration.listenMetricsURLs.map(\.listenAddress)
    let reusePort = configuration.socketReusePort
    try gateway.assumeIsolated { gateway in
      try gateway.listen(on: addresses, reusePort: reusePort)
      try gateway.listenForMetrics(on: metricsAddresses)
    }
  }

  // MARK: - Raft, its log and its peers

  private func makeRaft() -> RaftNode {
    let core = RaftCore(
      configuration: RaftCore.Configuration(
        id: storage.member, electionTicks: configuration.electionTicks,
        preVote: configuration.preVote),
      hardState: storage.hardState, snapshot: storage.base, entries: storage.entries,
      applied: storage.applied, confState: storage.confState,
      generator: SeededGenerator(seed: storage.member ^ monotonicNanoseconds()))
    return RaftNode(
      core: core,
      policy: .init(
        entriesBetween: configuration.snapshotCount,
        catchUpEntries: configuration.snapshotCatchupEntries,
        parkedTicksMax: Int(
          configuration.requestTimeout.wholeNanoseconds
            / configuration.heartbeatInterval.wholeNanoseconds)),
      executor: loop)
  }

  private func makeLogWriter(_ raft: RaftNode) -> LogWriter {
    let metrics = metrics
    let fatal = fatal
    let inbox = raft.inbox
    return LogWriter(
      log: storage.log.take(), segmentsKept: configuration.maxWALs,
      syncs: !configuration.unsafeNoFsync, executor: logThread,
      outlets: LogWriter.Outlets(
        persisted: { inbox.send(.persisted($0)) },
        failed: { fatal.end("\($0)") },
        synced: { metrics.disk.walFsync.observe(Double($0) / 1e9) },
        wrote: { metrics.disk.walWriteBytes.add(Int64($0)) }))
  }

  private func connect(
    _ raft: RaftNode, _ logWriter: LogWriter, _ store: KVStore, _ peers: PeerTransport
  ) {
    let gateway = gatewayInbox
    let controller = controllerInbox
    let supervisor = supervisorInbox
    let storeInbox = store.inbox
    let logInbox = logWriter.inbox
    let log = log.named("raft")
    let directory = snapshotDirectory
    raft.start(
      RaftOutlets(
        write: { batch in
          if let index = batch.releaseThrough {
            log.info("saved snapshot", ("snapshot-index", index))
          }
          logInbox.send(batch)
        },
        send: { peers.submit(.send($0)) },
        apply: { storeInbox.send(.apply($0)) },
        confirmReads: { gateway.send(.reads($0)) },
        softStateChanged: { state in
          log.info(
            "raft state changed", ("role", "\(state.role)"), ("leader", state.leader.hex),
            ("term", state.term))
          storeInbox.send(.role(state))
          gateway.send(.softState(state))
          controller.send(.softState(state))
          supervisor.send(.softState(state))
        },
        proposalsDropped: { gateway.send(.proposalsDropped($0, $1)) },
        makeSnapshot: { storeInbox.send(.makeSnapshot(for: $0)) },
        installSnapshot: { snapshot in
          let path = StorageLoader.receivedSnapshot(snapshot.metadata.index, in: directory)
          storeInbox.send(.install(snapshot, path: path))
        }))
  }

  private func makePeers(_ raft: RaftNode, _ running: Running) -> PeerTransport {
    var peerConfiguration = PeerConfiguration(
      id: storage.member, clusterID: storage.cluster,
      advertisedURLs: configuration.advertisePeerURLs.map(\.description),
      listen: configuration.listenPeerURLs.map(\.listenAddress),
      snapshotDirectory: snapshotDirectory)
    peerConfiguration.serverVersion = ProductVersion.etcd
    peerConfiguration.electionTimeoutMilliseconds = Int(
      configuration.electionTimeout.wholeNanoseconds / 1_000_000)
    return PeerTransport(
      configuration: peerConfiguration, outlets: peerOutlets(raft, running), loop: loop)
  }

  private func peerOutlets(_ raft: RaftNode, _ running: Running) -> PeerOutlets {
    let inbox = raft.inbox
    let gateway = gatewayInbox
    let services = servicesInbox
    let examiner = exportThread
    let supervisor = supervisorInbox
    let log = log
    let wakesEarly = OnceFlag(
      configuration.initialElectionTickAdvance && storage.confState.voters.count > 1)
    let advance = configuration.electionTicks - 2
    return PeerOutlets(
      received: { inbox.send(.messages($0)) },
      unreachable: { inbox.send(.unreachable($0)) },
      snapshotSent: { member, succeeded in
        if succeeded { log.info("sent database snapshot", ("remote-peer-id", member.hex)) }
        inbox.send(.snapshotSent(to: member, succeeded: succeeded))
      },
      snapshotReceived: { message, path in
        guard let snapshot = message.snapshot else { return }
        // Raft hears of it once it is known to be good: there is no way back from then on.
        examiner.execute {
          do {
            try ReceivedStore.examine(path, snapshot)
            log.info("received database snapshot", ("path", path), ("from", message.from.hex))
            inbox.send(.messages([message]))
          } catch {
            log.warn(
              "a received database snapshot is unusable", ("path", path),
              ("from", message.from.hex), ("error", "\(error)"))
            ReceivedStore.remove(path)
          }
        }
      },
      request: { services.send(.request($0)) },
      response: { id, result in
        let handler = running.peerQuestions.withLock { $0.asked.removeValue(forKey: id) }
        if let handler { return handler(result) }
        switch result {
        case .success(let response):
          gateway.send(.peerResponse(id: id, status: response.status, body: response.body))
        case .failure: gateway.send(.peerResponse(id: id, status: nil, body: []))
        }
      },
      linkChanged: { member, isActive in
        gateway.send(.linkChanged(member, isActive: isActive))
        // The first peer is there: no need to wait out a whole election timeout at start.
        if isActive, wakesEarly.take() { inbox.send(.advance(ticks: advance)) }
      },
      removedFromCluster: { supervisor.send(.removed) },
      log: { level, message, fields in log.write(level, message, fields) },
      metrics: peerMetrics())
  }

  private func peerMetrics() -> PeerMetrics {
    let network = metrics.network
    var peerMetrics = PeerMetrics()
    peerMetrics.sentBytes = { network.peerSentBytes.series($0.hex).increment(by: UInt64($1)) }
    peerMetrics.receivedBytes = {
      network.peerReceivedBytes.series($0.hex).increment(by: UInt64($1))
    }
    peerMetrics.sendFailed = { network.peerSentFailures.series($0.hex).increment() }
    peerMetrics.receiveFailed = { network.peerReceivedFailures.series($0.hex).increment() }
    peerMetrics.roundTrip = { network.peerRoundTripTime.series($0.hex).observe($1) }
    peerMetrics.snapshotSendEnded = { member, succeeded, seconds in
      (succeeded ? network.snapshotSendSuccess : network.snapshotSendFailures)
        .series(member.hex).increment()
      network.snapshotSendDuration.series(member.hex).observe(seconds)
    }
    peerMetrics.snapshotReceiveEnded = { member, succeeded, seconds in
      (succeeded ? network.snapshotReceiveSuccess : network.snapshotReceiveFailures)
        .series(member.hex).increment()
      network.snapshotReceiveDuration.series(member.hex).observe(seconds)
    }
    return peerMetrics
  }

  // MARK: - Store

  private func makeStore(
    _ raft: RaftNode, _ peers: PeerTransport
  ) -> (KVStore, BackendWriter) {
    let reports = Relay<BackendReport>()
    let pauses = Relay<Void>()
    let backendWriter = BackendWriter(
      backend: storage.backend, executor: backendThread, exporter: exportThread
    ) {
      reports.send($0)
    }
    let tick = configuration.heartbeatInterval.nanoseconds
    let progress = configuration.watchProgressNotifyInterval.nanoseconds
    let store = KVStore(
      machine: storage.machine.take(), backend: storage.backend, backendInbox: backendWriter.inbox,
      settings: KVStore.Settings(
        quotaBytes: quotaBytes, electionTimeout: configuration.electionTimeout.nanoseconds,
        fragmentBytes: Int(configuration.maxRequestBytes) + (512 << 10),
        snapshotDirectory: snapshotDirectory,
        progressTicks: Int(max(1, progress / max(1, tick))),
        slowApply: configuration.warningApplyDuration.nanoseconds,
        compactionBatch: configuration.compactionBatchLimit,
        hashesCompactions: configuration.featureGates.isEnabled(.compactHashCheck)),
      executor: storeThread, outlets: storeOutlets(raft, peers, pauses))
    let inbox = store.inbox
    let pause = Int(configuration.compactionSleepInterval.wholeNanoseconds / 1_000_000)
    let loop = loop
    let pauseTimer = LoopTimer(loop: loop) { inbox.send(.pauseEnded) }
    pauses.connect { loop.execute { pauseTimer.schedule(afterMilliseconds: max(1, pause)) } }
    reports.connect { inbox.send(.backend($0)) }
    return (store, backendWriter)
  }

  private func storeOutlets(
    _ raft: RaftNode, _ peers: PeerTransport, _ pauses: Relay<Void>
  ) -> StoreOutlets {
    let raftInbox = raft.inbox
    let gateway = gatewayInbox
    let controller = controllerInbox
    let quota = quotaInbox
    let metrics = metrics
    let fatal = fatal
    let log = log
    let member = storage.member
    let supervisor = supervisorInbox
    let joining = JoiningPeers(local: member, told: storage.joins)
    let slowApply = configuration.warningApplyDuration
    let ids = Mutex(RequestIDGenerator(member: ~storage.member, unixMilliseconds: 0))
    return StoreOutlets(
      reply: { gateway.send(.replies($0)) },
      deliver: { gateway.send(.watch($0)) },
      stream: { gateway.send(.part(id: $0, message: $1)) },
      applied: { raftInbox.send(.applied($0)) },
      configurationApplied: { raftInbox.send(.configurationApplied($0, index: $1)) },
      stored: { raftInbox.send(.stored($0)) },
      snapshotMade: { member, snapshot, path in
        if snapshot == nil {
          unlink(path)
        } else {
          peers.submit(.snapshotFile(to: member, path: path))
        }
        raftInbox.send(.snapshotMade(for: member, snapshot))
      },
      snapshotInstalled: { index in
        log.info("applied snapshot", ("snapshot-index", index))
        raftInbox.send(.snapshotInstalled(index))
      },
      exported: { gateway.send(.exported(id: $0, $1)) },
      proposeAsLeader: { term, requests in
        // Nobody waits for these, so their ids carry no member's bits that anybody looks for.
        let payloads = requests.map { kind, payload in
          InternalRequestEnvelope.wrap(
            kind, payload: payload, requestID: ids.withLock { $0.next() })
        }
        raftInbox.send(.proposeAsLeader(term, payloads: payloads))
      },
      raiseNoSpace: { quota.send(.exceeded(alarmIsRaised: $0)) },
      membershipChanged: { membership in
        peers.submit(.members(joining.peers(of: membership), removed: membership.removed))
        controller.send(.membership(membership))
        if let version = membership.clusterVersion {
          let minor = version.split(separator: ".").prefix(2).joined(separator: ".")
          metrics.info.setClusterVersion(minor)
        }
        if membership.removed.contains(member) { supervisor.send(.removalApplied) }
      },
      compactionFinished: { revision, hash in
        if let hash {
          log.info(
            "finished scheduled compaction", ("compact-revision", revision), ("hash", hash))
        } else {
          log.info("finished scheduled compaction", ("compact-revision", revision))
        }
      },
      pause: { pauses.send(()) },
      measured: { measure in
        switch measure {
        case .commit(let nanoseconds):
          metrics.disk.backendCommit.observe(Double(nanoseconds) / 1e9)
        case .applied(let counts):
          metrics.mvcc.putTotal.increment(by: counts.puts)
          metrics.mvcc.deleteTotal.increment(by: counts.deletes)
          metrics.mvcc.txnTotal.increment(by: counts.txns)
          metrics.lease.granted.increment(by: counts.grants)
          metrics.lease.revoked.increment(by: counts.revokes)
        case .ranges(let count): metrics.mvcc.rangeTotal.increment(by: UInt64(count))
        case .slowApply(let nanoseconds, let entries):
          metrics.server.slowApplies.increment()
          log.warn(
            "apply request took too long", ("took", Duration.nanoseconds(Int64(nanoseconds))),
            ("expected-duration", slowApply), ("entries", entries))
        }
      },
      failed: { fatal.end($0) })
  }

  private var quotaBytes: Int64? {
    configuration.quotaBackendBytes < 0 ? nil : configuration.quotaBackendBytes
  }

  private func makeStreamer() -> SnapshotStreamer {
    let gateway = gatewayInbox
    return SnapshotStreamer(
      version: ProductVersion.etcdMinor, executor: backendThread,
      deliver: { gateway.send(.chunks(id: $0, $1, isLast: $2)) },
      failed: { gateway.send(.replies([StoreReply(id: $0, outcome: .failure($1))])) })
  }

  private func makeCompactor() -> Compactor {
    let gateway = gatewayInbox
    let finished = Relay<Bool>()
    let policy: CompactionSchedule.Policy
    let kind: String
    switch configuration.autoCompaction {
    case .off: (policy, kind) = (.off, "")
    case .periodic(let time): (policy, kind) = (.periodic(retention: time.nanoseconds), "periodic")
    case .revision(let kept): (policy, kind) = (.revisions(kept), "revision")
    }
    let log = log.named("compactor")
    let compactor = Compactor(
      schedule: CompactionSchedule(policy: policy, now: monotonicNanoseconds()),
      executor: storeThread
    ) { revision in
      var request = ProtobufWriter()
      request.field(1, signed: revision)
      log.info("starting auto \(kind) compaction", ("revision", revision))
      gateway.send(
        .propose(.compaction, request.bytes) { outcome in
          switch outcome {
          case .message:
            log.info("completed auto \(kind) compaction", ("revision", revision))
            finished.send(true)
          case .failure(.compacted): finished.send(true)
          case .failure(let error):
            log.warn(
              "failed auto \(kind) compaction", ("revision", revision), ("error", error.message))
            finished.send(false)
          }
        })
    }
    let inbox = compactor.inbox
    finished.connect { inbox.send(.finished($0)) }
    return compactor
  }

  private func makeQuotaMonitor() -> QuotaMonitor {
    let gateway = gatewayInbox
    let inbox = quotaInbox
    let log = log
    return QuotaMonitor(
      member: storage.member, quota: quotaBytes, inbox: quotaInbox, executor: storeThread,
      outlets: QuotaMonitor.Outlets(
        propose: { request in
          gateway.send(
            .propose(.alarm, request) { outcome in
              if case .message = outcome {
                inbox.send(.settled(true))
              } else {
                inbox.send(.settled(false))
              }
            })
        },
        settled: { gateway.send(.spaceAlarmSettled) },
        warn: { message, size, quota in
          log.warn(message, ("quota-size-bytes", quota), ("size-bytes", size))
        }))
  }

  // MARK: - Clients and cluster

  private func makeGateway(
    _ raft: RaftNode, _ store: KVStore, _ peers: PeerTransport, _ streamer: SnapshotStreamer
  ) -> ClientGateway {
    let services = servicesInbox
    let supervisor = supervisorInbox
    let quota = quotaInbox
    let member = storage.member
    let outlets = GatewayOutlets(
      raft: raft.inbox, store: store.inbox, raftStatus: { raft.status },
      storeStatus: { store.status },
      postToPeer: { id, member, path, body in
        peers.submit(
          .post(id: id, to: member, path: path, body: body, contentType: "application/protobuf"))
      },
      answerForwarded: { services.send(.answer($0, $1)) },
      streamer: streamer.inbox,
      quotaExceeded: {
        quota.send(.exceeded(alarmIsRaised: store.status.alarms.hasNoSpace(of: member)))
      },
      connectionsIdle: { supervisor.send(.connectionsIdle) })
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return ClientGateway(
      settings: gatewaySettings, inbox: gatewayInbox, executor: loop, outlets: outlets,
      metrics: metrics, log: log,
      unixMilliseconds: UInt64(time.tv_sec) * 1000 + UInt64(time.tv_nsec) / 1_000_000)
  }

  private var gatewaySettings: GatewaySettings {
    let streams = configuration.maxConcurrentStreams
    return GatewaySettings(
      member: storage.member, cluster: storage.cluster,
      maxRequestBytes: Int(configuration.maxRequestBytes), maxTxnOps: configuration.maxTxnOps,
      maxConcurrentStreams: streams == .max ? nil : Int(streams), quotaBytes: quotaBytes,
      reportedQuota: configuration.quotaBackendBytes,
      requestTimeout: configuration.requestTimeout.nanoseconds,
      electionTicks: configuration.electionTicks,
      tickInterval: configuration.heartbeatInterval.nanoseconds,
      strictReconfigCheck: configuration.strictReconfigCheck,
      keepaliveMinTime: configuration.keepaliveMinTime.nanoseconds,
      keepaliveInterval: configuration.keepaliveInterval.nanoseconds,
      keepaliveTimeout: configuration.keepaliveTimeout.nanoseconds,
      slowRequest: configuration.warningUnaryRequestDuration.nanoseconds)
  }

  private func makeController(_ peers: PeerTransport, _ running: Running) -> MemberController {
    let gateway = gatewayInbox
    let controller = controllerInbox
    let log = log
    let addresses = configuration.listenClientURLs
    return MemberController(
      member: storage.member, name: configuration.name,
      clientURLs: configuration.advertiseClientURLs.map(\.description),
      membership: storage.membership, inbox: controllerInbox, executor: loop,
      outlets: MemberController.Outlets(
        propose: { kind, payload, done in
          gateway.send(.propose(kind, payload) { done($0.isMessage) })
        },
        proposeLegacy: { request, done in
          gateway.send(.proposeLegacy(request) { done($0.isMessage) })
        },
        askVersion: { member, round in
          let id = member.id
          ask(member.peerURLs, "/version", [], peers, running) { result in
            let answer = try? result.get()
            let text = answer.map { String(decoding: $0.body, as: UTF8.self) }
            controller.send(.version(id, answer?.status == 200 ? text : nil, round: round))
          }
        },
        joined: {
          gateway.send(.serve)
          log.info("ready to serve client requests")
          for address in addresses {
            log.info(
              "serving client traffic insecurely; this is strongly discouraged!",
              ("traffic", "grpc+http"), ("address", address.authority))
          }
        }), log: log)
  }

  /// Asks another member's peer port for a page.
  private func ask(
    _ urls: [String], _ path: String, _ body: Bytes, _ peers: PeerTransport, _ running: Running,
    _ handler: @escaping PeerAnswerHandler
  ) {
    guard let url = urls.first else { return }
    let id = running.peerQuestions.withLock { questions in
      questions.next += 1
      questions.asked[questions.next] = handler
      return questions.next
    }
    if !peers.submit(.get(id: id, url: url, path: path, body: body)) {
      running.peerQuestions.withLock { $0.asked[id] = nil }
      handler(.failure(.overloaded))
    }
  }

  private func makeCorruptionChecker(
    _ raft: RaftNode, _ store: KVStore, _ peers: PeerTransport, _ running: Running
  ) -> CorruptionChecker {
    let gateway = gatewayInbox
    let inbox = corruptionInbox
    let gates = configuration.featureGates
    return CorruptionChecker(
      member: storage.member,
      schedule: CorruptionSchedule(
        hashes: configuration.corruptCheckTime.nanoseconds,
        compactions: gates.isEnabled(.compactHashCheck)
          ? configuration.compactHashCheckTime.nanoseconds : 0,
        now: monotonicNanoseconds()),
      inbox: inbox, executor: loop,
      outlets: CorruptionChecker.Outlets(
        hashOwn: { id, linearizable in
          gateway.send(
            .read(.hashKV(revision: 0), linearizable: linearizable) { outcome in
              inbox.send(.own(id, MemberHash(outcome)))
            })
        },
        ask: { id, member, urls, revision in
          let question = Bytes("{\"revision\":\(revision)}".utf8)
          ask(urls, "/members/hashkv", question, peers, running) { result in
            inbox.send(.peer(id, member, PeerHashAnswer(result)))
          }
        },
        raise: { member in
          var request = ProtobufWriter()
          request.field(1, UInt64(Etcdserverpb_AlarmRequest.AlarmAction.activate.rawValue))
          request.field(2, member)
          request.field(3, UInt64(Etcdserverpb_AlarmType.corrupt.rawValue))
          gateway.send(.propose(.alarm, request.bytes) { _ in })
        },
        isLeader: { raft.status.role == .leader },
        status: { store.status }), log: log.named("corruption"))
  }

  private func makeServices(_ store: KVStore, _ peers: PeerTransport) -> PeerServices {
    let clusterID = storage.cluster.hex
    let gateway = gatewayInbox
    return PeerServices(
      inbox: servicesInbox, executor: loop,
      outlets: PeerServices.Outlets(
        respond: { id, status, contentType, body in
          peers.respond(
            id: id, status: status,
            headers: [
              HTTPField("Content-Type", contentType), HTTPField("X-Etcd-Cluster-Id", clusterID),
            ], body: body)
        },
        read: { gateway.send(.forwarded($0)) },
        promote: { gateway.send(.promote(request: $0, $1)) },
        status: { store.status }))
  }

  private func makeSupervisor(
    _ raft: RaftNode, _ store: KVStore, _ peers: PeerTransport, _ compactor: Compactor,
    _ logWriter: LogWriter, _ running: Running
  ) -> MemberSupervisor {
    let gateway = gatewayInbox
    let controller = controllerInbox
    let quota = quotaInbox
    let corruption = corruptionInbox
    let loop = loop
    let member = storage.member
    return MemberSupervisor(
      tickMilliseconds: Int(configuration.heartbeatInterval.wholeNanoseconds / 1_000_000),
      inbox: supervisorInbox, executor: loop,
      outlets: MemberSupervisor.Outlets(
        tick: { ticks in
          raft.inbox.send(.tick)
          store.inbox.send(.tick)
          gateway.send(.tick)
          controller.send(.tick)
          corruption.send(.tick)
          let status = store.status
          compactor.inbox.send(
            .tick(revision: status.revision, isLeader: raft.status.role == .leader))
          if ticks % 10 == 0 { quota.send(.size(bytes: status.sizeBytes)) }
        },
        handOver: {
          let best = raft.status.peers
            .filter { $0.id != member && !$0.isLearner && $0.recentActive }
            .max { $0.match < $1.match }
          if let best { raft.inbox.send(.transferLeader(to: best.id)) }
          return best != nil
        },
        stopServing: { gateway.send(.shutdown) },
        end: { signal in
          running.signal.store(signal, ordering: .relaxed)
          store.inbox.send(.flush)
          peers.submit(.stop)
          logWriter.close()
          loop.stop()
        }), log: log)
  }
}

extension StoreReply.Outcome {
  var isMessage: Bool {
    if case .message = self { true } else { false }
  }
}

extension Membership {
  /// Whom to connect to, and how.
  var peers: [PeerMember] { members.map { PeerMember(id: $0.id, urls: $0.peerURLs) } }

  /// The same before the first entries are applied, which name the members of a new cluster.
  func peers(beside storage: MemberStorage) -> [PeerMember] {
    guard members.isEmpty, storage.joins.isEmpty else {
      return JoiningPeers(local: storage.member, told: storage.joins).peers(of: self)
    }
    return storage.entries.prefix { $0.kind == .configurationChange }.compactMap { entry in
      guard let change = try? ConfChange(decoding: entry.data),
        let context = try? MemberContext(decoding: change.context)
      else { return nil }
      return PeerMember(id: context.record.id, urls: context.record.peerURLs)
    }
  }
}

extension EtcdURL {
  /// Where a socket for this URL is bound.
  var listenAddress: ListenAddress {
    if let socketPath { .unix(path: socketPath) } else { .tcp(host: host, port: port) }
  }
}

extension EtcdLogger {
  /// Fields that are known only at run time, in their order.
  func write(
    _ level: PeerLogLevel, _ message: String, _ fields: [(String, String)],
    file: String = #fileID, line: UInt = #line
  ) {
    let level: LogLevel =
      switch level {
      case .debug: .debug
      case .info: .info
      case .warn: .warn
      case .error: .error
      }
    sink.write(level: level, logger: name, file: file, line: line, message: message) { encoder in
      for (key, value) in fields {
        encoder.key(key)
        value.encode(into: &encoder)
      }
    }
  }
}

/// A flag that is taken once.
private final class OnceFlag: Sendable {
  private let isSet: Atomic<Bool>

  init(_ isSet: Bool) { self.isSet = Atomic(isSet) }

  func take() -> Bool { isSet.exchange(false, ordering: .relaxed) }
}

/// Passes messages on to an actor that is made after the one that sends them.
private final class Relay<Message>: Sendable {
  private let target = Mutex<(@Sendable (Message) -> Void)?>(nil)

  func connect(_ target: @escaping @Sendable (Message) -> Void) {
    self.target.withLock { $0 = target }
  }

  func send(_ message: Message) { target.withLock { $0 }?(message) }
}
