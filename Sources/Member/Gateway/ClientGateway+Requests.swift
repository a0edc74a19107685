import Actors
import Base
import EtcdAPI
import FoundationEssentials
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

extension ClientGateway {
  /// Sees to one request message.
  func dispatch(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    if storeStatus.auth.isEnabled { try admit(handle) }
    switch handle.method {
    case .put: try put(handle, message)
    case .range:
      let bytes = Bytes(message)
      let request = try Etcdserverpb_RangeRequest(serializedBytes: bytes)
      remember(bytes, of: handle)
      try RequestValidation.validate(request)
      let id: UInt64
      if request.serializable {
        // However long the range, it is the caller's deadline that counts.
        id = readNow(
          .range(request), .call(handle), caller: try caller(of: handle), neverExpires: true)
      } else if isLearner {
        throw EtcdError.learnerUnsupported
      } else {
        id = readLinearizable(.range(request), .call(handle), caller: try caller(of: handle))
      }
      if !request.rangeEnd.isEmpty { (handle.call.userData as? CallBox)?.longRead = id }
    case .rangeStream: try rangeStream(handle, message)
    case .deleteRange:
      let request = try Etcdserverpb_DeleteRangeRequest(copying: message)
      try RequestValidation.validate(request)
      try propose(
        .deleteRange, Bytes(message), .call(handle), caller: try caller(of: handle))
    case .txn: try txn(handle, message)
    case .compact:
      _ = try Etcdserverpb_CompactionRequest(copying: message)
      try propose(.compaction, Bytes(message), .call(handle), caller: try caller(of: handle))
    case .watch: try watch(handle, try Etcdserverpb_WatchRequest(copying: message))
    case .leaseGrant: try leaseGrant(handle, message)
    case .leaseRevoke:
      _ = try Etcdserverpb_LeaseRevokeRequest(copying: message)
      try propose(
        .leaseRevoke, Bytes(message), .call(handle), caller: try caller(of: handle))
    case .leaseKeepAlive:
      keepAlive(handle, try Etcdserverpb_LeaseKeepAliveRequest(copying: message).id)
    case .leaseTimeToLive: try leaseTimeToLive(handle, message)
    case .leaseLeases: readNow(.leases, .call(handle), caller: try caller(of: handle))
    case .memberAdd: try memberAdd(handle, message)
    case .memberRemove: try memberRemove(handle, message)
    case .memberUpdate: try memberUpdate(handle, message)
    case .memberPromote: try memberPromote(handle, message)
    case .memberList:
      let request = try Etcdserverpb_MemberListRequest(copying: message)
      if request.linearizable {
        readLinearizable(.nothing, .memberList(handle))
      } else {
        replyMembers(handle)
      }
    case .alarm:
      let isQuestion = try Etcdserverpb_AlarmRequest(copying: message).action == .get
      if isQuestion { try requireUser(handle) } else { try requireRoot(handle) }
      try propose(.alarm, Bytes(message), .call(handle), caller: try caller(of: handle))
    case .status: try reply(handle, status())
    case .defragment: storeOperation(handle) { .defragment(id: $0) }
    case .hash: storeOperation(handle) { .hash(id: $0) }
    case .hashKV:
      let request = try Etcdserverpb_HashKVRequest(copying: message)
      readNow(.hashKV(revision: request.revision), .call(handle), neverExpires: true)
    case .snapshot:
      (handle.call.userData as? CallBox)?.snapshot = storeOperation(
        handle, waiter: .snapshot(handle)
      ) { .exportSnapshot(id: $0) }
    case .moveLeader:
      moveLeader(handle, to: try Etcdserverpb_MoveLeaderRequest(copying: message).targetID)
    case .downgrade: try downgrade(handle, message)
    case .campaign, .proclaim, .leader, .observe, .resign, .lock, .unlock:
      try startConcurrency(handle, message)
    case .healthCheck, .healthWatch, .healthList: try health(handle, message)
    case .authEnable, .authDisable, .authStatus, .authenticate, .userAdd, .userGet, .userList,
      .userDelete, .userChangePassword, .userGrantRole, .userRevokeRole, .roleAdd, .roleGet,
      .roleList, .roleDelete, .roleGrantPermission, .roleRevokePermission:
      try authCall(handle, message)
    }
  }

  var isLearner: Bool { storeStatus.membership[id: settings.member]?.isLearner ?? false }

  // MARK: - Reads

  /// Reads this member's own state, without asking anybody.
  @discardableResult
  func readNow(
    _ kind: StoreRead.Kind, _ waiter: Waiter, caller: AuthCaller? = nil,
    neverExpires: Bool = false
  ) -> UInt64 {
    let id = ids.next()
    let now = turnBegan
    waiters.add(
      id, waiter, now: now, deadline: neverExpires ? nil : now + settings.requestTimeout)
    storeReads.append(StoreRead(id: id, kind: kind, caller: caller))
    return id
  }

  /// Reads what this leader knows of leases, once it has applied what is committed.
  func readLease(_ kind: StoreRead.Kind, _ waiter: Waiter, caller: AuthCaller? = nil) {
    let id = ids.next()
    let now = executor.now
    waiters.add(id, waiter, now: now, deadline: now + settings.requestTimeout)
    leaseReads.append(StoreRead(id: id, kind: kind, caller: caller))
  }

  /// Reads once this member has everything that the cluster had decided when the call arrived.
  @discardableResult
  func readLinearizable(
    _ kind: StoreRead.Kind, _ waiter: Waiter, caller: AuthCaller? = nil
  ) -> UInt64 {
    let id = ids.next()
    let now = turnBegan
    // The round has a time limit of its own; a long range may take longer than that.
    waiters.add(id, waiter, now: now, deadline: nil)
    reads.add(StoreRead(id: id, kind: kind, caller: caller), now: now)
    return id
  }

  func confirmed(_ state: RaftCore.ReadState) {
    let id = state.context.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    stall.confirmed(id: id)
    let ready = reads.confirmed(id: id)
    if !ready.isEmpty { read(ready, atLeast: state.index) }
  }

  /// A few reads of one key each are served on this thread if the store is idle.
  func read(_ reads: [StoreRead], atLeast index: LogIndex) {
    if reads.count <= Self.readsServedHereMax, reads.allSatisfy(\.isBrief) {
      outlets.store.sendRunningHere(.read(reads, atLeast: index))
    } else {
      outlets.store.send(.read(reads, atLeast: index))
    }
  }

  private func rangeStream(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_RangeRequest(copying: message)
    try RequestValidation.validate(request)
    guard request.sortOrder != .descend else {
      throw EtcdError(.unimplemented, "RangeStream does not support custom sort orders")
    }
    guard request.sortOrder == .none || request.sortTarget == .key else {
      throw EtcdError(.unimplemented, "RangeStream does not support custom sort orders")
    }
    guard !RangeCursor.hasFilter(request) else {
      throw EtcdError(.unimplemented, "RangeStream does not support revision filters")
    }
    var plain = request
    plain.sortTarget = .key
    let caller = try caller(of: handle)
    (handle.call.userData as? CallBox)?.rangeStream =
      request.serializable
      ? readNow(.rangeStream(plain), .parts(handle), caller: caller, neverExpires: true)
      : readLinearizable(.rangeStream(plain), .parts(handle), caller: caller)
  }

  // MARK: - Writes

  private func put(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try PutFields(parsing: message)
    guard hasSpace(for: Int64(QuotaCost.bytes(request))) else { return refuseForSpace(handle) }
    try request.validate()
    try propose(.put, message, handle, try caller(of: handle))
  }

  private func txn(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_TxnRequest(decoding: message)
    guard hasSpace(for: Int64(QuotaCost.bytes(request))) else { return refuseForSpace(handle) }
    try RequestValidation.validate(request, maxOps: settings.maxTxnOps)
    let caller = try caller(of: handle)
    guard TxnRules.isReadOnly(request) else {
      try checkTxn(request, caller)
      return try propose(.txn, message, handle, caller)
    }
    remember(Bytes(message), of: handle)
    if TxnRules.isSerializable(request) {
      readNow(.txn(request), .call(handle), caller: caller, neverExpires: true)
    } else {
      readLinearizable(.txn(request), .call(handle), caller: caller)
    }
  }

  private func leaseGrant(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    var request = try Etcdserverpb_LeaseGrantRequest(copying: message)
    guard hasSpace(for: Int64(QuotaCost.leaseGrantBytes)) else { return refuseForSpace(handle) }
    try requireUser(handle)
    if request.id == 0 { request.id = ids.nextLeaseID() }
    try propose(
      .leaseGrant, try request.serializedBytes(), .call(handle), caller: try caller(of: handle))
  }

  /// Puts a request into the log, with etcd's refusals: backlog, then size.
  func propose(
    _ kind: InternalRequestEnvelope.Kind, _ payload: Bytes, _ waiter: Waiter,
    caller: AuthCaller = .anonymous, neverExpires: Bool = false
  ) throws(EtcdError) {
    try refuseBacklog()
    let id = ids.next()
    let entry = InternalRequestEnvelope.wrap(
      kind, payload: payload, requestID: id, username: caller.username,
      authRevision: caller.revision)
    try propose(entry: entry, id, waiter, neverExpires: neverExpires)
  }

  /// The same for what is proposed most: straight from the connection's buffer into the entry.
  private func propose(
    _ kind: InternalRequestEnvelope.Kind, _ message: UnsafeRawBufferPointer, _ handle: CallHandle,
    _ caller: AuthCaller
  ) throws(EtcdError) {
    try refuseBacklog()
    let id = ids.next()
    let entry = InternalRequestEnvelope.wrap(
      field: kind.rawValue, payload: message, requestID: id, username: caller.username,
      authRevision: caller.revision)
    remember(entry: entry, of: handle)
    try propose(entry: entry, id, .call(handle))
  }

  private func refuseBacklog() throws(EtcdError) {
    guard !applyLag.refuses(commit: raftStatus.commit, applied: storeStatus.applied),
      waiters.writes < Self.pendingWritesMax, waiters.writeBytes < Self.pendingBytesMax
    else { throw .tooManyRequests }
  }

  private func propose(
    entry: Bytes, _ id: UInt64, _ waiter: Waiter, neverExpires: Bool = false
  ) throws(EtcdError) {
    guard entry.count <= settings.maxRequestBytes else { throw .requestTooLarge }
    let now = turnBegan
    waiters.add(
      id, waiter, bytes: entry.count, isWrite: true, now: now,
      deadline: neverExpires ? nil : now + settings.requestTimeout)
    proposals.ids.append(id)
    proposals.payloads.append(entry)
  }

  /// Proposes what the member itself has to say. `done` is called on the loop.
  func proposeOwn(
    _ kind: InternalRequestEnvelope.Kind, _ payload: Bytes,
    _ done: @escaping @Sendable (StoreOutcome) -> Void
  ) {
    do throws(EtcdError) {
      try propose(kind, payload, .own(done))
    } catch {
      done(.failure(error))
    }
  }

  /// The same in the form that etcd before 3.6 uses for its own matters.
  func proposeLegacy(
    _ request: LegacyRequest, _ done: @escaping @Sendable (StoreOutcome) -> Void
  ) {
    var request = request
    request.id = ids.next()
    let now = executor.now
    waiters.add(
      request.id, .own(done), isWrite: true, now: now, deadline: now + settings.requestTimeout)
    proposals.ids.append(request.id)
    proposals.payloads.append(request.encoded())
  }

  func proposalsDropped(_ ids: [UInt64], _ reason: RaftCore.DropReason) {
    for id in ids where !isDeferredChange(id, reason) {
      metrics.server.proposalsFailed.increment()
      switch reason {
      case .overloaded: fail(id, .tooManyRequests)
      case .noLeader, .transferInProgress, .notMember: fail(id, .timeout)
      }
    }
  }

  // MARK: - Space

  func hasSpace(for cost: Int64) -> Bool {
    guard cost > 0, let quota = settings.quotaBytes else { return true }
    return storeStatus.sizeBytes + Int64(waiters.writeBytes) + cost < quota
  }

  /// The caller is told once this member's alarm is raised, which the quota monitor sees to.
  private func refuseForSpace(_ handle: CallHandle) {
    alarmWaiters.append(handle)
    outlets.quotaExceeded()
  }

  /// The alarm is in force, or could not be raised; the quota is exceeded either way.
  func spaceAlarmSettled() {
    let waiting = alarmWaiters
    alarmWaiters = []
    for handle in waiting { fail(handle, .noSpace) }
    concurrencyAlarmSettled()
  }

  func header() -> Etcdserverpb_ResponseHeader {
    .with {
      $0.clusterID = settings.cluster
      $0.memberID = settings.member
      $0.revision = storeStatus.revision
      $0.raftTerm = storeStatus.appliedTerm
    }
  }
}

extension SwiftProtobuf.Message {
  /// Decodes a message that the session lends for the length of the call.
  init(copying message: UnsafeRawBufferPointer) throws {
    try self.init(serializedBytes: Bytes(message))
  }
}
