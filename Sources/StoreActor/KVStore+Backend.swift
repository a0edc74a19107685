import Actors
import Base
import EtcdAPI
import RaftActor
import SwiftProtobuf

extension KVStore {
  /// Seals the buffer for the BACKEND thread unless it is behind already.
  func sealIfIdle() {
    let buffers = machine.kv.store.buffers
    // Entries without effect move the index only: that is worth a commit now and then.
    let isDue =
      !buffers.isActiveEmpty || (machine.applied > sealedIndex && ticks > lastSealTick + 50)
    if isDue, committing.count < Self.commitsInFlight { seal() }
  }

  func seal() {
    // What is buffered beside an arriving snapshot is part of it, and older.
    guard installing == nil else { return }
    let sealed = machine.kv.store.buffers.seal(
      consistentIndex: machine.applied, term: machine.appliedTerm)
    sealedIndex = machine.applied
    lastSealTick = ticks
    committing.append(sealed)
    backendInbox.send(.commit(sealed))
  }

  func handle(_ report: BackendReport) {
    switch report {
    case .committed(let id, let index, let nanoseconds):
      committing.removeAll { $0.id <= id }
      guard installing == nil else { return }
      reading { () throws(BackendError) in
        try machine.kv.store.buffers.didCommit(through: id)
      }
      answerCommitted(through: id)
      outlets.measured(.commit(nanoseconds: nanoseconds))
      outlets.stored(index)
    case .failed(let error): commitFailed(error)
    case .defragmented(let id, let error):
      reading { () throws(BackendError) in try machine.kv.store.buffers.renew() }
      backendInbox.send(.reclaim)
      replies.append(reply(id, error) { [] })
    case .defragmentationBegan: outlets.measured(.defragmentationBegan)
    case .defragmentationEnded(let nanoseconds, let error):
      outlets.measured(.defragmentationEnded(nanoseconds: nanoseconds, error))
    case .hashed(let id, let result, let nanoseconds):
      outlets.measured(.hashed(nanoseconds: nanoseconds))
      switch result {
      case .success(let hash):
        let message = Etcdserverpb_HashResponse.with {
          $0.header = machine.header()
          $0.hash = hash
        }
        replies.append(reply(id, nil) { try message.serializedBytes() })
      case .failure(let error): replies.append(reply(id, error) { [] })
      }
    case .exported(let id, let path, let result): exported(id, path, result)
    case .installed(let result): installed(result)
    }
  }

  private func reply(
    _ id: UInt64, _ error: BackendError?, _ message: () throws -> Bytes
  ) -> StoreReply {
    if let error { return StoreReply(id: id, outcome: .failure(EtcdError(.unknown, "\(error)"))) }
    do {
      return StoreReply(id: id, outcome: .message(try message()))
    } catch {
      return StoreReply(id: id, outcome: .failure(EtcdError(.internal, "\(error)")))
    }
  }

  /// A full disk is no reason to end: reads go on, the log refuses what it cannot hold. Anything
  /// else leaves unknown what the file holds.
  private func commitFailed(_ error: BackendError) {
    switch error {
    case .diskFull where role.role != .leader: waitForSpace(error)
    case .diskFull, .mapFull:
      outlets.diskFull(
        machine.alarms.alarms.hasNoSpace(of: machine.settings.member), "\(error)")
      retryCommitsAtTick = ticks + 10
    default: outlets.failed("\(error)")
    }
  }

  /// One member's disk does not stop the writes of all: a follower keeps in memory what it cannot store,
  /// up to a bound. A leader with a full disk speaks for the cluster and raises the alarm.
  private func waitForSpace(_ error: BackendError) {
    let bytes = machine.kv.store.buffers.pendingBytes
    guard bytes < Self.waitingBytesMax else {
      outlets.failed(
        "\(error), and \(bytes >> 20) MB of changes wait for room there. The member ends; the others go "
          + "on. Free space and start it again")
    }
    if ticks >= spaceWarningDue {
      outlets.measured(.diskFull(waiting: bytes))
      spaceWarningDue = ticks + 100
    }
    retryCommitsAtTick = ticks + 10
  }

  func raiseNoSpace() {
    outlets.raiseNoSpace(machine.alarms.alarms.hasNoSpace(of: machine.settings.member))
  }

  /// Offers buffers again that found the disk full.
  func retryCommits() {
    guard let due = retryCommitsAtTick, ticks >= due else { return }
    retryCommitsAtTick = nil
    for sealed in committing { backendInbox.send(.commit(sealed)) }
  }

  func reading(_ body: () throws(BackendError) -> Void) {
    do throws(BackendError) { try body() } catch { outlets.failed("\(error)") }
  }

  // MARK: - Snapshots out

  func makeSnapshot(for member: MemberID) {
    nextExport += 1
    snapshotRequests[nextExport] = member
    exportedAt[nextExport] = Snapshot(
      metadata: SnapshotMetadata(
        index: machine.applied, term: machine.appliedTerm,
        confState: machine.membership.confState),
      data: machine.membership.v2StoreJSON())
    seal()
    var overrides = SnapshotOverrides()
    overrides.set(.meta, BackendKey.confState, confStateJSON)
    if let version = machine.membership.clusterVersion, isSchemaVersion(version) {
      overrides.set(.meta, BackendKey.storageVersion, Bytes(version.utf8))
    }
    let path = "\(settings.snapshotDirectory)/send-\(nextExport).db"
    backendInbox.send(.export(id: nextExport, path: path, overrides: overrides))
  }

  func exportSnapshot(id: UInt64) {
    seal()
    // Without versions a backup can be restored by every etcd from 3.4 on.
    var overrides = SnapshotOverrides()
    overrides.set(.meta, BackendKey.confState, confStateJSON)
    overrides.remove(.meta, BackendKey.storageVersion)
    overrides.remove(.cluster, BackendKey.clusterVersion)
    overrides.remove(.cluster, BackendKey.downgrade)
    let path = "\(settings.snapshotDirectory)/client-\(id.hex).db"
    backendInbox.send(.export(id: id, path: path, overrides: overrides))
  }

  private var confStateJSON: Bytes {
    let state = machine.membership.confState
    let voters = state.voters.map(String.init).joined(separator: ",")
    let learners = state.learners.map(String.init).joined(separator: ",")
    let more = learners.isEmpty ? "" : ",\"learners\":[\(learners)]"
    return Bytes("{\"voters\":[\(voters)]\(more),\"auto_leave\":false}".utf8)
  }

  /// The schema's version is stored from 3.6 on.
  private func isSchemaVersion(_ version: String) -> Bool {
    let parts = version.split(separator: ".").compactMap { Int($0) }
    return parts.count >= 2 && (parts[0], parts[1]) >= (3, 6)
  }

  private func exported(_ id: UInt64, _ path: String, _ result: Result<LogIndex, BackendError>) {
    guard let member = snapshotRequests.removeValue(forKey: id) else {
      return outlets.exported(id, result.map { _ in path })
    }
    let snapshot = exportedAt.removeValue(forKey: id)
    // A commit that found the disk full leaves the file behind the state: not what was announced.
    if case .success(let index) = result, index == snapshot?.metadata.index {
      outlets.snapshotMade(member, snapshot, path)
    } else {
      outlets.snapshotMade(member, nil, path)
    }
  }

  // MARK: - Snapshots in

  func install(_ snapshot: Snapshot, path: String) {
    guard installing == nil else {
      if let older = installNext { ReceivedStore.remove(older.path) }
      installNext = (snapshot, path)
      return
    }
    completeDeferredTxns()
    installing = (snapshot, path)
    backendInbox.send(.install(path: path))
  }

  private func installed(_ result: Result<SnapshotContents, BackendError>) {
    guard let (snapshot, path) = installing else {
      preconditionFailure("a snapshot was installed that nobody sent")
    }
    do {
      let contents = try result.get()
      guard contents.consistentIndex == snapshot.metadata.index else {
        outlets.failed(
          "the received store ends at entry \(contents.consistentIndex), its message says "
            + "\(snapshot.metadata.index)")
      }
      committing = []
      machine = try StoreLoader.load(
        backend: backend, settings: machine.settings, lessor: machine.lessor,
        legacyMembership: snapshot.data, term: snapshot.metadata.term,
        failed: { [outlets] error in
          outlets.failed("\(error)")
        })
    } catch {
      outlets.failed("the received store cannot be used: \(error)")
    }
    installing = nil
    ReceivedStore.remove(path)
    backendInbox.send(.reclaim)
    sealedIndex = machine.applied
    for write in machine.membership.tableWrites {
      if let value = write.value { machine.kv.store.buffers.put(write.bucket, write.key, value) }
    }
    // The file's own tables may be older than what the message told: they are not left like that.
    seal()
    replies += uncommittedReplies.map(\.reply)
    uncommittedReplies = []
    resetCompaction()
    hub.storeRestored(
      currentRevision: machine.kv.currentRevision, compactRevision: machine.kv.compactRevision)
    outlets.membershipChanged(machine.membership)
    outlets.snapshotInstalled(machine.applied)
    outlets.stored(machine.applied)
    if let next = installNext {
      installNext = nil
      install(next.snapshot, path: next.path)
    }
  }
}
