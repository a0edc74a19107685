// The member program's flags, as far as a mistake can be found before it runs.

enum KnownFlags {
  enum Kind: Sendable { case bool, integer, duration, text }

  /// Flags that the launcher passes itself, with what a user writes to the same end.
  static let reserved: [(name: String, advice: String)] = [
    ("name", "the member's `name:`"),
    ("data-dir", "`data-dir:` at the top of the file"),
    ("listen-client-urls", "`client-url:`"),
    ("advertise-client-urls", "`client-url:`"),
    ("listen-peer-urls", "`peer-url:`"),
    ("initial-advertise-peer-urls", "`peer-url:`"),
    ("initial-cluster", "one entry of `members:` for each member"),
    ("initial-cluster-state", "nothing; a new cluster starts as new, an old one from its data"),
    ("config-file", "the flags themselves"),
  ]

  static let names: [String] = (bools + integers + durations + texts).sorted()

  static func kind(of name: String) -> Kind? {
    if bools.contains(name) { return .bool }
    if integers.contains(name) { return .integer }
    if durations.contains(name) { return .duration }
    return texts.contains(name) ? .text : nil
  }

  private static let bools = [
    "initial-election-tick-advance", "socket-reuse-port", "socket-reuse-address",
    "strict-reconfig-check", "pre-vote", "client-cert-auth", "auto-tls", "peer-client-cert-auth",
    "peer-auto-tls", "peer-skip-client-san-verification", "enable-pprof", "enable-log-rotation",
    "enable-distributed-tracing", "enable-grpc-gateway", "memory-mlock", "force-new-cluster",
    "unsafe-no-fsync", "discovery-insecure-transport", "discovery-insecure-skip-tls-verify",
  ]

  private static let integers = [
    "snapshot-count", "heartbeat-interval", "election-timeout", "max-snapshots", "max-wals",
    "quota-backend-bytes", "backend-batch-limit", "max-txn-ops", "max-request-bytes",
    "max-concurrent-streams", "self-signed-cert-validity", "bcrypt-cost", "auth-token-ttl",
    "distributed-tracing-sampling-rate", "compaction-batch-limit",
    "bootstrap-defrag-threshold-megabytes", "max-learners", "snapshot-catchup-entries",
  ]

  private static let durations = [
    "backend-batch-interval", "grpc-keepalive-min-time", "grpc-keepalive-interval",
    "grpc-keepalive-timeout", "raft-read-timeout", "raft-write-timeout", "discovery-dial-timeout",
    "discovery-request-timeout", "discovery-keepalive-time", "discovery-keepalive-timeout",
    "warning-apply-duration", "warning-unary-request-duration", "corrupt-check-time",
    "compact-hash-check-time", "compaction-sleep-interval", "watch-progress-notify-interval",
    "downgrade-check-time",
  ]

  private static let texts = [
    "wal-dir", "listen-client-http-urls", "listen-metrics-urls", "backend-bbolt-freelist-type",
    "initial-cluster-token", "auto-compaction-retention", "auto-compaction-mode",
    "v2-deprecation", "discovery-endpoints", "discovery-token", "discovery-cert",
    "discovery-key", "discovery-cacert", "discovery-user", "discovery-password",
    "discovery-fallback", "discovery-srv", "discovery-srv-name", "cert-file", "key-file",
    "client-cert-file", "client-key-file", "client-crl-file", "client-cert-allowed-hostname",
    "trusted-ca-file", "peer-cert-file", "peer-key-file", "peer-client-cert-file",
    "peer-client-key-file", "peer-trusted-ca-file", "peer-crl-file", "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname", "cipher-suites", "tls-min-version", "tls-max-version", "cors",
    "host-whitelist", "auth-token", "metrics", "logger", "log-outputs", "log-level", "log-format",
    "log-rotation-config-json", "distributed-tracing-address", "distributed-tracing-service-name",
    "distributed-tracing-instance-id", "feature-gates",
  ]

  /// What is wrong with a flag's value, and an example of a good one; nil if nothing is.
  static func problem(flag: String, value: String) -> (text: String, instead: String)? {
    switch kind(of: flag) {
    case .bool where !boolWords.contains(value):
      ("\(flag) is true or false, not \"\(value)\"", "\(flag): true")
    case .integer where !isInteger(value):
      ("\(flag) is a whole number, not \"\(value)\"", "\(flag): \(example(flag))")
    case .duration where !isDuration(value):
      ("\(flag) is a duration with a unit, not \"\(value)\"", "\(flag): \(duration(like: value))")
    default: nil
    }
  }

  private static let boolWords = [
    "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
  ]

  private static func example(_ flag: String) -> String {
    switch flag {
    case "heartbeat-interval": "100"
    case "election-timeout": "1000"
    case "quota-backend-bytes": "8589934592"
    case "max-request-bytes": "1572864"
    default: "10"
    }
  }

  private static func isInteger(_ text: String) -> Bool {
    if text.hasPrefix("0x") { return Int64(text.dropFirst(2), radix: 16) != nil }
    return Int64(text) != nil || UInt64(text) != nil
  }

  private static func duration(like text: String) -> String {
    isInteger(text) && text != "0" ? "\(text)s" : "10s"
  }

  /// Go's form: numbers with units, `300ms`, `1h30m`.
  private static func isDuration(_ text: String) -> Bool {
    var rest = Substring(text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text[...])
    if rest == "0" { return true }
    if rest.isEmpty { return false }
    while !rest.isEmpty {
      let number = rest.prefix { $0 == "." || ("0"..."9").contains($0) }
      guard Double(number.hasPrefix(".") ? "0" + number : String(number)) != nil else {
        return false
      }
      rest = rest.dropFirst(number.count)
      let unit = rest.prefix { $0 != "." && !("0"..."9").contains($0) }
      guard ["ns", "us", "µs", "μs", "ms", "s", "m", "h"].contains(String(unit)) else {
        return false
      }
      rest = rest.dropFirst(unit.count)
    }
    return true
  }
}
