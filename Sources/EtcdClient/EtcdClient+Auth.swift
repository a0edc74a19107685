// Users, roles and logins.

public import EtcdAPI
import SwiftProtobuf

extension EtcdClient {
  /// Logs in with the client's name and password, if it has one. Calls do so by themselves when a
  /// member asks; this tells early whether the password is right.
  public func logIn(timeout: Duration) async throws(EtcdClientError) {
    let deadline = deadline(.after(timeout))
    let core = self.core
    let failure: EtcdClientError? = await withCheckedContinuation { continuation in
      let isAccepted = core.submit {
        core.pool.tokens.logIn(with: core.pool, deadline: deadline) {
          continuation.resume(returning: $0)
        }
      }
      if !isAccepted { continuation.resume(returning: .closed) }
    }
    if let failure { throw failure }
  }

  /// Asks for a token, for callers that make calls of their own.
  public func authenticate(
    user: String, password: String, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthenticateResponse {
    var request = Etcdserverpb_AuthenticateRequest()
    request.name = user
    request.password = password
    return try await unary(.authenticate, request, options)
  }

  public func authEnable(
    _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthEnableResponse {
    try await unary(.authEnable, Etcdserverpb_AuthEnableRequest(), options)
  }

  public func authDisable(
    _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthDisableResponse {
    try await unary(.authDisable, Etcdserverpb_AuthDisableRequest(), options)
  }

  public func authStatus(
    _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthStatusResponse {
    try await unary(.authStatus, Etcdserverpb_AuthStatusRequest(), options)
  }

  // MARK: Users

  public func userAdd(
    _ request: Etcdserverpb_AuthUserAddRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthUserAddResponse {
    try await unary(.userAdd, request, options)
  }

  public func userGet(
    _ name: String, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthUserGetResponse {
    try await unary(.userGet, Etcdserverpb_AuthUserGetRequest.with { $0.name = name }, options)
  }

  public func userList(
    _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthUserListResponse {
    try await unary(.userList, Etcdserverpb_AuthUserListRequest(), options)
  }

  public func userDelete(
    _ name: String, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthUserDeleteResponse {
    try await unary(
      .userDelete, Etcdserverpb_AuthUserDeleteRequest.with { $0.name = name }, options)
  }

  public func userChangePassword(
    _ request: Etcdserverpb_AuthUserChangePasswordRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthUserChangePasswordResponse {
    try await unary(.userChangePassword, request, options)
  }

  public func userGrantRole(
    user: String, role: String, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthUserGrantRoleResponse {
    var request = Etcdserverpb_AuthUserGrantRoleRequest()
    request.user = user
    request.role = role
    return try await unary(.userGrantRole, request, options)
  }

  public func userRevokeRole(
    user: String, role: String, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthUserRevokeRoleResponse {
    var request = Etcdserverpb_AuthUserRevokeRoleRequest()
    request.name = user
    request.role = role
    return try await unary(.userRevokeRole, request, options)
  }

  // MARK: Roles

  public func roleAdd(
    _ name: String, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthRoleAddResponse {
    try await unary(.roleAdd, Etcdserverpb_AuthRoleAddRequest.with { $0.name = name }, options)
  }

  public func roleGet(
    _ name: String, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthRoleGetResponse {
    try await unary(.roleGet, Etcdserverpb_AuthRoleGetRequest.with { $0.role = name }, options)
  }

  public func roleList(
    _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthRoleListResponse {
    try await unary(.roleList, Etcdserverpb_AuthRoleListRequest(), options)
  }

  public func roleDelete(
    _ name: String, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthRoleDeleteResponse {
    try await unary(
      .roleDelete, Etcdserverpb_AuthRoleDeleteRequest.with { $0.role = name }, options)
  }

  public func roleGrantPermission(
    _ request: Etcdserverpb_AuthRoleGrantPermissionRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthRoleGrantPermissionResponse {
    try await unary(.roleGrantPermission, request, options)
  }

  public func roleRevokePermission(
    _ request: Etcdserverpb_AuthRoleRevokePermissionRequest,
    _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AuthRoleRevokePermissionResponse {
    try await unary(.roleRevokePermission, request, options)
  }
}
