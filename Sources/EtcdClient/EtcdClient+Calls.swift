// The unary calls.

public import EtcdAPI

extension EtcdClient {
  // MARK: Keys

  public func range(
    _ request: Etcdserverpb_RangeRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_RangeResponse {
    try await unary(.range, request, options)
  }

  public func put(
    _ request: Etcdserverpb_PutRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_PutResponse {
    try await unary(.put, request, options)
  }

  public func deleteRange(
    _ request: Etcdserverpb_DeleteRangeRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_DeleteRangeResponse {
    try await unary(.deleteRange, request, options)
  }

  public func txn(
    _ request: Etcdserverpb_TxnRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_TxnResponse {
    try await unary(.txn, request, options)
  }

  public func compact(
    _ request: Etcdserverpb_CompactionRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_CompactionResponse {
    try await unary(.compact, request, options)
  }

  // MARK: Leases

  public func leaseGrant(
    _ request: Etcdserverpb_LeaseGrantRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_LeaseGrantResponse {
    try await unary(.leaseGrant, request, options)
  }

  public func leaseRevoke(
    _ request: Etcdserverpb_LeaseRevokeRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_LeaseRevokeResponse {
    try await unary(.leaseRevoke, request, options)
  }

  public func leaseTimeToLive(
    _ request: Etcdserverpb_LeaseTimeToLiveRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_LeaseTimeToLiveResponse {
    try await unary(.leaseTimeToLive, request, options)
  }

  public func leaseLeases(
    _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_LeaseLeasesResponse {
    try await unary(.leaseLeases, Etcdserverpb_LeaseLeasesRequest(), options)
  }

  // MARK: Members

  /// - Parameter linearizable: confirm with a quorum; false asks for the member's own knowledge.
  public func memberList(
    linearizable: Bool = true, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_MemberListResponse {
    var request = Etcdserverpb_MemberListRequest()
    request.linearizable = linearizable
    return try await unary(.memberList, request, options)
  }

  public func memberAdd(
    _ request: Etcdserverpb_MemberAddRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_MemberAddResponse {
    try await unary(.memberAdd, request, options)
  }

  public func memberRemove(
    _ request: Etcdserverpb_MemberRemoveRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_MemberRemoveResponse {
    try await unary(.memberRemove, request, options)
  }

  public func memberUpdate(
    _ request: Etcdserverpb_MemberUpdateRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_MemberUpdateResponse {
    try await unary(.memberUpdate, request, options)
  }

  public func memberPromote(
    _ request: Etcdserverpb_MemberPromoteRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_MemberPromoteResponse {
    try await unary(.memberPromote, request, options)
  }

  // MARK: Maintenance

  public func status(
    endpoint: Endpoint, timeout: CallOptions.Timeout = .standard
  ) async throws(EtcdClientError) -> Etcdserverpb_StatusResponse {
    let options = CallOptions(timeout: timeout, endpoint: endpoint)
    return try await unary(.status, Etcdserverpb_StatusRequest(), options)
  }

  public func alarm(
    _ request: Etcdserverpb_AlarmRequest, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_AlarmResponse {
    try await unary(.alarm, request, options)
  }

  /// - Parameter revision: 0 for the current one.
  public func hashKV(
    endpoint: Endpoint, revision: Int64 = 0, timeout: CallOptions.Timeout = .standard
  ) async throws(EtcdClientError) -> Etcdserverpb_HashKVResponse {
    var request = Etcdserverpb_HashKVRequest()
    request.revision = revision
    let options = CallOptions(timeout: timeout, endpoint: endpoint)
    return try await unary(.hashKV, request, options)
  }

  public func defragment(
    endpoint: Endpoint, timeout: CallOptions.Timeout = .standard
  ) async throws(EtcdClientError) -> Etcdserverpb_DefragmentResponse {
    let options = CallOptions(timeout: timeout, endpoint: endpoint)
    return try await unary(.defragment, Etcdserverpb_DefragmentRequest(), options)
  }

  /// Must go to the leader: name its endpoint in `options`.
  public func moveLeader(
    to target: UInt64, _ options: CallOptions = CallOptions()
  ) async throws(EtcdClientError) -> Etcdserverpb_MoveLeaderResponse {
    var request = Etcdserverpb_MoveLeaderRequest()
    request.targetID = target
    return try await unary(.moveLeader, request, options)
  }
}
