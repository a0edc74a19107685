import Base
import EtcdAPI
import RaftActor
import SwiftProtobuf

/// Users and roles: the requests that change them, and who may do what at apply.
extension StateMachine {
  /// Applies a request of the Auth service. What only reads has an answer and no effect.
  mutating func applyAuth(
    _ kind: InternalRequestEnvelope.Kind, _ body: Bytes, _ caller: AuthCaller, _ index: LogIndex,
    output: inout ApplyOutput
  ) throws -> Bytes {
    switch kind {
    case .authenticate: return try applyAuthenticate(body, index, output: &output)
    case .authStatus:
      return try Etcdserverpb_AuthStatusResponse.with {
        $0.header = header()
        $0.enabled = auth.isEnabled
        $0.authRevision = auth.revision
      }.serializedBytes()
    case .authUserGet: return try userGet(body, caller)
    case .authRoleGet: return try roleGet(body, caller)
    default: break
    }
    try auth.checkAdmin(caller)
    output.authChanged = true
    switch kind {
    case .authEnable:
      try auth.enable(&output.writes)
      return try Etcdserverpb_AuthEnableResponse.with { $0.header = header() }.serializedBytes()
    case .authDisable:
      if auth.disable(&output.writes) { output.tokenEvent = .disabled }
      return try Etcdserverpb_AuthDisableResponse.with { $0.header = header() }.serializedBytes()
    case .authUserAdd, .authUserDelete, .authUserChangePassword, .authUserGrantRole,
      .authUserRevokeRole, .authUserList:
      return try applyUserRequest(kind, body, index, output: &output)
    default: return try applyRoleRequest(kind, body, output: &output)
    }
  }

  private mutating func applyAuthenticate(
    _ body: Bytes, _ index: LogIndex, output: inout ApplyOutput
  ) throws -> Bytes {
    let request = try Etcdserverpb_InternalAuthenticateRequest(serializedBytes: body)
    guard auth.isEnabled else { throw EtcdError.authNotEnabled }
    // The password itself was checked before the request was proposed.
    guard auth.hasPassword(request.name) else { throw EtcdError.authFailed }
    if !request.simpleToken.isEmpty {
      output.authChanged = true
      output.tokenEvent = .assigned(
        letters: request.simpleToken, index: index, user: request.name)
    }
    return try Etcdserverpb_AuthenticateResponse.with {
      $0.header = header()
      // Which number follows is for the member to decide that answers.
      $0.token = "\(request.simpleToken).\(index)"
    }.serializedBytes()
  }

  private func userGet(_ body: Bytes, _ caller: AuthCaller) throws -> Bytes {
    let request = try Etcdserverpb_AuthUserGetRequest(serializedBytes: body)
    if AuthName(request.name) != AuthName(caller.username) { try auth.checkAdmin(caller) }
    let roles = try auth.roles(ofUser: request.name)
    return try Etcdserverpb_AuthUserGetResponse.with {
      $0.header = header()
      $0.roles = roles
    }.serializedBytes()
  }

  private func roleGet(_ body: Bytes, _ caller: AuthCaller) throws -> Bytes {
    let request = try Etcdserverpb_AuthRoleGetRequest(serializedBytes: body)
    if !auth.hasRole(caller, request.role) { try auth.checkAdmin(caller) }
    let permissions = try auth.permissions(ofRole: request.role)
    return try Etcdserverpb_AuthRoleGetResponse.with {
      $0.header = header()
      $0.perm = permissions
    }.serializedBytes()
  }

  private mutating func applyUserRequest(
    _ kind: InternalRequestEnvelope.Kind, _ body: Bytes, _ index: LogIndex,
    output: inout ApplyOutput
  ) throws -> Bytes {
    let hash = Self.lateHash(index, appliedTerm)
    switch kind {
    case .authUserAdd:
      let request = try Etcdserverpb_AuthUserAddRequest(serializedBytes: body)
      try auth.addUser(request, hash: hash, &output.writes)
      return try Etcdserverpb_AuthUserAddResponse.with { $0.header = header() }.serializedBytes()
    case .authUserDelete:
      let name = try Etcdserverpb_AuthUserDeleteRequest(serializedBytes: body).name
      try auth.deleteUser(name, &output.writes)
      output.tokenEvent = .userChanged(name)
      return try Etcdserverpb_AuthUserDeleteResponse.with { $0.header = header() }
        .serializedBytes()
    case .authUserChangePassword:
      let request = try Etcdserverpb_AuthUserChangePasswordRequest(serializedBytes: body)
      try auth.changePassword(request, hash: hash, &output.writes)
      output.tokenEvent = .userChanged(request.name)
      return try Etcdserverpb_AuthUserChangePasswordResponse.with { $0.header = header() }
        .serializedBytes()
    case .authUserGrantRole:
      let request = try Etcdserverpb_AuthUserGrantRoleRequest(serializedBytes: body)
      try auth.grantRole(request.role, toUser: request.user, &output.writes)
      return try Etcdserverpb_AuthUserGrantRoleResponse.with { $0.header = header() }
        .serializedBytes()
    case .authUserRevokeRole:
      let request = try Etcdserverpb_AuthUserRevokeRoleRequest(serializedBytes: body)
      try auth.revokeRole(request.role, fromUser: request.name, &output.writes)
      return try Etcdserverpb_AuthUserRevokeRoleResponse.with { $0.header = header() }
        .serializedBytes()
    default:
      return try Etcdserverpb_AuthUserListResponse.with {
        $0.header = header()
        $0.users = auth.userNames
      }.serializedBytes()
    }
  }

  /// The hash of a password that is in the log in clear, as members of etcd 3.4 put it there and leave
  /// it to everybody to hash it with a salt of his own. Ours comes from the entry's position: it has to
  /// be unlike others, not secret.
  private static func lateHash(_ index: LogIndex, _ term: Term) -> (String) -> Bytes? {
    { password in
      let position = index.bigEndianBytes + term.bigEndianBytes
      let salt = position.withUnsafeBytes { SHA256Stream.hash($0) }.prefix(Bcrypt.saltByteCount)
      return Bcrypt.hash(password, cost: Bcrypt.defaultCost, salt: Bytes(salt))
    }
  }

  private mutating func applyRoleRequest(
    _ kind: InternalRequestEnvelope.Kind, _ body: Bytes, output: inout ApplyOutput
  ) throws -> Bytes {
    switch kind {
    case .authRoleAdd:
      let name = try Etcdserverpb_AuthRoleAddRequest(serializedBytes: body).name
      try auth.addRole(name, &output.writes)
      return try Etcdserverpb_AuthRoleAddResponse.with { $0.header = header() }.serializedBytes()
    case .authRoleDelete:
      let name = try Etcdserverpb_AuthRoleDeleteRequest(serializedBytes: body).role
      try auth.deleteRole(name, &output.writes)
      return try Etcdserverpb_AuthRoleDeleteResponse.with { $0.header = header() }
        .serializedBytes()
    case .authRoleGrantPermission:
      let request = try Etcdserverpb_AuthRoleGrantPermissionRequest(serializedBytes: body)
      try auth.grantPermission(
        request, checksRange: membership.authRules == .complete, &output.writes)
      return try Etcdserverpb_AuthRoleGrantPermissionResponse.with { $0.header = header() }
        .serializedBytes()
    case .authRoleRevokePermission:
      let request = try Etcdserverpb_AuthRoleRevokePermissionRequest(serializedBytes: body)
      try auth.revokePermission(request, &output.writes)
      return try Etcdserverpb_AuthRoleRevokePermissionResponse.with { $0.header = header() }
        .serializedBytes()
    case .authRoleList:
      return try Etcdserverpb_AuthRoleListResponse.with {
        $0.header = header()
        $0.roles = auth.roleNames
      }.serializedBytes()
    default: preconditionFailure("\(kind) is no request about roles")
    }
  }
}
