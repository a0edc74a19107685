/// The metrics of one member, under etcd's names, types and buckets.
///
/// Only what a part of the member feeds stands here; each group says who feeds it. Types follow
/// etcd even where the name says otherwise (gauges that end in `_total`), because exporters
/// compare them.
public struct MemberMetrics: Sendable {
  public let registry: MetricsRegistry
  public let server: ServerMetrics
  public let info: InfoMetrics
  public let health: HealthMetrics
  public let disk: DiskMetrics
  public let mvcc: MVCCMetrics
  public let watch: WatchMetrics
  public let lease: LeaseMetrics
  public let network: NetworkMetrics
  public let grpc: GRPCMetrics
  public let http: HTTPMetrics

  /// - Parameter extensive: `--metrics=extensive`: RPC latency histograms as well.
  public init(extensive: Bool = false) {
    let registry = MetricsRegistry()
    self.registry = registry
    server = ServerMetrics(registry)
    info = InfoMetrics(registry)
    health = HealthMetrics(registry)
    disk = DiskMetrics(registry)
    mvcc = MVCCMetrics(registry)
    watch = WatchMetrics(registry)
    lease = LeaseMetrics(registry)
    network = NetworkMetrics(registry)
    grpc = GRPCMetrics(registry, extensive: extensive)
    http = HTTPMetrics(registry)
    ProcessMetrics.register(in: registry)
  }

  /// What is known from the start: the quota and the feature gates.
  public func setConfiguration(_ configuration: MemberConfiguration) {
    server.quotaBackendBytes.set(configuration.quotaBackendBytes)
    info.setFeatures(configuration.featureGates)
  }

  /// 1 for each raised alarm; one that was cleared falls to 0.
  public func setAlarms(_ raised: [(member: String, kind: String)]) {
    for (values, gauge) in server.alarms.sorted()
    where !raised.contains(where: { [$0.member, $0.kind] == values }) {
      gauge.set(0)
    }
    for (member, kind) in raised { server.alarms.series(member, kind).set(1) }
  }

  /// The body of `GET /metrics`, as `text/plain; version=0.0.4; charset=utf-8`.
  public func render() -> [UInt8] { registry.render() }

  /// 1 ms to 8 s: what etcd uses for disk and request times.
  static let timeBounds = Histogram.exponential(0.001, 2, 14)
}

/// Fed by the Raft node, the gateway and the apply loop; the quota by the configuration.
public struct ServerMetrics: Sendable {
  public let hasLeader: Gauge
  public let isLeader: Gauge
  public let isLearner: Gauge
  public let leaderChangesSeen: Counter
  public let learnerPromoteSuccesses: Counter
  /// Label: the error's text.
  public let learnerPromoteFailures: Labelled<Counter>
  public let heartbeatSendFailures: Counter
  public let snapshotApplyInProgress: Gauge
  public let proposalsCommitted: Gauge
  public let proposalsApplied: Gauge
  public let proposalsPending: Gauge
  public let proposalsFailed: Counter
  /// Labels: type (`Put`, `Txn`, ...), success (`true`, `false`).
  public let requestDuration: Labelled<Histogram>
  /// Labels: version (`v3`), op (`Put`, ...), success.
  public let applyDuration: Labelled<Histogram>
  /// Label: success.
  public let rangeDuration: Labelled<Histogram>
  public let slowApplies: Counter
  public let slowReadIndexes: Counter
  public let readIndexesFailed: Counter
  public let quotaBackendBytes: Gauge
  /// Labels: type (`unary`, `stream`), client_api_version (`unknown` if not sent).
  public let clientRequests: Labelled<Counter>
  /// Labels: server_id, alarm_type. 1 per raised alarm.
  public let alarms: Labelled<Gauge>
  public let authRevision: Gauge

  init(_ registry: MetricsRegistry) {
    let p = "etcd_server_"
    hasLeader = registry.gauge(p + "has_leader", "Whether a leader is known: 1 is yes, 0 is no.")
    isLeader = registry.gauge(p + "is_leader", "Whether this member leads: 1 is yes, 0 is no.")
    isLearner = registry.gauge(p + "is_learner", "Whether this member is a learner: 1 is yes.")
    leaderChangesSeen = registry.counter(
      p + "leader_changes_seen_total", "The number of leader changes seen.")
    learnerPromoteSuccesses = registry.counter(
      p + "learner_promote_successes", "Learner promotions done while this member led.")
    learnerPromoteFailures = registry.counters(
      p + "learner_promote_failures", "Learner promotions refused while this member led.",
      labels: ["Reason"])
    heartbeatSendFailures = registry.counter(
      p + "heartbeat_send_failures_total", "Heartbeats the leader sent too late.")
    snapshotApplyInProgress = registry.gauge(
      p + "snapshot_apply_in_progress_total", "1 while a received snapshot is installed.")
    proposalsCommitted = registry.gauge(
      p + "proposals_committed_total", "The index of the last committed log entry.")
    proposalsApplied = registry.gauge(
      p + "proposals_applied_total", "The index of the last applied log entry.")
    proposalsPending = registry.gauge(p + "proposals_pending", "Proposals waiting for commit.")
    proposalsFailed = registry.counter(
      p + "proposals_failed_total", "Proposals that were refused or timed out.")
    requestDuration = registry.histograms(
      p + "request_duration_seconds", "Time of a request through consensus.",
      labels: ["type", "success"], bounds: MemberMetrics.timeBounds)
    applyDuration = registry.histograms(
      p + "apply_duration_seconds", "Time of applying one entry.",
      labels: ["version", "op", "success"], bounds: Histogram.exponential(0.0001, 2, 20))
    rangeDuration = registry.histograms(
      p + "range_duration_seconds", "Time of one range in the store.", labels: ["success"],
      bounds: Histogram.exponential(0.0001, 2, 20))
    slowApplies = registry.counter(p + "slow_apply_total", "Applies over the warning limit.")
    slowReadIndexes = registry.counter(
      p + "slow_read_indexes_total", "Read index answers that came late.")
    readIndexesFailed = registry.counter(
      p + "read_indexes_failed_total", "Read index rounds that failed.")
    quotaBackendBytes = registry.gauge(
      p + "quota_backend_bytes", "The configured size limit of the store, bytes.")
    clientRequests = registry.counters(
      p + "client_requests_total", "Client requests by client version.",
      labels: ["type", "client_api_version"])
    authRevision = registry.gauge(
      "etcd_debugging_auth_revision", "The revision of users and roles.")
    alarms = registry.gauges(
      "etcd_debugging_server_alarms", "Raised alarms.", labels: ["server_id", "alarm_type"])
  }
}

/// What a member is and runs, as labels. Fed at assembly and when the cluster's version changes.
public struct InfoMetrics: Sendable {
  private let version: Labelled<Gauge>
  private let clusterVersion: Labelled<Gauge>
  private let identity: Labelled<Gauge>
  private let features: Labelled<Gauge>
  private let toolchain: Labelled<Gauge>

  init(_ registry: MetricsRegistry) {
    let p = "etcd_server_"
    version = registry.gauges(
      p + "version", "The version running: 1 for it.", labels: ["server_version"])
    clusterVersion = registry.gauges(
      "etcd_cluster_version", "The cluster's version: 1 for it.", labels: ["cluster_version"])
    identity = registry.gauges(p + "id", "This member's id: 1 for it.", labels: ["server_id"])
    features = registry.gauges(
      p + "feature_enabled", "Whether a feature gate is on.", labels: ["name", "stage"])
    toolchain = registry.gauges(
      p + "go_version", "The toolchain that made the program: 1 for it.",
      labels: ["server_go_version"])
    toolchain.series(ProductVersion.toolchain).set(1)
    version.series(ProductVersion.etcd).set(1)
  }

  func setFeatures(_ gates: FeatureGates) {
    for gate in FeatureGates.Gate.allCases {
      features.series(gate.rawValue, gate.stage).set(gates.isEnabled(gate))
    }
  }

  /// - Parameter hexID: without padding.
  public func setMemberID(_ hexID: String) { identity.series(hexID).set(1) }

  /// - Parameter version: major and minor, such as `3.7`. The series of an earlier one falls to 0.
  public func setClusterVersion(_ version: String) {
    for (_, gauge) in clusterVersion.sorted() { gauge.set(0) }
    clusterVersion.series(version).set(1)
  }
}

/// Fed by the health endpoints.
public struct HealthMetrics: Sendable {
  public let success: Counter
  public let failures: Counter
  /// Labels: type (`livez`, `readyz`), name. The last result.
  public let lastResult: Labelled<Gauge>
  /// Labels: type, name, status (`success`, `error`).
  public let results: Labelled<Counter>

  init(_ registry: MetricsRegistry) {
    let p = "etcd_server_"
    success = registry.counter(p + "health_success", "Healthy answers of /health.")
    failures = registry.counter(p + "health_failures", "Unhealthy answers of /health.")
    lastResult = registry.gauges(
      p + "healthcheck", "The last result of each health check.", labels: ["type", "name"])
    results = registry.counters(
      p + "healthchecks_total", "Results of health checks.", labels: ["type", "name", "status"])
  }

  /// Notes one result of a check of `/livez` or `/readyz`.
  public func record(type: String, name: String, success: Bool) {
    lastResult.series(type, name).set(success)
    results.series(type, name, success ? "success" : "error").increment()
  }
}

/// Fed by the log writer, the backend writer and the snapshot receiver.
public struct DiskMetrics: Sendable {
  public let walFsync: Histogram
  public let walWrite: Histogram
  public let walWriteBytes: Gauge
  public let backendCommit: Histogram
  public let backendDefrag: Histogram
  public let backendSnapshot: Histogram
  public let defragInflight: Gauge
  /// A store file received from the leader: its fsync.
  public let snapDBFsync: Histogram
  /// The same, from the first byte to the file in place.
  public let snapDBSaveTotal: Histogram
  /// A point up to which the log may go: its mark in the log made durable.
  public let snapFsync: Histogram
  /// The same with its encoding, and with both.
  public let snapMarshalling: Histogram
  public let snapSaveTotal: Histogram
  /// The write of a commit, which is all that it consists of here.
  public let commitWrite: Histogram

  init(_ registry: MetricsRegistry) {
    let p = "etcd_disk_"
    let times = MemberMetrics.timeBounds
    walFsync = registry.histogram(
      p + "wal_fsync_duration_seconds", "Time of fsync of the log.", bounds: times)
    walWrite = registry.histogram(
      p + "wal_write_duration_seconds", "Time of write calls to the log.", bounds: times)
    walWriteBytes = registry.gauge(p + "wal_write_bytes_total", "Bytes appended to the log.")
    backendCommit = registry.histogram(
      p + "backend_commit_duration_seconds", "Time of commits of the store.", bounds: times)
    backendDefrag = registry.histogram(
      p + "backend_defrag_duration_seconds", "Time of defragmentations.",
      bounds: Histogram.exponential(0.1, 2, 13))
    backendSnapshot = registry.histogram(
      p + "backend_snapshot_duration_seconds", "Time a client's snapshot was open.",
      bounds: Histogram.exponential(0.01, 2, 17))
    defragInflight = registry.gauge(p + "defrag_inflight", "1 while a defragmentation runs.")
    snapDBFsync = registry.histogram(
      "etcd_snap_db_fsync_duration_seconds", "Time of fsync of a received store file.",
      bounds: times)
    snapDBSaveTotal = registry.histogram(
      "etcd_snap_db_save_total_duration_seconds", "Time to receive and save a store file.",
      bounds: Histogram.exponential(0.1, 2, 10))
    snapFsync = registry.histogram(
      "etcd_snap_fsync_duration_seconds", "Time of fsync of a snapshot's mark in the log.",
      bounds: times)
    let d = "etcd_debugging_"
    snapMarshalling = registry.histogram(
      d + "snap_save_marshalling_duration_seconds", "Time to encode a snapshot's mark.",
      bounds: times)
    snapSaveTotal = registry.histogram(
      d + "snap_save_total_duration_seconds", "Time to encode and save a snapshot's mark.",
      bounds: times)
    commitWrite = registry.histogram(
      d + "disk_backend_commit_write_duration_seconds", "Time to write a commit.", bounds: times)
    // etcd's own storage engine has two phases that LMDB does not have.
    for phase in ["rebalance", "spill"] {
      _ = registry.histogram(
        d + "disk_backend_commit_\(phase)_duration_seconds", "Never observed: LMDB has none.",
        bounds: times)
    }
  }
}

/// Fed by the store: apply and range, compaction, hashing, the backend's sizes.
public struct MVCCMetrics: Sendable {
  public let dbTotalSize: Gauge
  public let dbTotalSizeInUse: Gauge
  public let openReadTransactions: Gauge
  public let putTotal: Counter
  public let deleteTotal: Counter
  public let rangeTotal: Counter
  public let txnTotal: Counter
  public let hashDuration: Histogram
  public let hashRevDuration: Histogram
  public let keysTotal: Gauge
  public let currentRevision: Gauge
  public let compactRevision: Gauge
  public let totalPutSize: Gauge
  public let compactionKeys: Counter
  /// Unix seconds.
  public let compactionLast: Gauge
  /// Milliseconds, as are the two below.
  public let compactionPause: Histogram
  public let compactionTotal: Histogram
  public let indexCompactionPause: Histogram

  init(_ registry: MetricsRegistry) {
    let p = "etcd_mvcc_"
    dbTotalSize = registry.gauge(p + "db_total_size_in_bytes", "Size of the store's file.")
    dbTotalSizeInUse = registry.gauge(
      p + "db_total_size_in_use_in_bytes", "Size of the store's live part.")
    openReadTransactions = registry.gauge(
      p + "db_open_read_transactions", "Open read views of the store.")
    putTotal = registry.counter(p + "put_total", "Puts applied by this member.")
    deleteTotal = registry.counter(p + "delete_total", "Deletes applied by this member.")
    rangeTotal = registry.counter(p + "range_total", "Ranges served by this member.")
    txnTotal = registry.counter(p + "txn_total", "Transactions applied by this member.")
    hashDuration = registry.histogram(
      p + "hash_duration_seconds", "Time of hashing the store.",
      bounds: Histogram.exponential(0.01, 2, 15))
    hashRevDuration = registry.histogram(
      p + "hash_rev_duration_seconds", "Time of hashing the store at a revision.",
      bounds: Histogram.exponential(0.01, 2, 15))
    let d = "etcd_debugging_mvcc_"
    keysTotal = registry.gauge(d + "keys_total", "Live keys.")
    currentRevision = registry.gauge(d + "current_revision", "The store's revision.")
    compactRevision = registry.gauge(d + "compact_revision", "The last compacted revision.")
    totalPutSize = registry.gauge(d + "total_put_size_in_bytes", "Bytes of all puts applied.")
    compactionKeys = registry.counter(
      d + "db_compaction_keys_total", "Revisions removed by compaction.")
    compactionLast = registry.gauge(
      d + "db_compaction_last", "Unix time of the last compaction.")
    compactionPause = registry.histogram(
      d + "db_compaction_pause_duration_milliseconds", "Time of one compaction step.",
      bounds: Histogram.exponential(1, 2, 13))
    compactionTotal = registry.histogram(
      d + "db_compaction_total_duration_milliseconds", "Time of whole compactions.",
      bounds: Histogram.exponential(100, 2, 14))
    indexCompactionPause = registry.histogram(
      d + "index_compaction_pause_duration_milliseconds", "Time of compacting the index.",
      bounds: Histogram.exponential(0.5, 2, 14))
  }
}

/// Fed by the watch hub, and by the gateway that sends what it makes.
public struct WatchMetrics: Sendable {
  /// Time to hand one response to its connection; per event; answers to requests; progress.
  public let sendStream: Histogram
  public let sendPerEvent: Histogram
  public let sendControl: Histogram
  public let sendProgress: Histogram
  public let events: Counter
  public let pendingEvents: Gauge
  public let streams: Gauge
  public let watchers: Gauge
  public let slowWatchers: Gauge

  init(_ registry: MetricsRegistry) {
    func loop(_ name: String, _ help: String) -> Histogram {
      registry.histogram(
        "etcd_debugging_server_watch_send_loop_\(name)_duration_seconds", help,
        bounds: MemberMetrics.timeBounds)
    }
    sendStream = loop("watch_stream", "Time to send one watch response.")
    sendPerEvent = registry.histogram(
      "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
      "Time to send one event.", bounds: MemberMetrics.timeBounds)
    sendControl = loop("control_stream", "Time to send an answer to a watch request.")
    sendProgress = loop("progress", "Time to send a progress notification.")
    let p = "etcd_debugging_mvcc_"
    events = registry.counter(p + "events_total", "Events sent to watchers.")
    pendingEvents = registry.gauge(
      p + "pending_events_total", "Events queued for watchers.")
    streams = registry.gauge(p + "watch_stream_total", "Open watch streams.")
    watchers = registry.gauge(p + "watcher_total", "Open watchers.")
    slowWatchers = registry.gauge(
      p + "slow_watcher_total", "Watchers behind the current revision.")
  }
}

/// Fed by the lessor.
public struct LeaseMetrics: Sendable {
  public let granted: Counter
  public let renewed: Counter
  public let revoked: Counter
  public let expired: Counter
  /// Granted times to live, seconds.
  public let ttl: Histogram

  init(_ registry: MetricsRegistry) {
    let p = "etcd_debugging_lease_"
    granted = registry.counter(p + "granted_total", "Leases granted.")
    renewed = registry.counter(p + "renewed_total", "Leases renewed by this member as leader.")
    revoked = registry.counter(p + "revoked_total", "Leases revoked.")
    expired = registry.counter(
      "etcd_debugging_server_lease_expired_total", "Leases that ran out.")
    ttl = registry.histogram(
      p + "ttl_total", "Times to live of granted leases.",
      bounds: Histogram.exponential(1, 2, 24))
  }
}

/// Fed by the peer transport, the snapshot streams and the client gateway. Label values are
/// member ids in hex without padding. Peers shall be given their series at the start, so that rates
/// have a zero to begin from: see ``addPeer(local:remote:)``.
public struct NetworkMetrics: Sendable {
  public let clientReceivedBytes: Counter
  public let clientSentBytes: Counter
  /// Labels: Type (`receive`, `send`), API (`watch`, `lease-keepalive`).
  public let serverStreamFailures: Labelled<Counter>
  /// Labels: Local, Remote.
  public let activePeers: Labelled<Gauge>
  public let disconnectedPeers: Labelled<Counter>
  public let knownPeers: Labelled<Gauge>
  /// Label: From.
  public let peerReceivedBytes: Labelled<Counter>
  public let peerReceivedFailures: Labelled<Counter>
  public let snapshotReceiveSuccess: Labelled<Counter>
  public let snapshotReceiveFailures: Labelled<Counter>
  public let snapshotReceiveInflights: Labelled<Gauge>
  public let snapshotReceiveDuration: Labelled<Histogram>
  /// Label: To.
  public let peerSentBytes: Labelled<Counter>
  public let peerSentFailures: Labelled<Counter>
  public let peerRoundTripTime: Labelled<Histogram>
  public let snapshotSendSuccess: Labelled<Counter>
  public let snapshotSendFailures: Labelled<Counter>
  public let snapshotSendInflights: Labelled<Gauge>
  public let snapshotSendDuration: Labelled<Histogram>

  init(_ registry: MetricsRegistry) {
    let p = "etcd_network_"
    let both = ["Local", "Remote"]
    let transfer = Histogram.exponential(0.1, 2, 10)
    clientReceivedBytes = registry.counter(
      p + "client_grpc_received_bytes_total", "Bytes received from gRPC clients.")
    clientSentBytes = registry.counter(
      p + "client_grpc_sent_bytes_total", "Bytes sent to gRPC clients.")
    serverStreamFailures = registry.counters(
      p + "server_stream_failures_total", "Client streams that failed.", labels: ["Type", "API"])
    activePeers = registry.gauges(p + "active_peers", "1 while a peer is linked.", labels: both)
    disconnectedPeers = registry.counters(
      p + "disconnected_peers_total", "Lost links to peers.", labels: both)
    knownPeers = registry.gauges(p + "known_peers", "1 for members of the cluster.", labels: both)
    peerReceivedBytes = registry.counters(
      p + "peer_received_bytes_total", "Bytes received from peers.", labels: ["From"])
    peerReceivedFailures = registry.counters(
      p + "peer_received_failures_total", "Messages from peers that were dropped.",
      labels: ["From"])
    snapshotReceiveSuccess = registry.counters(
      p + "snapshot_receive_success", "Snapshots received.", labels: ["From"])
    snapshotReceiveFailures = registry.counters(
      p + "snapshot_receive_failures", "Snapshots not received.", labels: ["From"])
    snapshotReceiveInflights = registry.gauges(
      p + "snapshot_receive_inflights_total", "Snapshots being received.", labels: ["From"])
    snapshotReceiveDuration = registry.histograms(
      p + "snapshot_receive_total_duration_seconds", "Time to receive a snapshot.",
      labels: ["From"], bounds: transfer)
    peerSentBytes = registry.counters(
      p + "peer_sent_bytes_total", "Bytes sent to peers.", labels: ["To"])
    peerSentFailures = registry.counters(
      p + "peer_sent_failures_total", "Messages to peers that were dropped.", labels: ["To"])
    peerRoundTripTime = registry.histograms(
      p + "peer_round_trip_time_seconds", "Round trip time between peers.", labels: ["To"],
      bounds: Histogram.exponential(0.0001, 2, 16))
    snapshotSendSuccess = registry.counters(
      p + "snapshot_send_success", "Snapshots sent.", labels: ["To"])
    snapshotSendFailures = registry.counters(
      p + "snapshot_send_failures", "Snapshots not sent.", labels: ["To"])
    snapshotSendInflights = registry.gauges(
      p + "snapshot_send_inflights_total", "Snapshots being sent.", labels: ["To"])
    snapshotSendDuration = registry.histograms(
      p + "snapshot_send_total_duration_seconds", "Time to send a snapshot.", labels: ["To"],
      bounds: transfer)
  }

  /// Creates the series of a peer that every member has, all 0 but `known_peers`. What is there stays:
  /// a link may be active before the membership that it follows from is told here.
  public func addPeer(local: String, remote: String) {
    _ = activePeers.series(local, remote)
    disconnectedPeers.series(local, remote).increment(by: 0)
    knownPeers.series(local, remote).set(1)
    for counters in [peerReceivedBytes, peerReceivedFailures, peerSentBytes, peerSentFailures] {
      counters.series(remote).increment(by: 0)
    }
    _ = peerRoundTripTime.series(remote)
  }

  public func removePeer(local: String, remote: String) {
    knownPeers.series(local, remote).set(0)
    activePeers.series(local, remote).set(0)
  }
}

/// Fed by the handler of `GET /metrics`.
public struct HTTPMetrics: Sendable {
  public let metricsRequestsInFlight: Gauge
  /// Label: code (`200`, `500`, `503`).
  public let metricsRequests: Labelled<Counter>

  init(_ registry: MetricsRegistry) {
    metricsRequestsInFlight = registry.gauge(
      "promhttp_metric_handler_requests_in_flight", "Scrapes being served.")
    metricsRequests = registry.counters(
      "promhttp_metric_handler_requests_total", "Scrapes by HTTP status.", labels: ["code"])
    for code in ["200", "500", "503"] { metricsRequests.series(code).increment(by: 0) }
  }
}
