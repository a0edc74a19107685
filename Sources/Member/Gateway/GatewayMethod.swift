import HTTP

/// The methods of etcd's API that a member knows, in the order of the session's routes.
enum GatewayMethod: Int, CaseIterable {
  case range, rangeStream, put, deleteRange, txn, compact
  case watch
  case leaseGrant, leaseRevoke, leaseKeepAlive, leaseTimeToLive, leaseLeases
  case memberAdd, memberRemove, memberUpdate, memberList, memberPromote
  case alarm, status, defragment, hash, hashKV, snapshot, moveLeader, downgrade
  case authEnable, authDisable, authStatus, authenticate
  case userAdd, userGet, userList, userDelete, userChangePassword, userGrantRole, userRevokeRole
  case roleAdd, roleGet, roleList, roleDelete, roleGrantPermission, roleRevokePermission
  case campaign, proclaim, leader, observe, resign
  case lock, unlock
  case healthCheck, healthWatch, healthList

  var path: String {
    let (service, method) = name
    return "/\(service)/\(method)"
  }

  /// Routes for the HTTP/2 session: a call's `route` is the raw value.
  static let routes = allCases.map(\.path)

  private var name: (service: String, method: String) {
    switch self {
    case .range: ("etcdserverpb.KV", "Range")
    case .rangeStream: ("etcdserverpb.KV", "RangeStream")
    case .put: ("etcdserverpb.KV", "Put")
    case .deleteRange: ("etcdserverpb.KV", "DeleteRange")
    case .txn: ("etcdserverpb.KV", "Txn")
    case .compact: ("etcdserverpb.KV", "Compact")
    case .watch: ("etcdserverpb.Watch", "Watch")
    case .leaseGrant: ("etcdserverpb.Lease", "LeaseGrant")
    case .leaseRevoke: ("etcdserverpb.Lease", "LeaseRevoke")
    case .leaseKeepAlive: ("etcdserverpb.Lease", "LeaseKeepAlive")
    case .leaseTimeToLive: ("etcdserverpb.Lease", "LeaseTimeToLive")
    case .leaseLeases: ("etcdserverpb.Lease", "LeaseLeases")
    case .memberAdd: ("etcdserverpb.Cluster", "MemberAdd")
    case .memberRemove: ("etcdserverpb.Cluster", "MemberRemove")
    case .memberUpdate: ("etcdserverpb.Cluster", "MemberUpdate")
    case .memberList: ("etcdserverpb.Cluster", "MemberList")
    case .memberPromote: ("etcdserverpb.Cluster", "MemberPromote")
    case .alarm: ("etcdserverpb.Maintenance", "Alarm")
    case .status: ("etcdserverpb.Maintenance", "Status")
    case .defragment: ("etcdserverpb.Maintenance", "Defragment")
    case .hash: ("etcdserverpb.Maintenance", "Hash")
    case .hashKV: ("etcdserverpb.Maintenance", "HashKV")
    case .snapshot: ("etcdserverpb.Maintenance", "Snapshot")
    case .moveLeader: ("etcdserverpb.Maintenance", "MoveLeader")
    case .downgrade: ("etcdserverpb.Maintenance", "Downgrade")
    case .authEnable: ("etcdserverpb.Auth", "AuthEnable")
    case .authDisable: ("etcdserverpb.Auth", "AuthDisable")
    case .authStatus: ("etcdserverpb.Auth", "AuthStatus")
    case .authenticate: ("etcdserverpb.Auth", "Authenticate")
    case .userAdd: ("etcdserverpb.Auth", "UserAdd")
    case .userGet: ("etcdserverpb.Auth", "UserGet")
    case .userList: ("etcdserverpb.Auth", "UserList")
    case .userDelete: ("etcdserverpb.Auth", "UserDelete")
    case .userChangePassword: ("etcdserverpb.Auth", "UserChangePassword")
    case .userGrantRole: ("etcdserverpb.Auth", "UserGrantRole")
    case .userRevokeRole: ("etcdserverpb.Auth", "UserRevokeRole")
    case .roleAdd: ("etcdserverpb.Auth", "RoleAdd")
    case .roleGet: ("etcdserverpb.Auth", "RoleGet")
    case .roleList: ("etcdserverpb.Auth", "RoleList")
    case .roleDelete: ("etcdserverpb.Auth", "RoleDelete")
    case .roleGrantPermission: ("etcdserverpb.Auth", "RoleGrantPermission")
    case .roleRevokePermission: ("etcdserverpb.Auth", "RoleRevokePermission")
    case .campaign: ("v3electionpb.Election", "Campaign")
    case .proclaim: ("v3electionpb.Election", "Proclaim")
    case .leader: ("v3electionpb.Election", "Leader")
    case .observe: ("v3electionpb.Election", "Observe")
    case .resign: ("v3electionpb.Election", "Resign")
    case .lock: ("v3lockpb.Lock", "Lock")
    case .unlock: ("v3lockpb.Lock", "Unlock")
    case .healthCheck: ("grpc.health.v1.Health", "Check")
    case .healthWatch: ("grpc.health.v1.Health", "Watch")
    case .healthList: ("grpc.health.v1.Health", "List")
    }
  }

  /// Requests arrive as a stream that may stay open for days.
  var isBidirectional: Bool { self == .watch || self == .leaseKeepAlive }

  /// Requests or answers are a stream.
  var isStream: Bool {
    switch self {
    case .watch, .leaseKeepAlive, .rangeStream, .snapshot, .observe, .healthWatch: true
    default: false
    }
  }

  /// Taking long is no sign of trouble.
  var mayLast: Bool {
    switch self {
    case .watch, .leaseKeepAlive, .snapshot, .campaign, .observe, .lock: true
    default: false
    }
  }

  private static let services = Set(allCases.map(\.name.service))

  /// What a call of an unknown method is told.
  static func unknown(path: String) -> GRPCStatus {
    let name = path.dropFirst()
    guard path.hasPrefix("/"), let slash = name.lastIndex(of: "/") else {
      return GRPCStatus(.unimplemented, "malformed method name: \"\(path)\"")
    }
    // Either part may be empty: the last slash alone decides, as in Go.
    let service = String(name[..<slash])
    return services.contains(service)
      ? GRPCStatus(
        .unimplemented, "unknown method \(name[name.index(after: slash)...]) for service \(service)"
      )
      : GRPCStatus(.unimplemented, "unknown service \(service)")
  }
}
