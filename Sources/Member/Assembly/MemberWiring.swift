import Actors
import Base
import EtcdAPI
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
  let jsonThread: ThreadExecutor
  let log: EtcdLogger
  let metrics: MemberMetrics
  let security: MemberSecurity
  let fatal: FatalExit
  let auth: GatewayAuth

  // Inboxes exist before the actors behind them, which refer to each other.
  let gatewayInbox = Inbox<GatewayInput>(name: "gateway", limit: ClientGateway.inboxLimit)
  let quotaInbox = Inbox<QuotaInput>(name: "quota", limit: 1 << 16)
  let controllerInbox = Inbox<ControllerInput>(name: "controller", limit: 1 << 16)
  let servicesInbox = Inbox<PeerServiceInput>(name: "peer services", limit: 1 << 16)
  let supervisorInbox = Inbox<SupervisorInput>(name: "supervisor", limit: 1 << 10)
  let peerSeries: PeerSeries
  let corruptionInbox = Inbox<CorruptionInput>(name: "corruption", limit: 1 << 12)

  /// What outlives the wiring.
  final class Running: Sendable {
    /// Inboxes refer to their actors weakly; here they are held.
    let actors = Mutex<[any Actor]>([])
    let signal = Atomic<Int32>(0)
    /// Questions to peers that are under way, by their ids, which no caller's call has.
    let peerQuestions =
      Mutex<(next: UInt64, asked: [UInt64: PeerAnswerHandler])>((1, [:]))
  }

  typealias PeerAnswerHandler = @Sendable (Result<PeerResponse, PeerError>) -> Void

  /// Starts everything; what the loop runs from here on is events.
  func start() throws -> Running {
    let running = Running()
    let raft = makeRaft()
    let desk = LogDesk()
    let logWriter = makeLogWriter(raft, desk)
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
    peerSeries.update(membership)
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
    desk.start(logWriter.inbox, on: loop)
    try connect(raft, logWriter, desk, store, peers)
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
    let (security, loop) = (security, loop)
    let (urls, httpURLs) = (configuration.listenClientURLs, configuration.listenClientHTTPURLs)
    let metricsURLs = configuration.listenMetricsURLs
    let reusePort = configuration.socketReusePort
    try gateway.assumeIsolated { gateway in
      try gateway.listen(
        on: security.clientListeners(urls, loop: loop), for: httpURLs.isEmpty ? .all : .grpc,
        reusePort: reusePort)
      try gateway.listen(
        on: security.clientListeners(httpURLs, loop: loop), for: .http, reusePort: reusePort)
      try gateway.listenForMetrics(on: security.metricsListeners(metricsURLs, loop: loop))
    }
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
final class OnceFlag: Sendable {
  private let isSet: Atomic<Bool>

  init(_ isSet: Bool) { self.isSet = Atomic(isSet) }

  func take() -> Bool { isSet.exchange(false, ordering: .relaxed) }
}
