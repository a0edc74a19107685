import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

extension ClientGateway {
  // MARK: - Members and leadership

  func replyMembers(_ handle: CallHandle) {
    let response = Etcdserverpb_MemberListResponse.with {
      $0.header = clusterHeader()
      $0.members = listedMembers()
    }
    do {
      try reply(handle, response)
    } catch {
      fail(handle, EtcdError(.internal, "\(error)"))
    }
  }

  func moveLeader(_ handle: CallHandle, to target: MemberID) {
    guard softState.leader == settings.member else { return fail(handle, .notLeader) }
    guard let member = storeStatus.membership[id: target], !member.isLearner else {
      return fail(handle, .badLeaderTransferee)
    }
    guard target != settings.member else { return reply(handle, []) }
    let now = executor.now
    let deadline = min(handle.call.deadline ?? .max, now + settings.requestTimeout)
    transfers.append((target, handle, deadline))
    outlets.raft.send(.transferLeader(to: target))
  }

  func finishTransfers(now: UInt64) {
    guard !transfers.isEmpty else { return }
    transfers.removeAll { transfer in
      if softState.leader == transfer.target {
        reply(transfer.call, [])
        return true
      }
      guard transfer.deadline <= now else { return false }
      fail(transfer.call, .leaderTransferTimeout)
      return true
    }
  }

  func softStateChanged(_ state: RaftCore.SoftState) {
    let hadLeader = softState.leader
    softState = state
    guard state.leader != hadLeader else { return }
    electedAt = state.leader == settings.member ? executor.now : nil
    if state.leader != 0 {
      metrics.server.leaderChangesSeen.increment()
      let now = executor.now
      // Reads that were asked of the old leader are asked of the new one, under a new id.
      if reads.wantsRetry(now: now, leaderChanged: true) { askAgain(now: now) }
      finishTransfers(now: now)
      offerChanges(now: now)
      for (id, stream) in keepAlives where stream.retryAt != nil { keepAlives[id]?.retryAt = now }
      retryKeepAlives(now: now)
    }
  }

  // MARK: - Maintenance

  func status() -> Etcdserverpb_StatusResponse {
    refreshStatus()
    return .with {
      $0.header = header()
      $0.version = ProductVersion.etcd
      $0.dbSize = storeStatus.sizeBytes
      $0.dbSizeInUse = storeStatus.sizeInUseBytes
      $0.dbSizeQuota = settings.reportedQuota
      $0.leader = softState.leader
      $0.raftIndex = raftStatus.commit
      $0.raftTerm = raftStatus.term
      $0.raftAppliedIndex = storeStatus.applied
      $0.isLearner = isLearner
      $0.storageVersion = ProductVersion.etcdMinor
      $0.downgradeInfo = .with {
        guard let downgrade = storeStatus.membership.downgrade else { return }
        $0.enabled = downgrade.isEnabled
        $0.targetVersion = downgrade.targetVersion
      }
      if softState.leader == 0 { $0.errors.append(EtcdError.noLeader.message) }
      $0.errors += storeStatus.alarms.map { "memberID:\($0.member) alarm:\($0.kind.name) " }
    }
  }

  /// Hands work to the store that takes as long as it takes.
  @discardableResult
  func storeOperation(
    _ handle: CallHandle, waiter: Waiter? = nil, _ input: (UInt64) -> StoreInput
  ) -> UInt64 {
    let id = ids.next()
    waiters.add(id, waiter ?? .call(handle), now: executor.now, deadline: nil)
    outlets.store.send(input(id))
    return id
  }

  func snapshotExported(_ id: UInt64, _ result: Result<String, BackendError>) {
    guard case .snapshot? = waiters[id] else {
      // The client has gone meanwhile.
      if case .success(let path) = result {
        outlets.streamer.send(.open(id: id, path: path))
        outlets.streamer.send(.close(id: id))
      }
      return
    }
    switch result {
    case .failure(let error): fail(id, EtcdError(.unknown, "\(error)"))
    case .success(let path):
      outlets.streamer.send(.open(id: id, path: path))
      outlets.streamer.send(.next(id: id))
    }
  }

  /// Sends pieces of the store's file; the next ones are read when these are nearly out.
  func sendChunks(_ id: UInt64, _ chunks: [Bytes], isLast: Bool) {
    guard case .snapshot(let handle)? = waiters[id], !handle.call.isCancelled else { return }
    for chunk in chunks { handle.call.send(message: chunk) }
    handle.connection.touch()
    if isLast {
      _ = waiters.take(id)
      finish(handle, .ok)
    } else if handle.call.queuedBytes < sessionConfiguration.writableLowBytes {
      outlets.streamer.send(.next(id: id))
    }
  }

  func snapshotWritable(_ id: UInt64) {
    guard waiters[id] != nil else { return }
    outlets.streamer.send(.next(id: id))
  }

  func abandonSnapshot(_ id: UInt64) {
    _ = waiters.take(id)
    outlets.streamer.send(.close(id: id))
  }

  // MARK: - Health

  func health(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    if handle.method == .healthList {
      return try reply(
        handle,
        Grpc_Health_V1_HealthListResponse.with {
          $0.statuses[""] = .with { $0.status = .serving }
        })
    }
    let service = try Grpc_Health_V1_HealthCheckRequest(copying: message).service
    let status: Grpc_Health_V1_HealthCheckResponse.ServingStatus =
      service.isEmpty ? .serving : .serviceUnknown
    if handle.method == .healthCheck {
      guard service.isEmpty else { throw EtcdError(.notFound, "unknown service") }
      return try reply(handle, Grpc_Health_V1_HealthCheckResponse.with { $0.status = status })
    }
    let response = Grpc_Health_V1_HealthCheckResponse.with { $0.status = status }
    handle.call.send(message: try response.serializedBytes())
    handle.connection.touch()
  }
}

extension Etcdserverpb_AlarmType {
  /// The name in etcd's messages.
  var name: String {
    switch self {
    case .none: "NONE"
    case .nospace: "NOSPACE"
    case .corrupt: "CORRUPT"
    case .UNRECOGNIZED(let number): "\(number)"
    }
  }
}
