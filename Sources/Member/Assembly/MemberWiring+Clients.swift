import Actors
import Base
import EtcdAPI
import Glibc
import HTTP
import RaftActor
import StoreActor
import Synchronization

/// Clients, the cluster's pages, corruption checks and the end.
extension MemberWiring {
  func makeGateway(
    _ raft: RaftNode, _ store: KVStore, _ peers: PeerTransport, _ streamer: SnapshotStreamer
  ) -> ClientGateway {
    let services = servicesInbox
    let supervisor = supervisorInbox
    let quota = quotaInbox
    let member = storage.member
    let outlets = GatewayOutlets(
      raft: raft.inbox, store: store.inbox, raftStatus: { raft.status },
      storeStatus: { store.status },
      postToPeer: { id, member, path, body, headers in
        peers.submit(
          .post(
            id: id, to: member, path: path, body: body, contentType: "application/protobuf",
            headers: headers))
      },
      answerForwarded: { services.send(.answer($0, $1)) },
      streamer: streamer.inbox,
      quotaExceeded: {
        quota.send(.exceeded(alarmIsRaised: store.status.alarms.hasNoSpace(of: member)))
      },
      connectionsIdle: { supervisor.send(.connectionsIdle) },
      aside: { [jsonThread] work in jsonThread.execute(work) })
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return ClientGateway(
      settings: gatewaySettings, inbox: gatewayInbox, executor: loop, outlets: outlets,
      auth: auth, metrics: metrics, log: log,
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
      slowRequest: configuration.warningUnaryRequestDuration.nanoseconds,
      slowApply: configuration.warningApplyDuration.nanoseconds,
      connectionsMax: Self.connectionsMax, http: httpSettings)
  }

  /// What the process may open, less some for files and peers, as in etcd.
  private static var connectionsMax: Int {
    guard let limit = DescriptorLimit.current else { return 1024 }
    return max(64, Int(clamping: limit) - MemberProgram.descriptorsReserved)
  }

  private var httpSettings: HTTPSettings {
    HTTPSettings(
      origins: configuration.corsOrigins, hosts: configuration.hostWhitelist,
      servesGateway: configuration.enableGRPCGateway,
      servesProfiles: configuration.enableProfiles || configuration.logging.level <= .debug,
      commandLine: CommandLine.arguments)
  }

  func makeController(_ peers: PeerTransport, _ running: Running) -> MemberController {
    let gateway = gatewayInbox
    let controller = controllerInbox
    let log = log
    let grpc = configuration.listenClientURLs
    let http = configuration.listenClientHTTPURLs
    let services = ServiceManager.current
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
        earlyTokens: { gateway.send(.earlyTokens($0)) },
        joined: {
          gateway.send(.serve)
          log.info("ready to serve client requests")
          services?.notify("READY=1")
          for (addresses, traffic) in [(grpc, http.isEmpty ? "grpc+http" : "grpc"), (http, "http")]
          {
            for address in addresses {
              log.info(
                address.usesTLS
                  ? "serving client traffic securely"
                  : "serving client traffic insecurely; this is strongly discouraged!",
                ("traffic", traffic), ("address", address.socketPath ?? address.authority))
            }
          }
        }), log: log)
  }

  /// Asks another member's peer port for a page.
  func ask(
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

  func makeCorruptionChecker(
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

  func makeServices(_ store: KVStore, _ peers: PeerTransport) -> PeerServices {
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

  func makeSupervisor(
    _ raft: RaftNode, _ store: KVStore, _ peers: PeerTransport, _ compactor: Compactor,
    _ logWriter: LogWriter, _ running: Running
  ) -> MemberSupervisor {
    let gateway = gatewayInbox
    let controller = controllerInbox
    let quota = quotaInbox
    let corruption = corruptionInbox
    let loop = loop
    let member = storage.member
    let log = log
    let metrics = metrics
    let interval = configuration.heartbeatInterval
    let tickMilliseconds = Int(interval.wholeNanoseconds / 1_000_000)
    let descriptorTicks = max(1, DescriptorMonitor.periodMilliseconds / tickMilliseconds)
    let settledTicks = max(1, ProgramPages.settlingMilliseconds / tickMilliseconds)
    return MemberSupervisor(
      tickMilliseconds: tickMilliseconds, inbox: supervisorInbox, executor: loop,
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
          if ticks % descriptorTicks == 0 { DescriptorMonitor.check(log) }
          if ticks == settledTicks { ProgramPages.release() }
        },
        heartbeatsLate: { late in
          let followers = raft.status.peers.filter { $0.id != member }
          guard !followers.isEmpty else { return }
          metrics.server.heartbeatSendFailures.increment(by: UInt64(followers.count))
          log.warn(
            "leader failed to send out heartbeat on time; took too long, leader is overloaded "
              + "likely from slow disk",
            ("to", followers.map(\.id.hex)), ("heartbeat-interval", interval),
            ("expected-duration", interval * 2),
            ("exceeded-duration", Duration.nanoseconds(Int64(late))))
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
