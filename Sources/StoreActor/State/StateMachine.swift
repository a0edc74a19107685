public import Base
public import EtcdAPI
public import RaftActor
import SwiftProtobuf

/// What the store answers to a request that waits under `id`.
public struct StoreReply: Sendable {
  public enum Outcome: Sendable {
    /// An encoded response message.
    case message(Bytes)
    case failure(EtcdError)
  }

  public var id: UInt64
  public var outcome: Outcome
  /// What follows the bytes of `outcome`'s message: a long one comes in the pieces that it was made
  /// from, uncopied.
  public var rest: ArraySlice<Bytes> = []

  public init(id: UInt64, outcome: Outcome) {
    self.id = id
    self.outcome = outcome
  }

  public init(id: UInt64, pieces: [Bytes]) {
    self.init(id: id, outcome: .message(pieces.first ?? []))
    rest = pieces.dropFirst()
  }
}

/// A change of a table other than `key`, to be committed with the entry that made it.
public struct TableWrite: Sendable {
  public var bucket: BackendBucket
  public var key: Bytes
  /// nil deletes.
  public var value: Bytes?
}

/// A compaction that is in force.
public struct AcceptedCompaction: Equatable, Sendable {
  public var revision: Int64
  /// The limit before, if everything below it was gone already.
  public var completedBefore: Int64?
}

/// An answer to `id` that is not complete yet.
public struct DeferredReply: Sendable {
  public var id: UInt64 = 0
  public var txn: DeferredTxn
  /// With the term of the entry.
  public let encoder: ResponseEncoder
}

/// What applying one entry leaves to be done. The owner keeps one and empties it after each entry.
public struct ApplyOutput: Sendable {
  /// Answers to callers of this member.
  public var replies: [StoreReply] = []
  /// Changes of at most one revision, for watchers.
  public var effects = ApplyEffects()
  public var writes: [TableWrite] = []
  /// A membership change to tell Raft of; node id 0 if it was refused.
  public var configurationChange: ConfChange?
  public var membershipChanged = false
  public var alarmsChanged = false
  /// This member's own quota is exceeded: it must raise the alarm.
  public var exceedsQuota = false
  public var compacted: AcceptedCompaction?
  /// The caller whose reply is the last in `replies` wants to hear of it only when everything that
  /// compactions so far have made superfluous is gone.
  public var waitsForCompaction = false
  /// A transaction whose caller gets its answer when all of it is read.
  public var deferred: DeferredReply?
  public var revokedLease: LeaseID?
  /// Leases whose checkpoint was taken back.
  public var uncheckedLeases: [LeaseID] = []
  /// Users, roles or tokens may be others now.
  public var authChanged = false
  public var tokenEvent: TokenEvent?
  /// What the entry asked for, if it was a request, and why it had no effect.
  public var kind: InternalRequestEnvelope.Kind?
  public var failure: EtcdError?

  public init() {}

  public mutating func removeAll() {
    replies.removeAll(keepingCapacity: true)
    effects.removeAll()
    writes.removeAll(keepingCapacity: true)
    configurationChange = nil
    membershipChanged = false
    alarmsChanged = false
    exceedsQuota = false
    compacted = nil
    waitsForCompaction = false
    deferred = nil
    revokedLease = nil
    uncheckedLeases.removeAll(keepingCapacity: true)
    authChanged = false
    tokenEvent = nil
    kind = nil
    failure = nil
  }
}

/// Everything that the log decides, as a value: key-values, leases, alarms, members, users and roles.
///
/// Members that apply the same entries hold the same state. Nothing here depends on time or on whether
/// a caller waits, but for the reply and the quota alarm. Two settings take part and have to be equal on
/// all members, as in etcd: the cap on learners, and the election timeout, of which the lessor makes the
/// shortest TTL.
public struct StateMachine<Records: RecordStore> {
  public struct Settings: Sendable {
    public var member: MemberID
    public var cluster: ClusterID
    public var maxLearners: Int

    public init(member: MemberID, cluster: ClusterID, maxLearners: Int) {
      self.member = member
      self.cluster = cluster
      self.maxLearners = maxLearners
    }
  }

  /// The log holds something that this version cannot apply: going on would let members diverge.
  public struct UnknownEntry: Error, CustomStringConvertible {
    public let index: LogIndex
    public let reason: String

    public var description: String {
      "log entry \(index) cannot be applied by this version of apus: \(reason). "
        + "The member stops here rather than hold other data than the rest of the cluster; "
        + "run a version that knows this request"
    }
  }

  public let settings: Settings
  public var kv: KeyValueMachine<Records>
  public var lessor: Lessor
  public internal(set) var alarms: AlarmSet
  public internal(set) var membership: Membership
  public internal(set) var auth: AuthState
  /// The last entry applied, and its term.
  public private(set) var applied: LogIndex
  public private(set) var appliedTerm: Term
  private let callerBits: UInt64
  /// What was applied since they were last taken.
  var counts = ApplyCounts()
  /// Monotonic nanoseconds of the entry under way; only a leader's lease clocks read it.
  private(set) var clock: UInt64 = 0

  public init(
    settings: Settings, kv: KeyValueMachine<Records>, lessor: Lessor, alarms: AlarmSet,
    membership: Membership, auth: AuthState = AuthState(), applied: LogIndex, appliedTerm: Term
  ) {
    self.settings = settings
    self.kv = kv
    self.lessor = lessor
    self.alarms = alarms
    self.membership = membership
    self.auth = auth
    self.applied = applied
    self.appliedTerm = appliedTerm
    callerBits = settings.member & 0xffff
  }

  /// Applies the next entry.
  ///
  /// - Parameters:
  ///   - now: monotonic nanoseconds, from which a leader counts granted leases down.
  ///   - hasSpace: whether this member's own quota allows `cost` more bytes.
  /// - Throws: ``UnknownEntry``: the member must stop.
  public mutating func apply(
    _ entry: Entry, now: UInt64, hasSpace: (Int64) -> Bool, output: inout ApplyOutput
  ) throws {
    clock = now
    precondition(
      entry.index == applied + 1, "entry \(entry.index) does not follow \(applied)")
    applied = entry.index
    appliedTerm = entry.term
    switch entry.kind {
    case .normal: try applyNormal(entry, hasSpace: hasSpace, output: &output)
    case .configurationChange: try applyConfiguration(entry, output: &output)
    case .configurationChangeV2:
      throw UnknownEntry(index: entry.index, reason: "joint consensus")
    }
  }

  public mutating func takeCounts() -> ApplyCounts {
    defer { counts = ApplyCounts() }
    return counts
  }

  /// A header with everything that this member knows, at the given revision.
  public func header(revision: Int64? = nil) -> Etcdserverpb_ResponseHeader {
    .with {
      $0.clusterID = settings.cluster
      $0.memberID = settings.member
      $0.revision = revision ?? kv.currentRevision
      $0.raftTerm = appliedTerm
    }
  }

  public var responseEncoder: ResponseEncoder {
    ResponseEncoder(
      clusterID: settings.cluster, memberID: settings.member, raftTerm: appliedTerm)
  }

  // MARK: - Dispatch

  private mutating func applyNormal(
    _ entry: Entry, hasSpace: (Int64) -> Bool, output: inout ApplyOutput
  ) throws {
    let payload: EntryPayload
    do {
      payload = try EntryPayload(entry.data)
    } catch {
      throw UnknownEntry(index: entry.index, reason: "\(error)")
    }
    switch payload {
    case .empty: break
    case .legacy(let request): applyLegacy(request, output: &output)
    case .request(let envelope):
      let payload = entry.data[envelope.payload]
      let outcome: StoreReply.Outcome
      do {
        outcome = .message(
          try applyRequest(envelope, payload, entry.index, hasSpace: hasSpace, output: &output))
      } catch let error as EtcdError {
        outcome = .failure(error)
      } catch let error as KVError {
        outcome = .failure(EtcdError(error))
      } catch let error as LeaseError {
        outcome = .failure(EtcdError(error))
      } catch let error as ProtobufError {
        outcome = .failure(Self.unreadable(error))
      } catch let error as SwiftProtobufError {
        // Every member fails to read the same bytes: the entry has no effect on any of them.
        outcome = .failure(Self.unreadable(error))
      } catch let error as BinaryDecodingError {
        outcome = .failure(Self.unreadable(error))
      }
      output.kind = envelope.kind
      if case .failure(let error) = outcome {
        output.failure = error
        output.deferred = nil
      }
      if output.deferred != nil {
        output.deferred?.id = envelope.requestID
      } else {
        reply(envelope.requestID, outcome, output: &output)
      }
    }
  }

  private static func unreadable(_ error: any Error) -> EtcdError {
    EtcdError(.internal, "grpc: error unmarshalling request: \(error)")
  }

  /// Only the member that took the call has a caller that waits.
  func reply(_ id: UInt64, _ outcome: StoreReply.Outcome, output: inout ApplyOutput) {
    if isOwn(id) { output.replies.append(StoreReply(id: id, outcome: outcome)) }
  }

  private func isOwn(_ id: UInt64) -> Bool { id >> 48 == callerBits }

  private mutating func applyRequest(
    _ envelope: InternalRequestEnvelope, _ payload: ArraySlice<UInt8>, _ index: LogIndex,
    hasSpace: (Int64) -> Bool, output: inout ApplyOutput
  ) throws -> Bytes {
    guard let kind = envelope.kind else {
      throw UnknownEntry(index: index, reason: "request field \(envelope.field)")
    }
    switch kind {
    case .range, .put, .deleteRange, .txn, .compaction, .leaseGrant, .leaseRevoke:
      guard !alarms.contains(.corrupt) else { throw EtcdError.corrupt }
      return try applyData(
        kind, payload, envelope.caller, isOwn: isOwn(envelope.requestID), hasSpace: hasSpace,
        output: &output)
    case .leaseCheckpoint: return try applyCheckpoint(Bytes(payload), output: &output)
    case .alarm: return try applyAlarm(Bytes(payload), output: &output)
    case .clusterVersionSet, .clusterMemberAttributesSet, .downgradeInfoSet:
      if try membership.apply(kind, Bytes(payload)) { storeMembership(output: &output) }
      return []
    case .downgradeVersionTest: return []
    case .authEnable, .authDisable, .authenticate, .authStatus, .authUserAdd, .authUserDelete,
      .authUserGet, .authUserChangePassword, .authUserGrantRole, .authUserRevokeRole,
      .authUserList, .authRoleList, .authRoleAdd, .authRoleDelete, .authRoleGet,
      .authRoleGrantPermission, .authRoleRevokePermission:
      return try applyAuth(kind, Bytes(payload), envelope.caller, index, output: &output)
    }
  }

  // MARK: - Members

  private mutating func applyConfiguration(_ entry: Entry, output: inout ApplyOutput) throws {
    var change: ConfChange
    do {
      change = try ConfChange(decoding: entry.data)
    } catch {
      throw UnknownEntry(
        index: entry.index, reason: "a membership change that is unreadable: \(error)")
    }
    do {
      try membership.apply(change, maxLearners: settings.maxLearners)
      storeMembership(output: &output)
      reply(change.id, .message([]), output: &output)
    } catch {
      reply(change.id, .failure(EtcdError(error)), output: &output)
      change.nodeID = 0
    }
    output.configurationChange = change
  }

  /// Etcd's older way to publish members and the version. Other requests of that kind mean nothing
  /// to the key-value store and are passed over, as etcd does.
  private mutating func applyLegacy(_ request: LegacyRequest, output: inout ApplyOutput) {
    if membership.apply(request) { storeMembership(output: &output) }
    reply(request.id, .message([]), output: &output)
  }

  /// A member list changes a few times in its life: all of it is written each time.
  private func storeMembership(output: inout ApplyOutput) {
    output.membershipChanged = true
    output.writes += membership.tableWrites
  }
}

extension InternalRequestEnvelope {
  /// On whose behalf the entry was proposed.
  var caller: AuthCaller { AuthCaller(username: username, revision: authRevision) }
}

extension Membership {
  /// The tables that hold a membership, as etcd names and fills them.
  public var tableWrites: [TableWrite] {
    var writes = members.map {
      TableWrite(bucket: .members, key: Bytes($0.id.hex.utf8), value: $0.encodedJSON())
    }
    for id in removed {
      let key = Bytes(id.hex.utf8)
      writes.append(TableWrite(bucket: .members, key: key, value: nil))
      writes.append(TableWrite(bucket: .membersRemoved, key: key, value: Bytes("removed".utf8)))
    }
    if let clusterVersion {
      writes.append(
        TableWrite(
          bucket: .cluster, key: BackendKey.clusterVersion, value: Bytes(clusterVersion.utf8)))
    }
    if let downgrade {
      writes.append(
        TableWrite(
          bucket: .cluster, key: BackendKey.downgrade, value: downgrade.encodedJSON()))
    }
    return writes
  }
}
