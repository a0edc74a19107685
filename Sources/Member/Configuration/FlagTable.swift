/// One command line flag: what it is called, what it takes, and how far it is honoured.
public struct FlagSpec: Sendable {
  public enum Kind: Sendable, Equatable {
    case text
    case bool
    case unsigned
    /// At most 2^32-1; bad numbers are reported in Go's strconv words, as etcd does here.
    case unsigned32
    case signed
    case duration
    /// Comma-separated URLs, or exactly the text `allowing` (`*`, or empty).
    case urls(allowing: String?)
    /// Comma-separated words, sorted, without duplicates.
    case words
    case choice([String])
    /// `Gate=bool,...`
    case gates
  }

  public enum Support: Sendable, Equatable {
    case supported
    /// Parsed and checked, then ignored; said once in the log when set to another value.
    case accepted
    /// Known, but a value other than the default would promise what is not there: refused.
    case unfinished
    /// Left out for good; another value than the default is refused with this advice.
    case refused(String)
  }

  public enum Section: String, Sendable, CaseIterable {
    case member = "Member"
    case clustering = "Clustering"
    case security = "Security"
    case auth = "Auth"
    case monitoring = "Profiling and Monitoring"
    case logging = "Logging"
    case tracing = "Distributed tracing"
    case features = "Features"
    case unsafe = "Unsafe feature"
  }

  public let name: String
  public let kind: Kind
  public let defaultText: String
  public let help: String
  public let support: Support
  public let section: Section

  /// `ETCD_` + upper case, `-` as `_`.
  public var environmentName: String { FlagTable.environmentName(of: name) }
}

/// A spelling of an earlier etcd release that is still understood, with one warning.
struct RetiredFlag: Sendable {
  enum Meaning: Sendable {
    /// The same flag under its present name.
    case renamed(String)
    /// A bool flag that is a feature gate today.
    case gate(String)
    /// Ignored whatever its value.
    case ignored(FlagSpec.Kind)
    /// Ignored with one of these values; any other asks for something that no longer exists.
    case refusedUnless([String], kind: FlagSpec.Kind, reason: String)
    /// `--debug`: log level debug when true.
    case debugLevel
  }
  let name: String
  let meaning: Meaning

  var kind: FlagSpec.Kind {
    switch meaning {
    case .renamed(let target): FlagTable.spec(named: target)?.kind ?? .text
    case .gate, .debugLevel: .bool
    case .ignored(let kind), .refusedUnless(_, let kind, _): kind
    }
  }
}

/// Every flag of etcd 3.7.1, the retired spellings, and the leftovers that are silently ignored.
public enum FlagTable {
  public static let all: [FlagSpec] =
    memberFlags + clusteringFlags + discoveryFlags + securityFlags + authFlags + monitoringFlags
    + loggingFlags + tracingFlags + featureFlags + unsafeFlags

  private static let indexByName: [String: Int] = Dictionary(
    uniqueKeysWithValues: all.enumerated().map { ($1.name, $0) })

  public static func spec(named name: String) -> FlagSpec? {
    indexByName[name].map { all[$0] }
  }

  static let retired: [RetiredFlag] = retiredGates + retiredRenames + retiredOthers

  private static let retiredByName: [String: Int] = Dictionary(
    uniqueKeysWithValues: retired.enumerated().map { ($1.name, $0) })

  static func retired(named name: String) -> RetiredFlag? {
    retiredByName[name].map { retired[$0] }
  }

  /// Words that etcd has swallowed without an error since its first releases.
  static let leftovers: Set<String> = [
    "cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force",
    "max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval", "peer-election-timeout",
    "retry-interval", "snapshot", "v", "vv", "test.coverprofile", "test.outputdir",
  ]

  /// The flags that the environment may set, with the names of their variables. Retired names come
  /// first, so that the present name wins if both are set.
  static let environmentNames: [(flag: String, variable: String)] =
    (retired.map(\.name).sorted() + all.map(\.name).sorted()).filter { $0 != "version" }.map {
      ($0, environmentName(of: $0))
    }

  public static func environmentName(of flag: String) -> String {
    "ETCD_"
      + flag.uppercased().split(separator: "-", omittingEmptySubsequences: false)
      .joined(separator: "_")
  }
}

// MARK: - Retired spellings

extension FlagTable {
  private static let retiredGates: [RetiredFlag] = [
    ("initial-corrupt-check", "InitialCorruptCheck"),
    ("compact-hash-check-enabled", "CompactHashCheck"),
    ("enable-lease-checkpoint", "LeaseCheckpoint"),
    ("enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    ("txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
    ("stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
  ].map { RetiredFlag(name: "experimental-" + $0.0, meaning: .gate($0.1)) }

  private static let retiredRenames: [RetiredFlag] =
    [
      "corrupt-check-time", "compact-hash-check-time", "compaction-batch-limit",
      "compaction-sleep-interval", "watch-progress-notify-interval", "warning-apply-duration",
      "warning-unary-request-duration", "bootstrap-defrag-threshold-megabytes", "memory-mlock",
      "snapshot-catchup-entries", "downgrade-check-time", "peer-skip-client-san-verification",
      "enable-distributed-tracing", "distributed-tracing-address",
      "distributed-tracing-service-name", "distributed-tracing-instance-id",
      "distributed-tracing-sampling-rate", "backend-bbolt-freelist-type",
      "max-learners",
    ].map { RetiredFlag(name: "experimental-" + $0, meaning: .renamed($0)) }

  private static let retiredOthers: [RetiredFlag] = [
    RetiredFlag(
      name: "enable-v2",
      meaning: .refusedUnless(["false"], kind: .bool, reason: "there is no v2 API")),
    RetiredFlag(
      name: "experimental-enable-v2v3",
      meaning: .refusedUnless([""], kind: .text, reason: "there is no v2 API")),
    RetiredFlag(
      name: "proxy",
      meaning: .refusedUnless(["off"], kind: .text, reason: "there is no v2 proxy")),
    RetiredFlag(name: "proxy-failure-wait", meaning: .ignored(.unsigned)),
    RetiredFlag(name: "proxy-refresh-interval", meaning: .ignored(.unsigned)),
    RetiredFlag(name: "proxy-dial-timeout", meaning: .ignored(.unsigned)),
    RetiredFlag(name: "proxy-write-timeout", meaning: .ignored(.unsigned)),
    RetiredFlag(name: "proxy-read-timeout", meaning: .ignored(.unsigned)),
    RetiredFlag(
      name: "discovery",
      meaning: .refusedUnless([""], kind: .text, reason: "there is no v2 discovery")),
    RetiredFlag(
      name: "discovery-proxy",
      meaning: .refusedUnless([""], kind: .text, reason: "there is no v2 discovery")),
    RetiredFlag(name: "debug", meaning: .debugLevel),
    RetiredFlag(name: "log-output", meaning: .renamed("log-outputs")),
    RetiredFlag(name: "log-package-levels", meaning: .ignored(.text)),
  ]
}
