// The methods of the API that the client calls.

/// A gRPC method and whether repeating it is harmless.
enum EtcdMethod: String, CaseIterable {
  case range = "KV/Range"
  case put = "KV/Put"
  case deleteRange = "KV/DeleteRange"
  case txn = "KV/Txn"
  case compact = "KV/Compact"
  case watch = "Watch/Watch"
  case leaseGrant = "Lease/LeaseGrant"
  case leaseRevoke = "Lease/LeaseRevoke"
  case leaseKeepAlive = "Lease/LeaseKeepAlive"
  case leaseTimeToLive = "Lease/LeaseTimeToLive"
  case leaseLeases = "Lease/LeaseLeases"
  case memberAdd = "Cluster/MemberAdd"
  case memberRemove = "Cluster/MemberRemove"
  case memberUpdate = "Cluster/MemberUpdate"
  case memberList = "Cluster/MemberList"
  case memberPromote = "Cluster/MemberPromote"
  case alarm = "Maintenance/Alarm"
  case status = "Maintenance/Status"
  case defragment = "Maintenance/Defragment"
  case hashKV = "Maintenance/HashKV"
  case snapshot = "Maintenance/Snapshot"
  case moveLeader = "Maintenance/MoveLeader"
  case authEnable = "Auth/AuthEnable"
  case authDisable = "Auth/AuthDisable"
  case authStatus = "Auth/AuthStatus"
  case authenticate = "Auth/Authenticate"
  case userAdd = "Auth/UserAdd"
  case userGet = "Auth/UserGet"
  case userList = "Auth/UserList"
  case userDelete = "Auth/UserDelete"
  case userChangePassword = "Auth/UserChangePassword"
  case userGrantRole = "Auth/UserGrantRole"
  case userRevokeRole = "Auth/UserRevokeRole"
  case roleAdd = "Auth/RoleAdd"
  case roleGet = "Auth/RoleGet"
  case roleList = "Auth/RoleList"
  case roleDelete = "Auth/RoleDelete"
  case roleGrantPermission = "Auth/RoleGrantPermission"
  case roleRevokePermission = "Auth/RoleRevokePermission"

  var path: String { "/etcdserverpb.\(rawValue)" }

  /// Granting without an id may leave a lease behind that times out; etcd repeats it too.
  var isSafe: Bool {
    switch self {
    case .range, .leaseGrant, .leaseRevoke, .leaseTimeToLive, .leaseLeases, .leaseKeepAlive,
      .memberList, .alarm, .status, .hashKV, .watch, .snapshot, .authStatus, .authenticate,
      .userGet,
      .userList, .roleGet, .roleList:
      true
    case .put, .deleteRange, .txn, .compact, .memberAdd, .memberRemove, .memberUpdate,
      .memberPromote, .defragment, .moveLeader, .authEnable, .authDisable, .userAdd, .userDelete,
      .userChangePassword, .userGrantRole, .userRevokeRole, .roleAdd, .roleDelete,
      .roleGrantPermission, .roleRevokePermission:
      false
    }
  }
}
