/// The counters of every RPC, in the names of the Go gRPC library's Prometheus middleware.
///
/// Fed by the client gateway. All series exist with 0 from the start.
public struct GRPCMetrics: Sendable {
  public enum CallType: String, Sendable {
    case unary
    case serverStream = "server_stream"
    case bidiStream = "bidi_stream"
  }

  /// The counters of one method. Kept by the gateway next to the method's handler.
  public final class Method: Sendable {
    public let service: String
    public let name: String
    public let type: CallType
    public let started: Counter
    public let messagesReceived: Counter
    public let messagesSent: Counter
    /// By status code, 0 to 16.
    private let handledByCode: [Counter]
    /// Nil unless `--metrics=extensive`.
    public let handlingTime: Histogram?

    fileprivate init(
      _ service: String, _ name: String, _ type: CallType, started: Counter, received: Counter,
      sent: Counter, handled: [Counter], time: Histogram?
    ) {
      self.service = service
      self.name = name
      self.type = type
      self.started = started
      messagesReceived = received
      messagesSent = sent
      handledByCode = handled
      handlingTime = time
    }

    /// A call ended, also if the client vanished: started - handled must equal the open calls.
    /// - Parameter code: the gRPC status; one out of 0 to 16 counts as 2, Unknown.
    public func handled(code: Int) {
      handledByCode[handledByCode.indices.contains(code) ? code : 2].increment()
    }

    public func handledCount(code: Int) -> UInt64 { handledByCode[code].value }
  }

  /// In the order of ``table``.
  public let methods: [Method]
  private let indexByPath: [String: Int]

  /// - Parameter path: `/package.Service/Method`.
  public func method(path: String) -> Method? { indexByPath[path].map { methods[$0] } }

  init(_ registry: MetricsRegistry, extensive: Bool) {
    let labels = ["grpc_method", "grpc_service", "grpc_type"]
    let started = registry.counters(
      "grpc_server_started_total", "Total number of RPCs started on the server.", labels: labels)
    let received = registry.counters(
      "grpc_server_msg_received_total", "Total number of RPC messages received on the server.",
      labels: labels)
    let sent = registry.counters(
      "grpc_server_msg_sent_total", "Total number of gRPC stream messages sent by the server.",
      labels: labels)
    let handled = registry.counters(
      "grpc_server_handled_total", "Total number of RPCs completed, by status.",
      labels: ["grpc_code"] + labels)
    let times =
      extensive
      ? registry.histograms(
        "grpc_server_handling_seconds", "Time of RPCs on the server.", labels: labels,
        bounds: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]) : nil
    var methods: [Method] = []
    var index: [String: Int] = [:]
    for (service, names) in Self.table {
      for (name, type) in names {
        let values = [name, service, type.rawValue]
        index["/\(service)/\(name)"] = methods.count
        methods.append(
          Method(
            service, name, type, started: started.series(values),
            received: received.series(values), sent: sent.series(values),
            handled: Self.codes.map { handled.series([$0] + values) },
            time: times?.series(values)))
      }
    }
    self.methods = methods
    indexByPath = index
  }

  /// Status names by number.
  public static let codes = [
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
    "AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted",
    "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
  ]

  private static func unary(_ names: String...) -> [(String, CallType)] {
    names.map { ($0, .unary) }
  }

  private static let table: [(String, [(String, CallType)])] = [
    (
      "etcdserverpb.KV",
      unary("Range", "Put", "DeleteRange", "Txn", "Compact") + [("RangeStream", .serverStream)]
    ),
    ("etcdserverpb.Watch", [("Watch", .bidiStream)]),
    (
      "etcdserverpb.Lease",
      unary("LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "LeaseLeases")
        + [("LeaseKeepAlive", .bidiStream)]
    ),
    (
      "etcdserverpb.Cluster",
      unary("MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote")
    ),
    (
      "etcdserverpb.Maintenance",
      unary("Alarm", "Status", "Defragment", "Hash", "HashKV", "MoveLeader", "Downgrade")
        + [("Snapshot", .serverStream)]
    ),
    (
      "etcdserverpb.Auth",
      unary(
        "AuthEnable", "AuthDisable", "AuthStatus", "Authenticate", "UserAdd", "UserGet",
        "UserList", "UserDelete", "UserChangePassword", "UserGrantRole", "UserRevokeRole",
        "RoleAdd", "RoleGet", "RoleList", "RoleDelete", "RoleGrantPermission",
        "RoleRevokePermission")
    ),
    (
      "v3electionpb.Election",
      unary("Campaign", "Proclaim", "Leader", "Resign") + [("Observe", .serverStream)]
    ),
    ("v3lockpb.Lock", unary("Lock", "Unlock")),
    ("grpc.health.v1.Health", unary("Check", "List") + [("Watch", .serverStream)]),
  ]
}
