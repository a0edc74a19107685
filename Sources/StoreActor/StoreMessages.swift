public import Base
public import EtcdAPI
public import RaftActor

/// A read, or a question about leases, that waits under `id`.
public struct StoreRead: Sendable {
  public enum Kind: Sendable {
    case range(Etcdserverpb_RangeRequest)
    /// Only ranges in both branches.
    case txn(Etcdserverpb_TxnRequest)
    /// A range answered in parts; see ``StoreOutlets/stream``.
    case rangeStream(Etcdserverpb_RangeRequest)
    case hashKV(revision: Int64)
    case leases
    case leaseTimeToLive(LeaseID, keys: Bool)
    case leaseKeepAlive(LeaseID)
    /// Whether the caller may renew a lease or list its keys, for a leader that cannot tell who asks.
    case leaseAccess(LeaseID, AuthState.Access)
    /// Only that everything up to the index is applied.
    case nothing
  }

  public var id: UInt64
  public var kind: Kind
  /// On whose behalf; nil = the member's own, which nobody has to allow.
  public var caller: AuthCaller?

  /// Whether it is answered in microseconds whatever the store holds.
  public var isBrief: Bool {
    if case .range(let request) = kind { request.rangeEnd.isEmpty } else { false }
  }

  public init(id: UInt64, kind: Kind, caller: AuthCaller? = nil) {
    self.id = id
    self.kind = kind
    self.caller = caller
  }
}

/// Who creates a watcher.
public enum WatchCaller: Sendable {
  /// The member itself.
  case member
  case client(AuthCaller)
  /// Why the caller's identity could not be established.
  case refused(EtcdError)
}

/// A request of a watch stream. Stream ids are the gateway's, unique while the process runs.
public enum WatchCommand: Sendable {
  case open(UInt64)
  case close(UInt64)
  case create(UInt64, WatchCreate, WatchCaller = .member)
  case cancel(UInt64, watchID: Int64)
  case progress(UInt64)
  /// The client takes no more for now, or does again.
  case blocked(UInt64)
  case ready(UInt64)
}

/// Work in slices that gives others their share of the machine.
public enum StorePause: Sendable {
  case compaction
  case longReads
}

/// What reaches the store's actor.
public enum StoreInput: Sendable {
  /// Committed entries, in order.
  case apply([Entry])
  /// Reads to be answered once everything up to `atLeast` is applied.
  case read([StoreRead], atLeast: LogIndex)
  case watch([WatchCommand])
  /// Time passes: one heartbeat interval.
  case tick
  case role(RaftCore.SoftState)
  case backend(BackendReport)
  /// A member fell behind the log and needs the whole store.
  case makeSnapshot(for: MemberID)
  /// A client wants the whole store as a file.
  case exportSnapshot(id: UInt64)
  case defragment(id: UInt64)
  case hash(id: UInt64)
  /// The store that the leader sent lies in a file and shall take the place of ours.
  case install(Snapshot, path: String)
  /// Goes on with work that is done in slices.
  case work
  /// The time asked for by ``StoreOutlets/pause`` is over.
  case pauseEnded(StorePause)
  /// The reader of a streamed range has taken most of what was sent, or has gone.
  case continueRangeStream(id: UInt64)
  /// Nobody waits for this read any more.
  case endRead(id: UInt64)
  /// Writes everything applied to the file; for an orderly end.
  case flush
}

/// What the rest of the member may know of the store at any moment.
public struct StoreStatus: Sendable {
  public var applied: LogIndex
  public var appliedTerm: Term
  public var revision: Int64
  public var compactRevision: Int64
  /// Allocated and used bytes of the file, with what waits to be written.
  public var sizeBytes: Int64
  public var sizeInUseBytes: Int64
  public var alarms: [AlarmSet.Alarm]
  public var membership: Membership
  public var auth: AuthState
  public var leaseCount: Int
  public var keyCount: Int
  /// Open views of the file.
  public var readViews: Int
  public var watch: WatchStatistics
  /// Of the last compactions, oldest first; empty unless they are to be compared.
  public var compactionHashes: [KeyValueHash]
}

/// Where the store sends what it does. Called on the STORE thread, at most a few times per batch.
public struct StoreOutlets: Sendable {
  public var reply: @Sendable ([StoreReply]) -> Void
  /// Encoded watch responses of one stream, in order.
  public var deliver:
    @Sendable ([(stream: UInt64, messages: FramedMessages)], WatchDeliveryCounts) -> Void
  /// One part of a streamed range; the last one is followed by a reply without message.
  public var stream: @Sendable (_ id: UInt64, _ message: Bytes) -> Void
  /// What this request writes is applied, its answer takes as long as it takes.
  public var deferred: @Sendable (_ id: UInt64) -> Void
  public var applied: @Sendable (LogIndex) -> Void
  public var configurationApplied: @Sendable (ConfChange, LogIndex) -> Void
  /// The file holds everything up to this entry.
  public var stored: @Sendable (LogIndex) -> Void
  public var snapshotMade: @Sendable (MemberID, Snapshot?, _ path: String) -> Void
  public var snapshotInstalled: @Sendable (LogIndex) -> Void
  public var exported: @Sendable (_ id: UInt64, Result<String, BackendError>) -> Void
  /// Requests that only the leader of this term may put into the log.
  public var proposeAsLeader:
    @Sendable (Term, AuthCaller, [(InternalRequestEnvelope.Kind, Bytes)]) -> Void
  /// This member's quota is exceeded: raise the alarm, unless it is raised already.
  public var raiseNoSpace: @Sendable (_ alarmIsRaised: Bool) -> Void
  /// The disk has no room: raise the alarm, unless it is raised already.
  public var diskFull: @Sendable (_ alarmIsRaised: Bool, _ reason: String) -> Void
  public var membershipChanged: @Sendable (Membership) -> Void
  /// Users, roles or tokens are others than before; the status shows them.
  public var authChanged: @Sendable () -> Void
  public var compactionFinished: @Sendable (FinishedCompaction) -> Void
  /// Asks for ``StoreInput/pauseEnded(_:)`` after the pause between two slices of such work.
  public var pause: @Sendable (StorePause) -> Void
  public var measured: @Sendable (StoreMeasure) -> Void
  /// How long applying one request took, and whether it had its effect.
  public var applyTook:
    @Sendable (InternalRequestEnvelope.Kind, _ succeeded: Bool, _ nanoseconds: UInt64) -> Void
  /// How long one range took that was answered at once.
  public var rangeTook: @Sendable (_ succeeded: Bool, _ nanoseconds: UInt64) -> Void
  /// The member cannot go on; does not return.
  public var failed: @Sendable (String) -> Never

  public init(
    reply: @escaping @Sendable ([StoreReply]) -> Void,
    deliver:
      @escaping @Sendable ([(stream: UInt64, messages: FramedMessages)], WatchDeliveryCounts) ->
      Void,
    stream: @escaping @Sendable (UInt64, Bytes) -> Void,
    deferred: @escaping @Sendable (UInt64) -> Void = { _ in },
    applied: @escaping @Sendable (LogIndex) -> Void,
    configurationApplied: @escaping @Sendable (ConfChange, LogIndex) -> Void,
    stored: @escaping @Sendable (LogIndex) -> Void,
    snapshotMade: @escaping @Sendable (MemberID, Snapshot?, String) -> Void,
    snapshotInstalled: @escaping @Sendable (LogIndex) -> Void,
    exported: @escaping @Sendable (UInt64, Result<String, BackendError>) -> Void,
    proposeAsLeader:
      @escaping @Sendable (Term, AuthCaller, [(InternalRequestEnvelope.Kind, Bytes)]) -> Void,
    raiseNoSpace: @escaping @Sendable (Bool) -> Void,
    diskFull: @escaping @Sendable (Bool, String) -> Void,
    membershipChanged: @escaping @Sendable (Membership) -> Void,
    authChanged: @escaping @Sendable () -> Void = {},
    compactionFinished: @escaping @Sendable (FinishedCompaction) -> Void,
    pause: @escaping @Sendable (StorePause) -> Void,
    measured: @escaping @Sendable (StoreMeasure) -> Void,
    applyTook:
      @escaping @Sendable (InternalRequestEnvelope.Kind, Bool, UInt64) -> Void = { _, _, _ in },
    rangeTook: @escaping @Sendable (Bool, UInt64) -> Void = { _, _ in },
    failed: @escaping @Sendable (String) -> Never
  ) {
    self.reply = reply
    self.deliver = deliver
    self.stream = stream
    self.deferred = deferred
    self.applied = applied
    self.configurationApplied = configurationApplied
    self.stored = stored
    self.snapshotMade = snapshotMade
    self.snapshotInstalled = snapshotInstalled
    self.exported = exported
    self.proposeAsLeader = proposeAsLeader
    self.raiseNoSpace = raiseNoSpace
    self.diskFull = diskFull
    self.membershipChanged = membershipChanged
    self.authChanged = authChanged
    self.compactionFinished = compactionFinished
    self.pause = pause
    self.measured = measured
    self.applyTook = applyTook
    self.rangeTook = rangeTook
    self.failed = failed
  }
}

/// Facts for the metrics. Times are nanoseconds.
public enum StoreMeasure: Sendable {
  case commit(nanoseconds: UInt64)
  case applied(ApplyCounts)
  /// An entry took longer than operators want to know of.
  case slowApply(nanoseconds: UInt64, request: String, failure: EtcdError?)
  case expired(leases: Int)
  /// One slice of a compaction.
  case compactionStep(nanoseconds: UInt64)
  case defragmentationBegan
  case defragmentationEnded(nanoseconds: UInt64, BackendError?)
  /// Of the whole file, and of the history up to a revision.
  case hashed(nanoseconds: UInt64)
  case hashedRevision(nanoseconds: UInt64)
  /// A follower's disk is full; so many bytes wait for room.
  case diskFull(waiting: Int)
}

/// A compaction that has removed everything it had to.
public struct FinishedCompaction: Sendable {
  public var revision: Int64
  /// Of the history before it, if that was taken.
  public var hash: UInt32?
  /// Since it was accepted, or since this member's start.
  public var nanoseconds: UInt64
  /// Records removed.
  public var records: UInt64
  public var sizeBytes: Int64
  public var sizeInUseBytes: Int64
}

/// What the responses of one delivery to watch streams hold.
public struct WatchDeliveryCounts: Sendable {
  public var messages = 0
  public var events = 0
  /// Answers to requests of the clients.
  public var control = 0
  public var progress = 0
}
