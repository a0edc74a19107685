public import Base
import EtcdAPI
public import RaftActor
import SwiftProtobuf

/// Takes up the state that the store's file holds: at start, and after a snapshot was installed.
public enum StoreLoader {
  public enum LoadError: Error, CustomStringConvertible {
    case unreadable(table: String, reason: String)

    public var description: String {
      switch self {
      case .unreadable(let table, let reason):
        "table \(table) of the store cannot be read (\(reason)). Stop this member, remove its data "
          + "directory and let it join again, or restore a backup"
      }
    }
  }

  /// - Parameters:
  ///   - lessor: an empty one, or the one whose leases are to be replaced.
  ///   - legacyMembership: the v2 store beside a received snapshot. Senders before 3.6 keep the truth
  ///     there; empty if there is none.
  ///   - position: where the log begins. If the store ends there, its configuration is the truth: the
  ///     file of a sender before 3.6 may still call a promoted member a learner.
  ///   - term: of the last applied entry, if the file does not say (etcd 3.4).
  public static func load(
    backend: Backend, settings: StateMachine<DiskRecords>.Settings, lessor: Lessor,
    legacyMembership: Bytes = [], position: SnapshotMetadata = SnapshotMetadata(), term: Term = 0,
    failed: @escaping @Sendable (BackendError) -> Never
  ) throws -> StateMachine<DiskRecords> {
    let view = try backend.makeReadView()
    let buffers = try BufferedRecordStore(backend: backend)
    let kv = try KeyValueMachine(
      restoring: DiskRecords(buffers: buffers, failed: failed),
      finishedCompactRevision: try revision(view, BackendKey.finishedCompactRevision),
      scheduledCompactRevision: try revision(view, BackendKey.scheduledCompactRevision))
    var lessor = lessor
    lessor.demote()
    lessor.restore(
      try table(view, .lease) { _, value in try LeaseRecord(decoding: value) })
    var orphans: [(LeaseID, Bytes)] = []
    kv.forEachLeasedKey { lease, key in
      do throws(LeaseError) {
        try lessor.attach(key, to: lease)
      } catch {
        orphans.append((lease, key))
      }
    }
    if let (lease, _) = orphans.first {
      throw LoadError.unreadable(table: "lease", reason: "lease \(lease) of a key is missing")
    }
    let alarms = try table(view, .alarm) { key, _ in try AlarmSet.Alarm(decoding: key) }
    let (auth, isNumbered) = try auth(view)
    // As etcd does: its members take a revision that is missing in a received store for 0.
    if !isNumbered, let write = auth.revisionWrite.value {
      buffers.put(.auth, AuthState.revisionKey, write)
    }
    let progress = backend.progress
    var membership = try membership(view, legacy: legacyMembership)
    if progress.consistentIndex == position.index { membership.reconcile(position.confState) }
    return StateMachine(
      settings: settings, kv: kv, lessor: lessor, alarms: AlarmSet(alarms),
      membership: membership, auth: auth,
      applied: progress.consistentIndex,
      appliedTerm: progress.term == 0 ? term : progress.term)
  }

  private static func membership(_ view: ReadView, legacy: Bytes) throws -> Membership {
    let stored = Membership(
      members: try table(view, .members) { _, value in try MemberRecord(decodingJSON: value) },
      removed: try table(view, .membersRemoved) { key, _ in
        MemberID(String(decoding: key, as: UTF8.self), radix: 16)
      }.compactMap { $0 },
      clusterVersion: try view.get(.cluster, BackendKey.clusterVersion).map {
        String(decoding: $0, as: UTF8.self)
      },
      downgrade: try view.get(.cluster, BackendKey.downgrade).map {
        try DowngradeInfo(decodingJSON: Bytes($0))
      })
    guard !legacy.isEmpty, var told = try? Membership(decodingV2Store: legacy) else {
      return stored
    }
    // The v2 store knows nothing of downgrades, whoever wrote it.
    told.downgrade = stored.downgrade
    // From 3.6 on the tables are the truth; before, they may be stale.
    return told.isLegacy || stored.members.isEmpty ? told : stored
  }

  /// - Returns: also whether the file says which revision of users and roles it holds.
  private static func auth(_ view: ReadView) throws -> (AuthState, isNumbered: Bool) {
    let flag = try view.get(.auth, AuthState.enabledKey).map { Bytes($0) }
    var revision: UInt64 = 0
    if let value = try view.get(.auth, AuthState.revisionKey) {
      guard let number = UInt64(bigEndianBytes: value) else {
        throw LoadError.unreadable(table: "auth", reason: "a revision that has not eight bytes")
      }
      revision = number
    }
    let state = AuthState(
      isEnabled: flag == [1], revision: revision,
      users: try table(view, .authUsers) { _, value in try Authpb_User(serializedBytes: value) },
      roles: try table(view, .authRoles) { _, value in try Authpb_Role(serializedBytes: value) })
    return (state, revision > 0)
  }

  private static func revision(_ view: ReadView, _ key: Bytes) throws -> Int64 {
    guard let value = try view.get(.meta, key) else { return -1 }
    guard let (revision, _) = RevisionKey.parse(value) else {
      throw LoadError.unreadable(
        table: "meta", reason: "\(String(decoding: key, as: UTF8.self)) is no revision")
    }
    return revision.main
  }

  private static func table<Value>(
    _ view: ReadView, _ bucket: BackendBucket, _ read: (Bytes, Bytes) throws -> Value
  ) throws -> [Value] {
    var values: [Value] = []
    var failure: (any Error)?
    try view.scan(bucket) { key, value in
      do {
        values.append(try read(Bytes(key), Bytes(value)))
        return true
      } catch {
        failure = error
        return false
      }
    }
    if let failure {
      throw LoadError.unreadable(table: bucket.name.description, reason: "\(failure)")
    }
    return values
  }
}
