/// The table's rows. Order within a section is the order of `--help`.
extension FlagTable {
  private static func rows(
    _ section: FlagSpec.Section,
    _ rows: [(String, FlagSpec.Kind, String, FlagSpec.Support, String)]
  ) -> [FlagSpec] {
    rows.map { name, kind, defaultText, support, help in
      FlagSpec(
        name: name, kind: kind, defaultText: defaultText, help: help, support: support,
        section: section)
    }
  }

  private static let noDiscovery = FlagSpec.Support.refused(
    "there is no discovery service; name the members with --initial-cluster or --discovery-srv")
  private static let noTracing = FlagSpec.Support.refused(
    "spans are not exported; remove it, and see /metrics and the log's \"request stats\" instead")

  private static let urls = FlagSpec.Kind.urls(allowing: nil)
  private static let urlsOrNone = FlagSpec.Kind.urls(allowing: "")

  static let memberFlags = rows(
    .member,
    [
      ("name", .text, "default", .supported, "Human-readable name for this member."),
      ("data-dir", .text, "", .supported, "Path to the data directory; '<name>.etcd' if empty."),
      ("wal-dir", .text, "", .supported, "Path to a dedicated directory for the log."),
      (
        "snapshot-count", .unsigned, "10000", .supported,
        "Applied entries between two snapshots to disk."
      ),
      ("heartbeat-interval", .unsigned, "100", .supported, "Heartbeat interval, milliseconds."),
      ("election-timeout", .unsigned, "1000", .supported, "Election timeout, milliseconds."),
      (
        "initial-election-tick-advance", .bool, "true", .supported,
        "Skip most of the first election's wait when starting."
      ),
      (
        "listen-peer-urls", urls, "http://localhost:2380", .supported,
        "URLs to listen on for peer traffic."
      ),
      (
        "listen-client-urls", urls, "http://localhost:2379", .supported,
        "URLs to listen on for client gRPC and, unless given its own URLs, HTTP."
      ),
      (
        "listen-client-http-urls", urlsOrNone, "", .supported,
        "URLs to listen on for client HTTP only; listen-client-urls is gRPC only then."
      ),
      ("max-snapshots", .unsigned, "5", .accepted, "Snapshot files to keep. Deprecated."),
      ("max-wals", .unsigned, "5", .supported, "Log segments to keep; 0 keeps all."),
      (
        "quota-backend-bytes", .signed, "0", .supported,
        "Size limit of the store; 0 means 2 GiB, a negative value no limit."
      ),
      (
        "backend-bbolt-freelist-type", .text, "", .accepted,
        "Free list form of etcd's own storage engine."
      ),
      (
        "backend-batch-interval", .duration, "0s", .supported,
        "Time between two store commits while little is written; 0 means 500ms."
      ),
      (
        "backend-batch-limit", .signed, "0", .supported,
        "Most operations between two store commits; 0 means 10000."
      ),
      ("max-txn-ops", .unsigned, "128", .supported, "Most operations in one transaction list."),
      ("max-request-bytes", .unsigned, "1572864", .supported, "Largest request, bytes."),
      (
        "max-concurrent-streams", .unsigned32, "4294967295", .supported,
        "Most concurrent streams per client connection."
      ),
      (
        "grpc-keepalive-min-time", .duration, "5s", .supported,
        "Least spacing of client pings; faster clients are cut off."
      ),
      (
        "grpc-keepalive-interval", .duration, "2h0m0s", .supported,
        "Spacing of pings from server to client; 0 turns them off."
      ),
      (
        "grpc-keepalive-timeout", .duration, "20s", .supported,
        "Wait for a ping's answer before closing; 0 turns it off."
      ),
      ("socket-reuse-port", .bool, "false", .supported, "Set SO_REUSEPORT on listeners."),
      ("socket-reuse-address", .bool, "false", .supported, "Set SO_REUSEADDR on listeners."),
      ("raft-read-timeout", .duration, "5s", .accepted, "Read timeout of peer connections."),
      ("raft-write-timeout", .duration, "5s", .accepted, "Write timeout of peer connections."),
      ("config-file", .text, "", .supported, "Configuration file; replaces flags and environment."),
      ("version", .bool, "false", .supported, "Print the version and exit."),
    ])

  static let clusteringFlags = rows(
    .clustering,
    [
      (
        "initial-advertise-peer-urls", urls, "http://localhost:2380", .supported,
        "This member's peer URLs as told to the cluster."
      ),
      (
        "initial-cluster", .text, "default=http://localhost:2380", .supported,
        "Members to start the cluster with: name=url,..."
      ),
      (
        "initial-cluster-state", .choice(["new", "existing"]), "new", .supported,
        "Start a new cluster or join an existing one."
      ),
      (
        "initial-cluster-token", .text, "etcd-cluster", .supported,
        "Salt of member and cluster ids."
      ),
      (
        "advertise-client-urls", urls, "http://localhost:2379", .supported,
        "This member's client URLs as told to the cluster."
      ),
      (
        "strict-reconfig-check", .bool, "true", .supported,
        "Refuse membership changes that would cost the quorum."
      ),
      ("pre-vote", .bool, "true", .supported, "Ask before an election whether it could be won."),
      (
        "auto-compaction-retention", .text, "0", .supported,
        "History to keep: hours, a duration, or a number of revisions; 0 turns it off."
      ),
      (
        "auto-compaction-mode", .text, "periodic", .supported,
        "What the retention counts: 'periodic' or 'revision'."
      ),
      (
        "v2-deprecation",
        .choice(["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
        "write-only", .accepted, "Phase of the v2 store's removal. Deprecated."
      ),
    ])

  static let discoveryFlags = rows(
    .clustering,
    [
      ("discovery-endpoints", .words, "", noDiscovery, "Endpoints of a discovery cluster."),
      ("discovery-token", .text, "", noDiscovery, "Token in the discovery cluster."),
      ("discovery-dial-timeout", .duration, "2s", noDiscovery, "Discovery dial timeout."),
      ("discovery-request-timeout", .duration, "5s", noDiscovery, "Discovery request timeout."),
      ("discovery-keepalive-time", .duration, "2s", noDiscovery, "Discovery ping spacing."),
      ("discovery-keepalive-timeout", .duration, "6s", noDiscovery, "Discovery ping timeout."),
      ("discovery-insecure-transport", .bool, "true", noDiscovery, "Discovery without TLS."),
      (
        "discovery-insecure-skip-tls-verify", .bool, "false", noDiscovery,
        "Discovery without certificate checks."
      ),
      ("discovery-cert", .text, "", noDiscovery, "Client certificate for discovery."),
      ("discovery-key", .text, "", noDiscovery, "Client key for discovery."),
      ("discovery-cacert", .text, "", noDiscovery, "CA bundle for discovery."),
      ("discovery-user", .text, "", noDiscovery, "name[:password] for discovery."),
      ("discovery-password", .text, "", noDiscovery, "Password for discovery."),
      (
        "discovery-fallback", .choice(["exit", "proxy"]), "exit", .accepted,
        "What to do when discovery fails."
      ),
      ("discovery-srv", .text, "", .supported, "DNS domain to bootstrap from."),
      ("discovery-srv-name", .text, "", .supported, "Suffix of the DNS service name."),
    ])

  static let securityFlags = rows(
    .security,
    [
      ("cert-file", .text, "", .supported, "Server certificate of the client port."),
      ("key-file", .text, "", .supported, "Server key of the client port."),
      ("client-cert-file", .text, "", .accepted, "Certificate for dialling the client port."),
      ("client-key-file", .text, "", .accepted, "Key for dialling the client port."),
      ("client-cert-auth", .bool, "false", .supported, "Require client certificates."),
      ("client-crl-file", .text, "", .supported, "Revocation list for client certificates."),
      (
        "client-cert-allowed-hostname", .words, "", .supported,
        "Names a client certificate must match."
      ),
      ("trusted-ca-file", .text, "", .supported, "CA bundle for client certificates."),
      ("auto-tls", .bool, "false", .supported, "Serve clients with a self-signed certificate."),
      ("peer-cert-file", .text, "", .supported, "Certificate of the peer port."),
      ("peer-key-file", .text, "", .supported, "Key of the peer port."),
      ("peer-client-cert-file", .text, "", .supported, "Certificate for dialling peers."),
      ("peer-client-key-file", .text, "", .supported, "Key for dialling peers."),
      ("peer-client-cert-auth", .bool, "false", .supported, "Require peer certificates."),
      ("peer-trusted-ca-file", .text, "", .supported, "CA bundle for peer certificates."),
      ("peer-auto-tls", .bool, "false", .supported, "Serve peers with a self-signed certificate."),
      ("peer-crl-file", .text, "", .supported, "Revocation list for peer certificates."),
      ("peer-cert-allowed-cn", .words, "", .supported, "Common names allowed for peers."),
      ("peer-cert-allowed-hostname", .words, "", .supported, "Names allowed for peers."),
      (
        "peer-skip-client-san-verification", .bool, "false", .supported,
        "Do not compare a peer's address with its certificate."
      ),
      (
        "self-signed-cert-validity", .unsigned, "1", .supported,
        "Life of self-signed certificates, years."
      ),
      ("cipher-suites", .words, "", .supported, "TLS 1.2 cipher suites."),
      ("tls-min-version", .text, "TLS1.2", .supported, "Lowest TLS version."),
      ("tls-max-version", .text, "", .supported, "Highest TLS version; empty means the newest."),
      (
        "cors", .urls(allowing: "*"), "*", .supported,
        "Origins allowed to call the HTTP endpoints."
      ),
      ("host-whitelist", .words, "*", .supported, "Host names accepted over plain HTTP."),
    ])

  static let authFlags = rows(
    .auth,
    [
      ("auth-token", .text, "simple", .supported, "Token form: 'simple' or 'jwt,...'."),
      ("bcrypt-cost", .unsigned, "10", .supported, "Cost of password hashes, 4 to 31."),
      ("auth-token-ttl", .unsigned, "300", .supported, "Idle life of a simple token, seconds."),
    ])

  static let monitoringFlags = rows(
    .monitoring,
    [
      ("enable-pprof", .bool, "false", .supported, "Serve runtime profiles over HTTP."),
      ("metrics", .text, "basic", .supported, "'extensive' adds RPC latency histograms."),
      (
        "listen-metrics-urls", urlsOrNone, "", .supported,
        "URLs to serve /metrics, /health, /livez and /readyz on."
      ),
    ])

  static let loggingFlags = rows(
    .logging,
    [
      ("logger", .text, "zap", .supported, "Log form; only 'zap' is left."),
      (
        "log-outputs", .words, "default", .supported,
        "'default', 'stderr', 'stdout', 'systemd/journal' or file paths, comma separated."
      ),
      ("log-level", .text, "info", .supported, "debug, info, warn, error, dpanic, panic or fatal."),
      ("log-format", .text, "json", .supported, "'json' or 'console'."),
      ("enable-log-rotation", .bool, "false", .supported, "Rotate the one log file."),
      (
        "log-rotation-config-json", .text,
        #"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        .supported, "Rotation limits: MB, days, files."
      ),
      (
        "warning-apply-duration", .duration, "100ms", .supported,
        "Log applies that take longer."
      ),
      (
        "warning-unary-request-duration", .duration, "300ms", .supported,
        "Log unary requests that take longer."
      ),
    ])

  static let tracingFlags = rows(
    .tracing,
    [
      ("enable-distributed-tracing", .bool, "false", noTracing, "Export spans."),
      ("distributed-tracing-address", .text, "localhost:4317", .accepted, "Span collector."),
      ("distributed-tracing-service-name", .text, "etcd", .accepted, "Service name in spans."),
      ("distributed-tracing-instance-id", .text, "", .accepted, "Instance id in spans."),
      ("distributed-tracing-sampling-rate", .signed, "0", .accepted, "Samples per million."),
    ])

  static let featureFlags = rows(
    .features,
    [
      ("enable-grpc-gateway", .bool, "true", .supported, "Serve the JSON form of the API."),
      (
        "corrupt-check-time", .duration, "0s", .supported,
        "Period at which the leader compares all members' data; 0 turns it off."
      ),
      (
        "compact-hash-check-time", .duration, "1m0s", .supported,
        "Period of compaction hash checks; needs the feature gate CompactHashCheck."
      ),
      (
        "compaction-batch-limit", .signed, "0", .supported,
        "Revisions removed per compaction step; 0 means 1000."
      ),
      (
        "compaction-sleep-interval", .duration, "0s", .supported,
        "Pause between compaction steps; 0 means 10ms."
      ),
      (
        "watch-progress-notify-interval", .duration, "0s", .supported,
        "Period of watch progress notifications; 0 means 10m."
      ),
      ("downgrade-check-time", .duration, "5s", .accepted, "Period of downgrade checks."),
      ("memory-mlock", .bool, "false", .supported, "Lock this process's pages in memory."),
      (
        "bootstrap-defrag-threshold-megabytes", .unsigned, "0", .supported,
        "Defragment at start if that much can be freed."
      ),
      ("max-learners", .signed, "1", .supported, "Most learner members in the cluster."),
      (
        "snapshot-catchup-entries", .unsigned, "5000", .supported,
        "Entries kept for slow followers after a snapshot."
      ),
      ("feature-gates", .gates, "", .supported, "Feature gates: Name=true,..."),
    ])

  static let unsafeFlags = rows(
    .unsafe,
    [
      ("force-new-cluster", .bool, "false", .supported, "Make a cluster of this member alone."),
      ("unsafe-no-fsync", .bool, "false", .supported, "Never wait for the disk. Loses data."),
    ])
}
