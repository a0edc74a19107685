import Base
import EtcdAPI
import FoundationEssentials
import RaftActor
import SwiftProtobuf
import Testing

@testable import StoreActor

extension Applier {
  /// As somebody who is up to date.
  func caller(_ name: String) -> AuthCaller {
    AuthCaller(username: name, revision: machine.auth.revision)
  }

  mutating func change(
    _ kind: InternalRequestEnvelope.Kind, _ message: some SwiftProtobuf.Message
  ) throws {
    try apply(kind, message, by: caller("root"))
    if let failure { throw failure }
  }

  /// Root, and `app`, who may read and write `a`..`c` and only write `w`.
  static func withUsers() throws -> Applier {
    var applier = Applier()
    for user in ["root", "app"] {
      try applier.change(.authUserAdd, Etcdserverpb_AuthUserAddRequest.with { $0.name = user })
    }
    try applier.change(.authRoleAdd, Etcdserverpb_AuthRoleAddRequest.with { $0.name = "r" })
    for (role, user) in [("root", "root"), ("r", "app")] {
      try applier.change(
        .authUserGrantRole,
        Etcdserverpb_AuthUserGrantRoleRequest.with {
          $0.user = user
          $0.role = role
        })
    }
    for (type, key, end) in [(Authpb_Permission.TypeEnum.readwrite, "a", "c"), (.write, "w", "")] {
      try applier.change(
        .authRoleGrantPermission,
        Etcdserverpb_AuthRoleGrantPermissionRequest.with {
          $0.name = "r"
          $0.perm.permType = type
          $0.perm.key = Data(key.utf8)
          $0.perm.rangeEnd = Data(end.utf8)
        })
    }
    try applier.change(.authEnable, Etcdserverpb_AuthEnableRequest())
    return applier
  }

  mutating func refusal(
    _ kind: InternalRequestEnvelope.Kind, _ message: some SwiftProtobuf.Message,
    by name: String = "app"
  ) throws -> EtcdError? {
    try apply(kind, message, by: caller(name))
    return failure
  }
}

private func put(
  _ key: String, lease: Int64 = 0, prevKV: Bool = false
) -> Etcdserverpb_PutRequest {
  .with {
    $0.key = Data(key.utf8)
    $0.lease = lease
    $0.prevKv = prevKV
  }
}

private func txn(_ operations: Etcdserverpb_RequestOp...) -> Etcdserverpb_TxnRequest {
  .with { $0.success = operations }
}

@Suite struct StateMachineAuthTests {
  @Test func writesAreAllowedOrRefusedAtApply() throws {
    var applier = try Applier.withUsers()
    #expect(try applier.refusal(.put, put("a")) == nil)
    #expect(try applier.refusal(.put, put("z")) == .permissionDenied)
    #expect(try applier.refusal(.put, put("w")) == nil)
    #expect(try applier.refusal(.put, put("w", prevKV: true)) == .permissionDenied)
    #expect(try applier.refusal(.put, put("z"), by: "root") == nil)
    #expect(try applier.refusal(.put, put("a"), by: "nobody") == .permissionDenied)
    try applier.apply(.put, put("a"))
    #expect(applier.failure == .userEmpty)
    let old = AuthCaller(username: "root", revision: applier.machine.auth.revision - 1)
    try applier.apply(.put, put("a"), by: old)
    #expect(applier.failure == .authRevisionOld)
    #expect(applier.machine.kv.currentRevision == 4)
    let delete = Etcdserverpb_DeleteRangeRequest.with {
      $0.key = Data("a".utf8)
      $0.rangeEnd = Data("d".utf8)
    }
    #expect(try applier.refusal(.deleteRange, delete) == .permissionDenied)
    #expect(try applier.refusal(.deleteRange, delete, by: "root") == nil)
  }

  @Test func aTransactionIsLookedAtInBothBranchesAndAtAnyDepth() throws {
    var applier = try Applier.withUsers()
    var branches = Etcdserverpb_TxnRequest()
    branches.failure = [.with { $0.requestPut = put("z") }]
    #expect(try applier.refusal(.txn, branches) == .permissionDenied)
    var compared = txn(.with { $0.requestPut = put("a") })
    compared.compare = [.with { $0.key = Data("w".utf8) }]
    #expect(try applier.refusal(.txn, compared) == .permissionDenied)
    let nested = txn(.with { $0.requestTxn = txn(.with { $0.requestPut = put("z") }) })
    #expect(try applier.refusal(.txn, nested) == .permissionDenied)
    let previous = txn(.with { $0.requestPut = put("w", prevKV: true) })
    #expect(try applier.refusal(.txn, previous) == .permissionDenied)
    #expect(applier.machine.kv.currentRevision == 1)
    // Beside older members, which do not look so far, all have to do the same.
    try applier.apply(
      .clusterVersionSet, Membershippb_ClusterVersionSetRequest.with { $0.ver = "3.5.0" })
    #expect(try applier.refusal(.txn, nested) == nil)
    #expect(try applier.refusal(.txn, previous) == nil)
    #expect(try applier.refusal(.txn, branches) == .permissionDenied)
    try applier.apply(
      .clusterVersionSet, Membershippb_ClusterVersionSetRequest.with { $0.ver = "3.7.0" })
    #expect(try applier.refusal(.txn, nested) == .permissionDenied)
  }

  @Test func aLeaseIsGuardedByTheKeysThatHangOnIt() throws {
    var applier = try Applier.withUsers()
    for lease: Int64 in [1, 2] {
      let grant = Etcdserverpb_LeaseGrantRequest.with {
        $0.id = lease
        $0.ttl = 60
      }
      #expect(try applier.refusal(.leaseGrant, grant) == nil)
    }
    #expect(try applier.refusal(.put, put("a", lease: 1)) == nil)
    #expect(try applier.refusal(.put, put("z", lease: 2), by: "root") == nil)
    // Who put a key of his under it could end it, and the other key with it.
    #expect(try applier.refusal(.put, put("a", lease: 2)) == .permissionDenied)
    func revoke(_ id: Int64) -> Etcdserverpb_LeaseRevokeRequest { .with { $0.id = id } }
    #expect(try applier.refusal(.leaseRevoke, revoke(2)) == .permissionDenied)
    #expect(try applier.refusal(.leaseRevoke, revoke(1)) == nil)
    #expect(try applier.refusal(.leaseRevoke, revoke(2), by: "root") == nil)
  }

  @Test func usersSeeThemselvesAndTheirRoles() throws {
    var applier = try Applier.withUsers()
    func user(_ name: String) -> Etcdserverpb_AuthUserGetRequest { .with { $0.name = name } }
    func role(_ name: String) -> Etcdserverpb_AuthRoleGetRequest { .with { $0.role = name } }
    #expect(try applier.refusal(.authUserGet, user("app")) == nil)
    #expect(try applier.message(Etcdserverpb_AuthUserGetResponse.self).roles == ["r"])
    #expect(try applier.refusal(.authUserGet, user("root")) == .permissionDenied)
    #expect(try applier.refusal(.authRoleGet, role("r")) == nil)
    #expect(try applier.message(Etcdserverpb_AuthRoleGetResponse.self).perm.count == 2)
    #expect(try applier.refusal(.authRoleGet, role("x")) == .permissionDenied)
    #expect(try applier.refusal(.authRoleGet, role("x"), by: "root") == .roleNotFound)
    #expect(
      try applier.refusal(.authUserList, Etcdserverpb_AuthUserListRequest()) == .permissionDenied)
    try applier.apply(.authStatus, Etcdserverpb_AuthStatusRequest())
    let status = try applier.message(Etcdserverpb_AuthStatusResponse.self)
    #expect(status.enabled && status.authRevision == applier.machine.auth.revision)
    #expect(status.header.memberID == Applier.member)
  }

  @Test func loginsAssignTokensOnEveryMember() throws {
    var applier = try Applier.withUsers()
    let login = Etcdserverpb_InternalAuthenticateRequest.with {
      $0.name = "app"
      $0.simpleToken = "letters"
    }
    // Another member's caller: the token is assigned here as well.
    try applier.apply(.authenticate, login, id: 0x9999_0000_0000_0001)
    #expect(
      applier.output.tokenEvent
        == .assigned(letters: "letters", index: applier.machine.applied, user: "app"))
    #expect(applier.output.authChanged)
    let unknown = Etcdserverpb_InternalAuthenticateRequest.with { $0.name = "x" }
    try applier.apply(.authenticate, unknown)
    #expect(applier.failure == .authFailed && applier.output.tokenEvent == nil)
    try applier.change(
      .authUserDelete, Etcdserverpb_AuthUserDeleteRequest.with { $0.name = "app" })
    #expect(applier.output.tokenEvent == .userChanged("app"))
    try applier.change(.authDisable, Etcdserverpb_AuthDisableRequest())
    #expect(applier.output.tokenEvent == .disabled)
    try applier.apply(.authenticate, login)
    #expect(applier.failure == .authNotEnabled)
  }

  @Test func aPasswordInTheLogIsHashedAlikeOnAllMembers() throws {
    var hashes: Set<Data> = []
    for _ in 0..<2 {
      var applier = Applier()
      try applier.apply(
        .authUserAdd,
        Etcdserverpb_AuthUserAddRequest.with {
          $0.name = "u"
          $0.password = "secret"
        })
      let hash = try #require(applier.machine.auth.users[AuthName("u")]?.record.password)
      #expect(Bcrypt.verify("secret", Bytes(hash)))
      hashes.insert(hash)
    }
    #expect(hashes.count == 1)
  }
}
