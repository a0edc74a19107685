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

  var path: String { "/etcdserverpb.\(rawValue)" }

  /// Granting without an id may leave a lease behind that times out; etcd repeats it too.
  var isSafe: Bool {
    switch self {
    case .range, .leaseGrant, .leaseRevoke, .leaseTimeToLive, .leaseLeases, .leaseKeepAlive,
      .memberList, .alarm, .status, .hashKV, .watch, .snapshot:
      true
    case .put, .deleteRange, .txn, .compact, .memberAdd, .memberRemove, .memberUpdate,
      .memberPromote, .defragment, .moveLeader:
      false
    }
  }
}
