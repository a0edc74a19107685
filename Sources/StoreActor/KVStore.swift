public import Actors
import Base
import EtcdAPI
import RaftActor
import Synchronization

/// The actor that holds the replicated state: applies the log, answers reads, feeds watchers.
///
/// Lives on the STORE thread. Applying never waits for a disk: values go to a buffer that the
/// BACKEND thread commits, and the log covers what is not committed yet. Long work (ranges, hashes,
/// compaction, catching up watchers) is done in slices between batches.
public actor KVStore {
  public struct Settings: Sendable {
    /// Bytes beyond which this member raises the NOSPACE alarm; nil = no quota.
    public var quotaBytes: Int64?
    /// Nanoseconds by which a new leader extends all leases.
    public var electionTimeout: UInt64
    public var fragmentBytes: Int
    /// Where files on their way to members and clients are put.
    public var snapshotDirectory: String
    /// Rounds of progress notifications, in ticks.
    public var progressTicks: Int
    /// Nanoseconds beyond which applying a batch is reported as slow.
    public var slowApply: UInt64
    /// Records that compaction removes between two pauses.
    public var compactionBatch: Int
    /// Whether to hash the history before each compaction, to be compared with other members.
    public var hashesCompactions: Bool
    /// The most that a commit is put off: ticks, and entries applied.
    public var commitTicks = 1
    public var commitEntries: UInt64 = 10_000

    public init(
      quotaBytes: Int64?, electionTimeout: UInt64, fragmentBytes: Int, snapshotDirectory: String,
      progressTicks: Int, slowApply: UInt64, compactionBatch: Int, hashesCompactions: Bool
    ) {
      self.compactionBatch = compactionBatch
      self.hashesCompactions = hashesCompactions
      self.slowApply = slowApply
      self.quotaBytes = quotaBytes
      self.electionTimeout = electionTimeout
      self.fragmentBytes = fragmentBytes
      self.snapshotDirectory = snapshotDirectory
      self.progressTicks = progressTicks
    }
  }

  public static let inboxLimit = 1 << 20
  /// A buffer of this size is committed without waiting for the next tick.
  static let commitBytes = 8 << 20
  /// Unfinished commits beyond which new buffers are not sealed: the disk is the bottleneck.
  static let commitsInFlight = 2
  /// What a follower with a full disk keeps in memory.
  static let waitingBytesMax = 256 << 20

  private nonisolated let executor: any ActorExecutor
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  public nonisolated let inbox = Inbox<StoreInput>(name: "store", limit: inboxLimit)
  private nonisolated let board: Mutex<StoreStatus>
  /// The state as of the last batch. Any thread.
  public nonisolated var status: StoreStatus { board.withLock { $0 } }

  let settings: Settings
  /// Monotonic nanoseconds: what leases count down by.
  let clock: @Sendable () -> UInt64
  let backend: Backend
  let backendInbox: Inbox<BackendInput>
  let outlets: StoreOutlets
  let tokens: TokenBoard
  var machine: StateMachine<DiskRecords>
  var hub: WatchHub
  var watchEncoder: WatchResponseEncoder
  var output = ApplyOutput()
  /// The batch under way changed users, roles or tokens.
  private var authChanged = false
  /// Replies of the batch under way.
  var replies: [StoreReply] = []
  var role: RaftCore.SoftState

  /// Reads that wait for an entry, by arrival.
  var waitingReads: [(atLeast: LogIndex, reads: [StoreRead])] = []
  /// Long reads under way.
  var longReads: [LongRead] = []
  /// Between two slices; ended by an input.
  var longReadsPause = false
  /// When entries were applied or short reads answered: monotonic nanoseconds.
  var servedAt: UInt64 = 0
  /// In the batch under way.
  var hasServed = false
  /// Keepalives of expired leases: answered when the revocation is applied.
  var expiring: [(id: UInt64, lease: LeaseID)] = []
  /// Keepalives that wait for a checkpoint of their lease to be taken back.
  var unchecking: [(id: UInt64, lease: LeaseID)] = []
  /// Callers of physical compactions, with the replies they wait for.
  var compactionWaiters: [(revision: Int64, reply: StoreReply)] = []
  var compactionUnderWay = false
  /// Between two slices; ended by an input.
  var compactionPauses = false
  /// The last one whose end was stored and told.
  var reportedCompactRevision: Int64
  /// The hash that is taken before the compaction under way removes anything.
  var compactionHash: HashCursor?
  /// Of the last compactions, oldest first.
  var compactionHashes: [KeyValueHash] = []
  /// Replies that are due once a buffer is in the file.
  var uncommittedReplies: [(buffer: UInt64, reply: StoreReply)] = []
  /// When the compaction under way was accepted, and the records removed until then.
  var compactionBegan: (at: UInt64, removed: UInt64) = (0, 0)
  /// Defragmentations to be begun after the compaction under way.
  var waitingDefragments: [UInt64] = []

  /// Sealed buffers whose commit is not reported yet, oldest first.
  var committing: [SealedBuffer] = []
  var retryCommitsAtTick: Int?
  var spaceWarningDue = 0
  var sealedIndex: LogIndex
  var lastSealTick = 0
  var snapshotRequests: [UInt64: MemberID] = [:]
  var nextExport: UInt64 = 1 << 63
  var exportedAt: [UInt64: Snapshot] = [:]
  var installing: (snapshot: Snapshot, path: String)?
  /// A newer snapshot that arrived meanwhile.
  var installNext: (snapshot: Snapshot, path: String)?
  /// Entries were applied since the last report to Raft, and the report may wait no longer.
  private var reportsApplied = false
  private var reportIsDue = false
  var ticks = 0
  var workIsDue = false
  /// The process is about to end: nothing more is begun.
  var isEnding = false
  /// The term whose first entry has to be applied before leases count down here.
  var promotesAtTerm: Term?

  public init(
    machine: sending StateMachine<DiskRecords>, backend: Backend, backendInbox: Inbox<BackendInput>,
    settings: Settings, executor: any ActorExecutor, tokens: TokenBoard, outlets: StoreOutlets,
    clock: @escaping @Sendable () -> UInt64 = { monotonicNanoseconds() }
  ) {
    self.clock = clock
    self.machine = machine
    self.backend = backend
    self.backendInbox = backendInbox
    self.settings = settings
    self.executor = executor
    self.outlets = outlets
    self.tokens = tokens
    hub = WatchHub(
      currentRevision: machine.kv.currentRevision, compactRevision: machine.kv.compactRevision)
    watchEncoder = WatchResponseEncoder(
      cluster: machine.settings.cluster, member: machine.settings.member,
      fragmentBytes: settings.fragmentBytes)
    role = RaftCore.SoftState(role: .follower, leader: 0, term: 0)
    sealedIndex = machine.applied
    compactionUnderWay = machine.kv.finishedCompactRevision < machine.kv.compactRevision
    reportedCompactRevision = machine.kv.finishedCompactRevision
    compactionBegan = (monotonicNanoseconds(), 0)
    board = Mutex(Self.status(machine, backend, hub, []))
  }

  public nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { $0.receive(&batch) }
    }
    inbox.send(.work)
  }

  private func receive(_ batch: inout ContiguousArray<StoreInput>) {
    var appliedBefore = machine.applied
    for input in batch { handle(input) }
    serveWaitingReads()
    if hasServed && !longReads.isEmpty { servedAt = clock() }
    hasServed = false
    finishBatch(appliedBefore: &appliedBefore)
  }

  private func handle(_ input: StoreInput) {
    switch input {
    case .apply(let entries): apply(entries)
    case .read(let reads, let atLeast):
      if atLeast <= machine.applied {
        serve(reads)
      } else {
        waitingReads.append((atLeast, reads))
      }
    case .watch(let commands): for command in commands { handle(command) }
    case .tick: tick()
    case .role(let state): roleChanged(state)
    case .backend(let report): handle(report)
    case .makeSnapshot(let member): makeSnapshot(for: member)
    case .exportSnapshot(let id): exportSnapshot(id: id)
    case .defragment(let id): defragment(id)
    case .hash(let id):
      seal()
      backendInbox.send(.hash(id: id))
    case .install(let snapshot, let path): install(snapshot, path: path)
    case .work: work()
    case .pauseEnded(.compaction): compactionPauses = false
    case .pauseEnded(.longReads): longReadsPause = false
    case .flush:
      isEnding = true
      seal()
    case .continueRangeStream(let id): continueStream(id: id)
    case .endRead(let id): endRead(id: id)
    }
  }

  private func finishBatch(appliedBefore: inout LogIndex) {
    if hub.hasOutput { deliverWatchOutput() }
    // Whoever gets a reply and asks for the status finds there what the reply says.
    let status = Self.status(machine, backend, hub, compactionHashes)
    board.withLock { $0 = status }
    if authChanged {
      authChanged = false
      outlets.authChanged()
    }
    if !replies.isEmpty {
      outlets.reply(replies)
      replies.removeAll(keepingCapacity: true)
    }
    if machine.applied != appliedBefore { reportsApplied = true }
    // A follower's Raft needs to know now and then; waking it for each batch costs more than that.
    if reportsApplied, role.role == .leader || role.leader == 0 || reportIsDue {
      reportsApplied = false
      outlets.applied(machine.applied)
    }
    reportIsDue = false
    if machine.kv.store.buffers.pendingBytes > Self.commitBytes
      || machine.applied >= sealedIndex + settings.commitEntries
    {
      sealIfIdle()
    }
    scheduleWork()
  }

  private static func status(
    _ machine: StateMachine<DiskRecords>, _ backend: Backend, _ hub: WatchHub,
    _ compactionHashes: [KeyValueHash]
  ) -> StoreStatus {
    let pending = Int64(machine.kv.store.buffers.pendingBytes)
    return StoreStatus(
      applied: machine.applied, appliedTerm: machine.appliedTerm,
      revision: machine.kv.currentRevision, compactRevision: machine.kv.compactRevision,
      sizeBytes: Int64(backend.sizeBytes) + pending,
      sizeInUseBytes: Int64(backend.sizeInUseBytes) + pending,
      alarms: machine.alarms.alarms, membership: machine.membership,
      auth: machine.auth, leaseCount: machine.lessor.count, keyCount: machine.kv.index.liveCount,
      readViews: backend.openViews,
      watch: hub.statistics, compactionHashes: compactionHashes)
  }

  // MARK: - Applying

  private func apply(_ entries: [Entry]) {
    guard installing == nil else {
      preconditionFailure("entries handed out while a snapshot is being installed")
    }
    let now = clock()
    hasServed = true
    var before = now
    let size = Int64(backend.sizeBytes)
    for entry in entries {
      if hasDeferredTxns, Self.isCompaction(entry) { completeDeferredTxns() }
      let pending = Int64(machine.kv.store.buffers.pendingBytes)
      let quota = settings.quotaBytes
      do {
        try machine.apply(
          entry, now: now, hasSpace: { cost in quota.map { size + pending + cost < $0 } ?? true },
          output: &output)
      } catch {
        outlets.failed("\(error)")
      }
      let (kind, failure) = (output.kind, output.failure)
      finish(entry)
      // One look at the clock per entry: the end of one is the beginning of the next.
      let after = clock()
      if let kind { outlets.applyTook(kind, failure == nil, after - before) }
      if after - before > settings.slowApply {
        outlets.measured(
          .slowApply(
            nanoseconds: after - before, request: RequestText.entry(entry), failure: failure))
      }
      before = after
    }
    outlets.measured(.applied(machine.takeCounts()))
  }

  /// Sees to what an entry left to do, in the step that makes it readable.
  private func finish(_ entry: Entry) {
    for write in output.writes {
      if let value = write.value {
        machine.kv.store.buffers.put(write.bucket, write.key, value)
      } else {
        machine.kv.store.buffers.delete(write.bucket, write.key)
      }
    }
    if !output.effects.changes.isEmpty {
      hub.notify(output.effects.changes, revision: machine.kv.currentRevision) { change in
        machine.kv.previousKeyValue(of: change.key, before: change.revision.main)
      }
    }
    if let change = output.configurationChange {
      outlets.configurationApplied(change, entry.index)
    }
    if output.authChanged { finishAuth() }
    if output.membershipChanged { outlets.membershipChanged(machine.membership) }
    if output.exceedsQuota { raiseNoSpace() }
    if let compaction = output.compacted { compactionAccepted(compaction) }
    if output.waitsForCompaction, let reply = output.replies.popLast() {
      replyAfterCompaction(reply)
    }
    if let revoked = output.revokedLease { answerExpired(revoked) }
    if !output.uncheckedLeases.isEmpty { renewUnchecked(output.uncheckedLeases) }
    if let deferred = output.deferred { answerLater(deferred) }
    replies.append(contentsOf: output.replies)
    if promotesAtTerm == entry.term { promoteLessor() }
    output.removeAll()
  }

  /// Tokens are known before the entry that changed them counts as applied.
  private func finishAuth() {
    authChanged = true
    if let event = output.tokenEvent { tokens.apply(event, now: monotonicNanoseconds()) }
  }

  // MARK: - Work in slices

  private func work() {
    workIsDue = false
    guard !isEnding else { return }
    compactSlice()
    advanceLongReads()
    catchUpWatchers()
  }

  private func scheduleWork() {
    let hasWork = hasCompactionWork || hasLongReads || hub.hasUnsynced && hubHasWork
    guard hasWork, !workIsDue, !isEnding else { return }
    workIsDue = true
    inbox.send(.work)
  }

  /// Set when the last catch-up pass found watchers that could take events.
  var hubHasWork = true

  private func tick() {
    ticks += 1
    reportIsDue = true
    retryCommits()
    if ticks >= lastSealTick + settings.commitTicks { sealIfIdle() }
    hubHasWork = true
    if settings.progressTicks > 0, ticks % settings.progressTicks == 0 { hub.progressTick() }
    if ticks % 5 == 0 {
      proposeRevocations()
      proposeCheckpoints()
    }
  }
}
