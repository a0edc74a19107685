/// Everything one member process is told at its start, checked and with defaults filled in.
public struct MemberConfiguration: Sendable {
  public enum ClusterState: String, Sendable { case new, existing }

  public enum AutoCompaction: Sendable, Equatable {
    case off
    /// Keeps the history of this long.
    case periodic(Duration)
    /// Keeps this many revisions.
    case revision(Int64)
  }

  /// One member of `--initial-cluster`, in the order of its first mention.
  public struct InitialMember: Sendable, Equatable {
    public var name: String
    /// Sorted as text.
    public var peerURLs: [EtcdURL]

    public init(name: String, peerURLs: [EtcdURL]) {
      self.name = name
      self.peerURLs = peerURLs
    }
  }

  /// Where DNS names the members of the cluster, for a member that has no log yet.
  public struct ServiceDomain: Sendable, Equatable {
    public var domain: String
    /// Stands behind the names of the services, with a dash; empty: nothing does.
    public var suffix: String
  }

  // Member
  public var name: String
  public var dataDirectory: String
  /// Nil: `<data-dir>/member/wal`.
  public var walDirectory: String?
  public var listenPeerURLs: [EtcdURL]
  public var listenClientURLs: [EtcdURL]
  public var listenClientHTTPURLs: [EtcdURL]
  public var listenMetricsURLs: [EtcdURL]

  // Cluster
  public var advertisePeerURLs: [EtcdURL]
  public var advertiseClientURLs: [EtcdURL]
  /// Empty if DNS is to name the members.
  public var initialCluster: [InitialMember]
  public var serviceDomain: ServiceDomain?
  public var initialClusterToken: String
  public var initialClusterState: ClusterState
  public var strictReconfigCheck: Bool
  public var maxLearners: Int
  /// Makes a cluster of this member alone of what is in its log.
  public var forceNewCluster: Bool

  // Raft
  public var heartbeatInterval: Duration
  public var electionTimeout: Duration
  public var initialElectionTickAdvance: Bool
  public var preVote: Bool
  /// Applied entries between two snapshots. Never 0.
  public var snapshotCount: UInt64
  /// Entries kept behind a snapshot for slow followers. Never 0.
  public var snapshotCatchupEntries: UInt64
  /// Log segments kept; 0 keeps all.
  public var maxWALs: Int
  public var unsafeNoFsync: Bool

  // Store
  /// Bytes. Negative: no quota. Never 0.
  public var quotaBackendBytes: Int64
  public var backendBatchInterval: Duration
  /// Entries. Never 0.
  public var backendBatchLimit: UInt64
  /// Free bytes from which on a start defragments; 0 = never.
  public var bootstrapDefragBytes: Int
  /// Keep this process's pages in memory.
  public var memoryLock: Bool
  public var autoCompaction: AutoCompaction
  public var compactionBatchLimit: Int
  public var compactionSleepInterval: Duration
  public var watchProgressNotifyInterval: Duration

  // Requests and connections
  public var maxTxnOps: Int
  public var maxRequestBytes: Int64
  public var maxConcurrentStreams: UInt32
  /// Zero: the transport's own default.
  public var keepaliveMinTime: Duration
  /// Zero: no pings to clients.
  public var keepaliveInterval: Duration
  /// Zero: never closes for a missing answer.
  public var keepaliveTimeout: Duration
  public var socketReusePort: Bool
  public var socketReuseAddress: Bool
  public var enableGRPCGateway: Bool
  /// Origins whose pages may read HTTP answers; empty = all.
  public var corsOrigins: [String]
  /// Host names served over HTTP without TLS; empty = all.
  public var hostWhitelist: [String]
  public var enableProfiles: Bool

  // Security
  public var clientSecurity: TransportSecurity
  public var peerSecurity: TransportSecurity
  /// Life of certificates that the member makes for itself, years of 365 days. Never 0.
  public var selfSignedYears: Int

  // Auth
  /// As given; what it asks for is read when the member starts, since it names files.
  public var authToken: String
  /// Out of range: the default is used.
  public var bcryptCost: Int
  public var authTokenTTL: Duration

  // Logging, metrics, features
  public var logging: LogOptions
  public var warningApplyDuration: Duration
  public var warningUnaryRequestDuration: Duration
  /// `--metrics=extensive`: RPC latency histograms.
  public var extensiveMetrics: Bool
  /// Between two comparisons of all members' hashes; zero turns them off.
  public var corruptCheckTime: Duration
  /// Between two comparisons of what members hashed at compactions; needs the gate. Never zero.
  public var compactHashCheckTime: Duration
  public var featureGates: FeatureGates

  /// Ticks of ``heartbeatInterval`` in an election timeout. At least 5.
  public var electionTicks: Int {
    Int(electionTimeout.wholeNanoseconds / heartbeatInterval.wholeNanoseconds)
  }

  /// How long a proposal may take: 5 s + twice the election timeout.
  public var requestTimeout: Duration { .seconds(5) + electionTimeout * 2 }

  public var walDirectoryPath: String { walDirectory ?? dataDirectory + "/member/wal" }
}

extension MemberConfiguration {
  /// Reads the values after ``ConfigurationDraft`` has checked them.
  init(
    _ values: FlagValues, draft: ConfigurationDraft, initialCluster: [InitialMember],
    autoCompaction: AutoCompaction, logging: LogOptions
  ) {
    name = draft.name
    dataDirectory = draft.dataDirectory
    walDirectory = values.text("wal-dir").isEmpty ? nil : values.text("wal-dir")
    listenPeerURLs = values.urls("listen-peer-urls")
    listenClientURLs = values.urls("listen-client-urls")
    listenClientHTTPURLs = values.urls("listen-client-http-urls")
    listenMetricsURLs = values.urls("listen-metrics-urls")
    advertisePeerURLs = draft.advertisePeerURLs
    advertiseClientURLs = draft.advertiseClientURLs ?? []
    self.initialCluster = initialCluster
    let domain = values.text("discovery-srv")
    serviceDomain =
      domain.isEmpty
      ? nil : ServiceDomain(domain: domain, suffix: values.text("discovery-srv-name"))
    initialClusterToken = values.text("initial-cluster-token")
    initialClusterState = ClusterState(rawValue: values.text("initial-cluster-state")) ?? .new
    strictReconfigCheck = values.bool("strict-reconfig-check")
    maxLearners = Int(values.signed("max-learners"))
    forceNewCluster = values.bool("force-new-cluster")
    heartbeatInterval = .milliseconds(Int64(clamping: values.unsigned("heartbeat-interval")))
    electionTimeout = .milliseconds(Int64(clamping: values.unsigned("election-timeout")))
    initialElectionTickAdvance = values.bool("initial-election-tick-advance")
    preVote = values.bool("pre-vote")
    snapshotCount = values.unsigned("snapshot-count").orDefault(10_000)
    snapshotCatchupEntries = values.unsigned("snapshot-catchup-entries").orDefault(5_000)
    maxWALs = Int(clamping: values.unsigned("max-wals"))
    unsafeNoFsync = values.bool("unsafe-no-fsync")
    quotaBackendBytes = values.signed("quota-backend-bytes").orDefault(2_147_483_648)
    backendBatchInterval = values.duration("backend-batch-interval").orDefault(.milliseconds(500))
    backendBatchLimit = UInt64(values.signed("backend-batch-limit").orDefault(10_000))
    bootstrapDefragBytes =
      Int(clamping: min(values.unsigned("bootstrap-defrag-threshold-megabytes"), 1 << 40)) << 20
    memoryLock = values.bool("memory-mlock")
    self.autoCompaction = autoCompaction
    compactionBatchLimit = Int(values.signed("compaction-batch-limit").orDefault(1_000))
    compactionSleepInterval =
      values.duration("compaction-sleep-interval").orDefault(.milliseconds(10))
    watchProgressNotifyInterval = max(
      values.duration("watch-progress-notify-interval").orDefault(.seconds(600)),
      Self.progressIntervalMin)
    maxTxnOps = Int(clamping: values.unsigned("max-txn-ops"))
    maxRequestBytes = Int64(clamping: values.unsigned("max-request-bytes"))
    maxConcurrentStreams = UInt32(clamping: values.unsigned("max-concurrent-streams"))
    keepaliveMinTime = values.duration("grpc-keepalive-min-time")
    keepaliveInterval = values.duration("grpc-keepalive-interval")
    keepaliveTimeout = values.duration("grpc-keepalive-timeout")
    socketReusePort = values.bool("socket-reuse-port")
    socketReuseAddress = values.bool("socket-reuse-address")
    enableGRPCGateway = values.bool("enable-grpc-gateway")
    corsOrigins = values.urls("cors").map(\.description)
    let hosts = values.words("host-whitelist")
    hostWhitelist = hosts.contains("*") ? [] : hosts
    enableProfiles = values.bool("enable-pprof")
    clientSecurity = .clients(values)
    peerSecurity = .peers(values)
    // What DNS names is not to be trusted by itself: without a CA of their own, members have to hold
    // a certificate of the domain.
    if peerSecurity.trustedCAFile.isEmpty,
      advertisePeerURLs.contains(where: { $0.scheme == .https })
    {
      peerSecurity.dialServerName = domain
    }
    selfSignedYears = max(1, Int(clamping: min(values.unsigned("self-signed-cert-validity"), 1000)))
    authToken = values.text("auth-token")
    bcryptCost = Int(clamping: values.unsigned("bcrypt-cost"))
    authTokenTTL = .seconds(Int64(clamping: values.unsigned("auth-token-ttl").orDefault(300)))
    self.logging = logging
    warningApplyDuration = values.duration("warning-apply-duration")
    warningUnaryRequestDuration =
      values.duration("warning-unary-request-duration").orDefault(.milliseconds(300))
    extensiveMetrics = values.text("metrics") == "extensive"
    corruptCheckTime = values.duration("corrupt-check-time")
    compactHashCheckTime = values.duration("compact-hash-check-time")
    featureGates = FeatureGates(values.gates("feature-gates"))
  }

  static let progressIntervalMin: Duration = .milliseconds(100)
}

extension BinaryInteger {
  fileprivate func orDefault(_ value: Self) -> Self { self == 0 ? value : self }
}
extension Duration {
  fileprivate func orDefault(_ value: Duration) -> Duration { self == .zero ? value : self }
}
