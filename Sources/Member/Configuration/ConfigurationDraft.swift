import TLS

/// Flag values on their way to a ``MemberConfiguration``: fills in derived defaults and checks
/// everything in etcd's order, so that of several mistakes the same one is reported.
struct ConfigurationDraft {
  enum Source { case commandLine, file }

  enum Failure: Error {
    case refused(ConfigurationError)
    /// etcd panics on this one. A whole line for standard error, exit code 2.
    case levelUnknown(String)

    var reason: ConfigurationError {
      switch self {
      case .refused(let error): error
      case .levelUnknown(let line): ConfigurationError(line)
      }
    }
  }

  let values: FlagValues
  let source: Source
  let name: String
  private(set) var dataDirectory: String
  private(set) var advertisePeerURLs: [EtcdURL]
  /// Nil: missing where it is required.
  private(set) var advertiseClientURLs: [EtcdURL]?
  private var initialClusterText: String
  private(set) var records: [LogRecord] = []

  init(_ values: FlagValues, source: Source, defaultHost: String?) {
    self.values = values
    self.source = source
    name = values.text("name")
    dataDirectory = values.text("data-dir")
    advertisePeerURLs = values.urls("initial-advertise-peer-urls")
    advertiseClientURLs = values.urls("advertise-client-urls")
    initialClusterText = values.text("initial-cluster")
    deriveDefaults(defaultHost)
  }

  private var usesDiscovery: Bool {
    !values.text("discovery-srv").isEmpty || !values.words("discovery-endpoints").isEmpty
  }

  private mutating func deriveDefaults(_ defaultHost: String?) {
    if source == .commandLine, values.isGiven("listen-client-urls"),
      !values.isGiven("advertise-client-urls")
    {
      advertiseClientURLs = nil
    }
    if usesDiscovery, !values.isGiven("initial-cluster") { initialClusterText = "" }
    adoptDefaultHost(defaultHost)
    if name != "default", !usesDiscovery, values.text("initial-cluster") == Self.defaultCluster {
      initialClusterText = advertisePeerURLs.map { "\(name)=\($0)" }.joined(separator: ",")
    }
    if dataDirectory.isEmpty {
      dataDirectory = "\(name).etcd"
      records.append(
        LogRecord(.warn, "'data-dir' was empty; using default", ("data-dir", dataDirectory)))
    }
  }

  private static let defaultCluster = "default=http://localhost:2380"

  private mutating func adoptDefaultHost(_ host: String?) {
    guard let host else { return }
    func adopted(_ listen: [EtcdURL], _ advertise: [EtcdURL], _ default: String) -> [EtcdURL]? {
      guard let first = listen.first, first.host == "0.0.0.0", advertise.count == 1,
        advertise[0].description == `default`
      else { return nil }
      return [EtcdURL(scheme: advertise[0].scheme, host: host, port: first.port)]
    }
    var used = false
    if let urls = adopted(
      values.urls("listen-peer-urls"), advertisePeerURLs, "http://localhost:2380")
    {
      advertisePeerURLs = urls
      used = true
    }
    if let urls = adopted(
      values.urls("listen-client-urls"), advertiseClientURLs ?? [], "http://localhost:2379")
    {
      advertiseClientURLs = urls
      used = true
    }
    if used {
      records.append(LogRecord(.info, "detected default host for advertise", ("host", host)))
    }
  }

  /// Checks all and builds the result. ``records`` grows by what is worth a log line.
  mutating func finish() throws(Failure) -> MemberConfiguration {
    if values.text("discovery-fallback") == "proxy" {
      throw Self.refused(
        #"v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy""#)
    }
    let logging = try checkLogging()
    try checkURLs()
    try checkBootstrapChoice()
    try checkTiming()
    if advertiseClientURLs == nil { throw .refused(.advertiseClientURLsMissing) }
    try checkCompactionMode()
    try checkGatesAndHashTime()
    warnAboutName()
    try checkTLSVersions()
    try checkTLSPresence()
    try checkTLSRules()
    let autoCompaction = try parseRetention()
    let initialCluster = try parseInitialCluster()
    try refuseUnfinished()
    try checkRanges()
    noteAdjustments()
    return MemberConfiguration(
      values, draft: self, initialCluster: initialCluster, autoCompaction: autoCompaction,
      logging: logging)
  }

  private static func refused(_ text: String) -> Failure { .refused(ConfigurationError(text)) }
}

// MARK: - The checks, in order

extension ConfigurationDraft {
  private mutating func checkLogging() throws(Failure) -> LogOptions {
    var options = LogOptions()
    let outputs = values.words("log-outputs")
    switch values.text("logger") {
    case "zap": break
    case "capnslog":
      records.append(
        LogRecord(
          .warn, "flag of an earlier release is used", ("flag", "logger"),
          ("advice", "capnslog is gone; use --logger=zap instead")))
    case let other: throw Self.refused("unknown logger option \(other.goQuoted)")
    }
    if outputs.count > 1, outputs.contains("default") {
      throw Self.refused(#"multi logoutput for "default" is not supported yet"#)
    }
    if outputs.count > 1, outputs.contains("systemd/journal") {
      let list = outputs.map(\.goQuoted).joined(separator: " ")
      throw Self.refused(
        "running with systemd/journal but other '--log-outputs' values ([\(list)]) are configured "
          + "with 'default'; override 'default' value with something else")
    }
    if !outputs.isEmpty { options.outputs = outputs }
    options.rotation = try checkRotation(outputs)
    let format = values.text("log-format")
    guard let known = format.isEmpty ? LogFormat.json : LogFormat(rawValue: format) else {
      throw Self.refused("unknown log format: \(format), supported values json, console")
    }
    options.format = known
    let level = values.text("log-level")
    guard let known = LogLevel(name: level) else {
      throw .levelUnknown("unrecognized level: \(level.goQuoted)\n")
    }
    options.level = known
    return options
  }

  private func checkRotation(_ outputs: [String]) throws(Failure) -> LogRotation? {
    guard values.bool("enable-log-rotation") else { return nil }
    let files = outputs.filter { !["default", "stderr", "stdout"].contains($0) }
    guard files.count == 1 else {
      throw Self.refused(
        "--log-outputs requires a single file path when --log-rotate-config-json is defined")
    }
    do {
      return try LogRotation(json: values.text("log-rotation-config-json"))
    } catch {
      throw .refused(error)
    }
  }

  private func checkURLs() throws(Failure) {
    for flag in [
      "listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls",
    ] {
      for url in values.urls(flag) where !url.isUnix {
        guard url.host == "localhost" || IPLiteral.isValid(url.host) else {
          throw Self.refused("expected IP in URL for binding (\(url))")
        }
      }
    }
    try checkAdvertised("initial-advertise-peer-urls", advertisePeerURLs)
    try checkAdvertised("advertise-client-urls", advertiseClientURLs ?? [])
  }

  private func checkAdvertised(_ flag: String, _ urls: [EtcdURL]) throws(Failure) {
    for url in urls where !url.isUnix && url.host.isEmpty {
      let all = urls.map(\.description).joined(separator: ",").goQuoted
      throw Self.refused("--\(flag) \(all) must be \"host:port\" (unexpected empty host (\(url)))")
    }
  }

  private func checkBootstrapChoice() throws(Failure) {
    let state = values.text("initial-cluster-state")
    // A file may leave it empty, which means new.
    guard state.isEmpty || MemberConfiguration.ClusterState(rawValue: state) != nil else {
      throw Self.refused("unexpected clusterState \(state.goQuoted)")
    }
    let endpoints = values.words("discovery-endpoints")
    let ways = [
      !initialClusterText.isEmpty, !values.text("discovery-srv").isEmpty, !endpoints.isEmpty,
    ]
    if ways.filter({ $0 }).count > 1 {
      throw Self.refused(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", "
          + "\"discovery-endpoints\" or \"discovery-srv\"")
    }
    if values.text("discovery-token").isEmpty != endpoints.isEmpty {
      throw Self.refused("both --discovery-token and --discovery-endpoints must be set")
    }
    if endpoints.contains(where: \.trimmingBlanks.isEmpty) {
      throw Self.refused("--discovery-endpoints must not contain empty endpoints")
    }
  }

  private func checkTiming() throws(Failure) {
    let tick = values.unsigned("heartbeat-interval")
    let election = values.unsigned("election-timeout")
    if tick == 0 { throw Self.refused("--heartbeat-interval must be >0 (set to 0ms)") }
    if election == 0 { throw Self.refused("--election-timeout must be >0 (set to 0ms)") }
    let (leastElection, overflow) = tick.multipliedReportingOverflow(by: 5)
    if overflow || leastElection > election {
      throw Self.refused(
        "--election-timeout[\(election)ms] should be at least as 5 times as "
          + "--heartbeat-interval[\(tick)ms]")
    }
    if election > 50_000 {
      throw Self.refused(
        "--election-timeout[\(election)ms] is too long, and should be set less than 50000ms")
    }
  }

  private func checkCompactionMode() throws(Failure) {
    switch values.text("auto-compaction-mode") {
    case "periodic", "revision": return
    case "": throw Self.refused("undefined auto-compaction-mode")
    case let mode: throw Self.refused("unknown auto-compaction-mode \(mode.goQuoted)")
    }
  }

  private func checkGatesAndHashTime() throws(Failure) {
    let gates = FeatureGates(values.gates("feature-gates"))
    if gates.isEnabled(.leaseCheckpointPersist), !gates.isEnabled(.leaseCheckpoint) {
      throw Self.refused(
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate "
          + "LeaseCheckpoint")
    }
    let period = values.duration("compact-hash-check-time")
    if period <= .zero {
      throw Self.refused(
        "--compact-hash-check-time must be >0 (set to \(GoDuration.format(period)))")
    }
  }

  private mutating func warnAboutName() {
    guard name == "default" else { return }
    records.append(
      LogRecord(
        .warn,
        "it isn't recommended to use default name, please set a value for --name. Note that etcd "
          + "might run into issue when multiple members have the same default name",
        ("name", name)))
  }

  private func checkTLSVersions() throws(Failure) {
    func number(_ version: String) throws(Failure) -> Int {
      switch version {
      case "": return 0
      case "TLS1.2": return 2
      case "TLS1.3": return 3
      default:
        throw Self.refused(
          "unexpected TLS version \(version.goQuoted) (must be one of: TLS1.2, TLS1.3)")
      }
    }
    let (least, most) = (values.text("tls-min-version"), values.text("tls-max-version"))
    let (low, high) = (try number(least), try number(most))
    if high != 0, low > high {
      throw Self.refused("min version (\(least)) is greater than max version (\(most))")
    }
    if low == 3, !values.words("cipher-suites").isEmpty {
      throw Self.refused("cipher suites cannot be configured when only TLS1.3 is enabled")
    }
    for suite in values.words("cipher-suites") where !CipherSuite.isKnown(suite) {
      throw Self.refused("unexpected TLS cipher suite \(suite.goQuoted)")
    }
  }

  private mutating func checkTLSRules() throws(Failure) {
    for (port, security) in [
      ("client", TransportSecurity.clients(values)), ("peer", TransportSecurity.peers(values)),
    ] {
      let (names, hosts) = (security.allowedCommonNames, security.allowedHostNames)
      func list(_ words: [String]) -> String {
        "[" + words.map(\.goQuoted).joined(separator: " ") + "]"
      }
      if !names.isEmpty, !hosts.isEmpty {
        throw Self.refused(
          "AllowedCNs and AllowedHostnames are mutually exclusive (cns=\(list(names)), "
            + "hostnames=\(list(hosts)))")
      }
      if security.dialCertificateFile.isEmpty != security.dialKeyFile.isEmpty {
        throw Self.refused(
          "ClientKeyFile and ClientCertFile must both be present or both absent: "
            + "key: \(security.dialKeyFile), cert: \(security.dialCertificateFile)]")
      }
      if security.isAutomatic, values.unsigned("self-signed-cert-validity") == 0,
        source == .commandLine
      {
        throw Self.refused("selfSignedCertValidity is invalid,it should be greater than 0")
      }
      if values.bool(port == "peer" ? "peer-auto-tls" : "auto-tls"), !security.isAutomatic {
        records.append(LogRecord(.warn, "ignoring \(port) auto TLS since certs given"))
      }
      warnAboutPlainURLs(port, security)
    }
  }

  private mutating func warnAboutPlainURLs(_ port: String, _ security: TransportSecurity) {
    let flag = port == "peer" ? "--peer-client-cert-auth" : "--client-cert-auth"
    for url in values.urls("listen-\(port)-urls") where !url.usesTLS {
      if !security.certificateFile.isEmpty || !security.keyFile.isEmpty {
        records.append(
          LogRecord(
            .warn,
            "scheme is http or unix while key and cert files are present; ignoring key and "
              + "cert files", ("\(port)-url", url.description)))
      }
      if security.clientCertAuth {
        records.append(
          LogRecord(
            .warn,
            "scheme is http or unix while \(flag) is enabled; ignoring client cert auth for "
              + "this URL", ("\(port)-url", url.description)))
      }
    }
  }

  /// A secure listener needs a certificate, or the wish for a self-signed one.
  private func checkTLSPresence() throws(Failure) {
    if let url = values.urls("listen-peer-urls").first(where: \.usesTLS),
      TransportSecurity.peers(values).isEmpty
    {
      throw Self.refused(
        "cannot listen on TLS for \(url.isUnix ? url.socketPath ?? "" : url.authority): "
          + "KeyFile and CertFile are not presented")
    }
    guard TransportSecurity.clients(values).isEmpty else { return }
    if let url = (values.urls("listen-client-urls") + values.urls("listen-client-http-urls"))
      .first(where: \.usesTLS)
    {
      throw Self.refused(
        "TLS key/cert (--cert-file, --key-file) must be provided for client url \(url) with "
          + "HTTPS scheme")
    }
    if values.urls("listen-metrics-urls").contains(where: \.usesTLS) {
      throw Self.refused(
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url")
    }
  }

  private func parseRetention() throws(Failure) -> MemberConfiguration.AutoCompaction {
    let text = values.text("auto-compaction-retention")
    let byRevision = values.text("auto-compaction-mode") == "revision"
    if let number = Int64(text), number >= 0 {
      if number == 0 { return .off }
      if byRevision { return .revision(number) }
      return .periodic(.seconds(number.multipliedReportingOverflow(by: 3_600).partialValue))
    }
    do {
      let duration = try GoDuration.parse(text)
      if duration == .zero { return .off }
      guard !byRevision, duration > .zero else {
        throw GoDuration.ParseError.invalid(text)
      }
      return .periodic(duration)
    } catch {
      throw Self.refused("error parsing CompactionRetention: \(error)")
    }
  }

  private func parseInitialCluster() throws(Failure) -> [MemberConfiguration.InitialMember] {
    var members: [(name: String, url: EtcdURL)] = []
    for pair in initialClusterText.split(separator: ",") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let url: EtcdURL
      do { url = try EtcdURL(parts.count > 1 ? String(parts[1]) : "") } catch {
        throw Self.refused("error setting up initial cluster: \(error)")
      }
      members.append((String(parts[0]), url))
    }
    return MemberConfiguration.InitialMember.grouped(members)
  }
}

// MARK: - What this version does not do, and what it adjusts

extension ConfigurationDraft {
  private func refuseUnfinished() throws(Failure) {
    for spec in FlagTable.all where spec.support == .unfinished && values.isChanged(spec.name) {
      throw Self.refused(
        "--\(spec.name) is known but not implemented yet in this version; remove it to start")
    }
    for spec in FlagTable.all {
      guard case .refused(let advice) = spec.support, values.isChanged(spec.name) else { continue }
      throw Self.refused("--\(spec.name) is not part of this program: \(advice)")
    }
    if let gate = FeatureGates(values.gates("feature-gates")).unfinished {
      throw Self.refused(
        "feature gate \(gate.rawValue) is known but not implemented yet in this version; "
          + "remove it to start")
    }
  }

  private static let recommendedRequestBytes: UInt64 = 10_485_760
  /// What etcd warns about; Apus has no such limit of its own.
  private static let recommendedQuotaBytes: Int64 = 8_589_934_592

  private func checkRanges() throws(Failure) {
    for flag in [
      "backend-batch-interval", "compaction-sleep-interval", "watch-progress-notify-interval",
      "grpc-keepalive-min-time", "grpc-keepalive-interval", "grpc-keepalive-timeout",
    ] where values.duration(flag) < .zero {
      throw Self.refused("--\(flag) must not be negative")
    }
    for flag in ["compaction-batch-limit", "backend-batch-limit", "max-learners"]
    where values.signed(flag) < 0 {
      throw Self.refused("--\(flag) must not be negative")
    }
    for flag in ["max-txn-ops", "max-request-bytes"] where values.unsigned(flag) == 0 {
      throw Self.refused("--\(flag) must be >0")
    }
  }

  private mutating func noteAdjustments() {
    for spec in FlagTable.all where spec.support == .accepted {
      switch spec.name {
      case "max-snapshots" where values.isGiven(spec.name):
        records.append(
          LogRecord(
            .warn, "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."))
      case "v2-deprecation" where values.isGiven(spec.name):
        records.append(
          LogRecord(
            .warn,
            "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value "
              + "is enforced, ignoring user input."))
      case _ where values.isChanged(spec.name):
        records.append(LogRecord(.info, "flag is accepted but has no effect", ("flag", spec.name)))
      default: break
      }
    }
    if values.unsigned("snapshot-count") == 0 {
      records.append(
        LogRecord(
          .info, "updating snapshot-count to default", ("given-snapshot-count", 0),
          ("updated-snapshot-count", 10_000)))
    }
    let interval = values.duration("watch-progress-notify-interval")
    if interval != .zero, interval < MemberConfiguration.progressIntervalMin {
      records.append(
        LogRecord(
          .warn, "raised watch-progress-notify-interval to its minimum", ("given", interval),
          ("minimum", MemberConfiguration.progressIntervalMin)))
    }
    let quota = values.signed("quota-backend-bytes")
    if quota < 0 {
      records.append(LogRecord(.info, "disabled backend quota", ("quota-size-bytes", quota)))
    } else if quota > Self.recommendedQuotaBytes {
      records.append(
        LogRecord(
          .warn, "quota exceeds the maximum value", ("quota-size-bytes", quota),
          ("quota-maximum-size-bytes", Self.recommendedQuotaBytes)))
    }
    let requestBytes = values.unsigned("max-request-bytes")
    if requestBytes > Self.recommendedRequestBytes {
      records.append(
        LogRecord(
          .warn, "exceeded recommended request limit", ("max-request-bytes", requestBytes),
          ("recommended-request-bytes", Self.recommendedRequestBytes)))
    }
  }
}
