import Base
import EtcdAPI
import FoundationEssentials
import SwiftProtobuf

/// What one path of the JSON gateway stands for: a method of the API, and how its messages are written
/// in JSON.
struct JSONRoute: Sendable {
  /// Requests larger than a message may be are refused before they are decoded: base64 needs a third
  /// more, and names and spaces some.
  static func textBytesMax(messageBytesMax: Int) -> Int { messageBytesMax * 2 + (64 << 10) }

  let method: GatewayMethod
  /// A request's JSON to its protobuf form.
  let decode: @Sendable (Bytes) throws(JSONFailure) -> Bytes
  /// An answer's protobuf form to JSON, on one line.
  let encode: @Sendable (Bytes) throws -> Bytes

  /// The answer is a sequence of messages.
  var isStreaming: Bool {
    switch method {
    case .watch, .leaseKeepAlive, .snapshot, .observe: true
    default: false
    }
  }

  private init<Request: Message, Response: Message>(
    _ method: GatewayMethod, _ request: Request.Type, _ response: Response.Type
  ) {
    self.method = method
    decode = { (text) throws(JSONFailure) in try JSONMapping.decode(Request.self, text) }
    encode = { try JSONMapping.encode(Response.self, $0) }
  }

  /// The route of a path; nil if there is none.
  static func find(_ path: String) -> JSONRoute? { table[path] }

  static let paths: [String] = table.keys.sorted()

  private static let table: [String: JSONRoute] = {
    typealias KV = (String, JSONRoute)
    let all: [KV] = data + leases + cluster + maintenance + auth + concurrency
    return Dictionary(uniqueKeysWithValues: all.map { ("/v3/" + $0.0, $0.1) })
  }()

  private static func route<Request: Message, Response: Message>(
    _ path: String, _ method: GatewayMethod, _ request: Request.Type, _ response: Response.Type
  ) -> (String, JSONRoute) {
    (path, JSONRoute(method, request, response))
  }

  private static let data = [
    route("kv/range", .range, Etcdserverpb_RangeRequest.self, Etcdserverpb_RangeResponse.self),
    route("kv/put", .put, Etcdserverpb_PutRequest.self, Etcdserverpb_PutResponse.self),
    route(
      "kv/deleterange", .deleteRange, Etcdserverpb_DeleteRangeRequest.self,
      Etcdserverpb_DeleteRangeResponse.self),
    route("kv/txn", .txn, Etcdserverpb_TxnRequest.self, Etcdserverpb_TxnResponse.self),
    route(
      "kv/compaction", .compact, Etcdserverpb_CompactionRequest.self,
      Etcdserverpb_CompactionResponse.self),
    route("watch", .watch, Etcdserverpb_WatchRequest.self, Etcdserverpb_WatchResponse.self),
  ]

  private static let leases =
    [
      route(
        "lease/grant", .leaseGrant, Etcdserverpb_LeaseGrantRequest.self,
        Etcdserverpb_LeaseGrantResponse.self),
      route(
        "lease/keepalive", .leaseKeepAlive, Etcdserverpb_LeaseKeepAliveRequest.self,
        Etcdserverpb_LeaseKeepAliveResponse.self),
    ]
    + ["lease/", "kv/lease/"].flatMap { prefix in
      [
        route(
          prefix + "revoke", .leaseRevoke, Etcdserverpb_LeaseRevokeRequest.self,
          Etcdserverpb_LeaseRevokeResponse.self),
        route(
          prefix + "timetolive", .leaseTimeToLive, Etcdserverpb_LeaseTimeToLiveRequest.self,
          Etcdserverpb_LeaseTimeToLiveResponse.self),
        route(
          prefix + "leases", .leaseLeases, Etcdserverpb_LeaseLeasesRequest.self,
          Etcdserverpb_LeaseLeasesResponse.self),
      ]
    }

  private static let cluster = [
    route(
      "cluster/member/add", .memberAdd, Etcdserverpb_MemberAddRequest.self,
      Etcdserverpb_MemberAddResponse.self),
    route(
      "cluster/member/remove", .memberRemove, Etcdserverpb_MemberRemoveRequest.self,
      Etcdserverpb_MemberRemoveResponse.self),
    route(
      "cluster/member/update", .memberUpdate, Etcdserverpb_MemberUpdateRequest.self,
      Etcdserverpb_MemberUpdateResponse.self),
    route(
      "cluster/member/list", .memberList, Etcdserverpb_MemberListRequest.self,
      Etcdserverpb_MemberListResponse.self),
    route(
      "cluster/member/promote", .memberPromote, Etcdserverpb_MemberPromoteRequest.self,
      Etcdserverpb_MemberPromoteResponse.self),
  ]

  private static let maintenance = [
    route(
      "maintenance/alarm", .alarm, Etcdserverpb_AlarmRequest.self, Etcdserverpb_AlarmResponse.self),
    route(
      "maintenance/status", .status, Etcdserverpb_StatusRequest.self,
      Etcdserverpb_StatusResponse.self),
    route(
      "maintenance/defragment", .defragment, Etcdserverpb_DefragmentRequest.self,
      Etcdserverpb_DefragmentResponse.self),
    route("maintenance/hash", .hash, Etcdserverpb_HashRequest.self, Etcdserverpb_HashResponse.self),
    route(
      "maintenance/hashkv", .hashKV, Etcdserverpb_HashKVRequest.self,
      Etcdserverpb_HashKVResponse.self),
    route(
      "maintenance/snapshot", .snapshot, Etcdserverpb_SnapshotRequest.self,
      Etcdserverpb_SnapshotResponse.self),
    route(
      "maintenance/transfer-leadership", .moveLeader, Etcdserverpb_MoveLeaderRequest.self,
      Etcdserverpb_MoveLeaderResponse.self),
    route(
      "maintenance/downgrade", .downgrade, Etcdserverpb_DowngradeRequest.self,
      Etcdserverpb_DowngradeResponse.self),
  ]

  private static let auth =
    [
      route(
        "auth/enable", .authEnable, Etcdserverpb_AuthEnableRequest.self,
        Etcdserverpb_AuthEnableResponse.self),
      route(
        "auth/disable", .authDisable, Etcdserverpb_AuthDisableRequest.self,
        Etcdserverpb_AuthDisableResponse.self),
      route(
        "auth/status", .authStatus, Etcdserverpb_AuthStatusRequest.self,
        Etcdserverpb_AuthStatusResponse.self),
      route(
        "auth/authenticate", .authenticate, Etcdserverpb_AuthenticateRequest.self,
        Etcdserverpb_AuthenticateResponse.self),
    ] + users + roles

  private static let users = [
    route(
      "auth/user/add", .userAdd, Etcdserverpb_AuthUserAddRequest.self,
      Etcdserverpb_AuthUserAddResponse.self),
    route(
      "auth/user/get", .userGet, Etcdserverpb_AuthUserGetRequest.self,
      Etcdserverpb_AuthUserGetResponse.self),
    route(
      "auth/user/list", .userList, Etcdserverpb_AuthUserListRequest.self,
      Etcdserverpb_AuthUserListResponse.self),
    route(
      "auth/user/delete", .userDelete, Etcdserverpb_AuthUserDeleteRequest.self,
      Etcdserverpb_AuthUserDeleteResponse.self),
    route(
      "auth/user/changepw", .userChangePassword, Etcdserverpb_AuthUserChangePasswordRequest.self,
      Etcdserverpb_AuthUserChangePasswordResponse.self),
    route(
      "auth/user/grant", .userGrantRole, Etcdserverpb_AuthUserGrantRoleRequest.self,
      Etcdserverpb_AuthUserGrantRoleResponse.self),
    route(
      "auth/user/revoke", .userRevokeRole, Etcdserverpb_AuthUserRevokeRoleRequest.self,
      Etcdserverpb_AuthUserRevokeRoleResponse.self),
  ]

  private static let roles = [
    route(
      "auth/role/add", .roleAdd, Etcdserverpb_AuthRoleAddRequest.self,
      Etcdserverpb_AuthRoleAddResponse.self),
    route(
      "auth/role/get", .roleGet, Etcdserverpb_AuthRoleGetRequest.self,
      Etcdserverpb_AuthRoleGetResponse.self),
    route(
      "auth/role/list", .roleList, Etcdserverpb_AuthRoleListRequest.self,
      Etcdserverpb_AuthRoleListResponse.self),
    route(
      "auth/role/delete", .roleDelete, Etcdserverpb_AuthRoleDeleteRequest.self,
      Etcdserverpb_AuthRoleDeleteResponse.self),
    route(
      "auth/role/grant", .roleGrantPermission, Etcdserverpb_AuthRoleGrantPermissionRequest.self,
      Etcdserverpb_AuthRoleGrantPermissionResponse.self),
    route(
      "auth/role/revoke", .roleRevokePermission, Etcdserverpb_AuthRoleRevokePermissionRequest.self,
      Etcdserverpb_AuthRoleRevokePermissionResponse.self),
  ]

  private static let concurrency = [
    route(
      "election/campaign", .campaign, V3electionpb_CampaignRequest.self,
      V3electionpb_CampaignResponse.self),
    route(
      "election/proclaim", .proclaim, V3electionpb_ProclaimRequest.self,
      V3electionpb_ProclaimResponse.self),
    route(
      "election/leader", .leader, V3electionpb_LeaderRequest.self, V3electionpb_LeaderResponse.self),
    route(
      "election/observe", .observe, V3electionpb_LeaderRequest.self,
      V3electionpb_LeaderResponse.self),
    route(
      "election/resign", .resign, V3electionpb_ResignRequest.self, V3electionpb_ResignResponse.self),
    route("lock/lock", .lock, V3lockpb_LockRequest.self, V3lockpb_LockResponse.self),
    route("lock/unlock", .unlock, V3lockpb_UnlockRequest.self, V3lockpb_UnlockResponse.self),
  ]
}
