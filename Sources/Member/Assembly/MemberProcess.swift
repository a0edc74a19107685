import Actors
import Base
import EtcdAPI
import Glibc
import HTTP
import RaftActor
import StoreActor
import Synchronization

/// One member from start to end: opens its data, places its actors on their threads, joins them by
/// their inboxes, and runs the loop until it is told to stop.
///
/// This is the one file that says which actor lives on which thread.
final class MemberProcess {
  private let configuration: MemberConfiguration
  private let log: EtcdLogger
  private let metrics: MemberMetrics

  /// - Throws: what keeps the member from starting, as text for the log.
  init(configuration: MemberConfiguration, log: EtcdLogger) {
    self.configuration = configuration
    self.log = log
    metrics = MemberMetrics(extensive: configuration.extensiveMetrics)
    metrics.setConfiguration(configuration)
  }

  /// Runs the member. Returns the signal that ended it, 0 if the cluster did.
  func run() throws -> Int32 {
    describeStart()
    let auth = try makeAuth()
    let fatal = FatalExit(log: log)
    let security = try MemberSecurity(configuration: configuration, log: log)
    let initialCluster = InitialClusterSource(configuration: configuration, log: log)
    let loader = StorageLoader(
      configuration: configuration, initialCluster: initialCluster, log: log,
      failed: { fatal.end("\($0)") })
    try loader.prepare()
    let storage = try open(loader, security)
    log.info(
      storage.isNew ? "starting local member" : "restarting local member",
      ("local-member-id", storage.member.hex), ("cluster-id", storage.cluster.hex),
      ("commit-index", storage.hardState.commit), ("applied-index", storage.applied),
      ("current-revision", storage.revision))
    metrics.info.setMemberID(storage.member.hex)
    if let hash = storage.initialHash {
      try InitialCorruptCheck(
        member: storage.member, hash: hash, log: log, dialing: security.dialing
      ).run(
        peers: storage.membership.peers,
        timeoutMilliseconds: Int(configuration.requestTimeout.wholeNanoseconds / 1_000_000))
    }

    let loop = try EventLoop()
    let logThread = try ThreadExecutor(name: "apus-log")
    let storeThread = try ThreadExecutor(name: "apus-store")
    let backendThread = try ThreadExecutor(name: "apus-backend")
    // Not waited for at the end: a file that is half written then is removed at the next start.
    let exportThread = try ThreadExecutor(name: "apus-export")
    let jsonThread = try ThreadExecutor(name: "apus-json")
    let wiring = MemberWiring(
      configuration: configuration, storage: storage, snapshotDirectory: loader.snapshotDirectory,
      loop: loop, logThread: logThread, storeThread: storeThread, backendThread: backendThread,
      exportThread: exportThread, jsonThread: jsonThread,
      log: log, metrics: metrics, security: security, fatal: fatal, auth: auth,
      peerSeries: PeerSeries(local: storage.member, metrics: metrics.network))
    let running = try wiring.start()
    loop.run()
    storeThread.stop()
    backendThread.stop()
    logThread.stop()
    return running.signal.load(ordering: .relaxed)
  }

  /// How clients are told apart. The threads that check passwords are not waited for at the end.
  private func makeAuth() throws -> GatewayAuth {
    let options: AuthTokenOptions
    let provider: GatewayAuth.Provider
    do throws(AuthTokenOptions.Failure) {
      options = try AuthTokenOptions(configuration.authToken)
      provider = try GatewayAuth.Provider(options)
    } catch {
      log.warn(
        "failed to create token provider", ("error", error.description),
        ("reason", error.reason ?? ""))
      throw error
    }
    switch options {
    case .simple: log.warn("simple token is not cryptographically signed")
    case .jwt(let options) where !options.unknown.isEmpty:
      log.warn("unknown JWT options", ("keys", options.unknown))
    default: break
    }
    var cost = configuration.bcryptCost
    if !Bcrypt.costs.contains(cost) {
      log.warn(
        "use default bcrypt cost instead of the invalid given cost",
        ("min-cost", Bcrypt.costs.lowerBound), ("max-cost", Bcrypt.costs.upperBound),
        ("default-cost", Bcrypt.defaultCost), ("given-cost", cost))
      cost = Bcrypt.defaultCost
    }
    return GatewayAuth(
      provider: provider, tokens: TokenBoard(ttl: configuration.authTokenTTL.nanoseconds),
      workers: try PasswordWorkers(), bcryptCost: cost,
      usesCertificateNames: configuration.clientSecurity.clientCertAuth)
  }

  private func describeStart() {
    log.info(
      "Initialize and start etcd server", ("name", configuration.name),
      ("data-dir", configuration.dataDirectory), ("apus-version", ProductVersion.apus),
      ("api-version", ProductVersion.etcd))
    log.info(
      "starting an etcd server", ("etcd-version", ProductVersion.etcd),
      ("listen-client-urls", configuration.listenClientURLs),
      ("listen-peer-urls", configuration.listenPeerURLs),
      ("advertise-client-urls", configuration.advertiseClientURLs),
      ("initial-advertise-peer-urls", configuration.advertisePeerURLs),
      ("heartbeat-interval", configuration.heartbeatInterval),
      ("election-timeout", configuration.electionTimeout),
      ("snapshot-count", configuration.snapshotCount),
      ("quota-backend-bytes", configuration.quotaBackendBytes))
  }

  private func open(
    _ loader: StorageLoader, _ security: MemberSecurity
  ) throws -> MemberStorage {
    if loader.hasLog {
      log.info("server has already been initialized")
      return try loader.restart()
    }
    if configuration.initialClusterState == .existing {
      let cluster = try ExistingClusterProbe(
        configuration: try loader.initialCluster.expected(), log: log, dialing: security.dialing
      ).find()
      log.info(
        "joining a running cluster", ("cluster-id", cluster.id.hex),
        ("members", cluster.members.map { $0.id.hex }))
      return try loader.join(cluster)
    }
    let identities = try loader.initialCluster.newCluster()
    try BootstrapProbe(log: log, dialing: security.dialing).refuseSecondLife(of: identities)
    log.info("bootstrapping cluster", ("members", identities.members.map { $0.id.hex }))
    return try loader.bootstrap(identities)
  }
}

/// The end of a process that must not go on: what it would do next could be a lie.
struct FatalExit: Sendable {
  let log: EtcdLogger

  func end(_ reason: String) -> Never {
    log.fatal("the member stops", ("error", reason))
    _exit(1)
  }
}

extension Duration {
  var nanoseconds: UInt64 { UInt64(clamping: wholeNanoseconds) }
}
