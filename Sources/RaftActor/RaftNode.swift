public import Actors
public import Base
import Synchronization

/// What reaches a member's Raft: from clients, peers, the log, the store and the clock.
public enum RaftInput: Sendable {
  /// One heartbeat interval has passed.
  case tick
  /// Encoded requests to replicate, with the ids under which their callers wait.
  case propose(ids: [UInt64], payloads: [Bytes])
  /// Time that need not be waited for: the first peer is there.
  case advance(ticks: Int)
  /// Followers have waited long enough to hear of a commit.
  case announceCommit
  /// Stand for election at once; for a member that is alone.
  case campaign
  /// Requests that only count if this member still leads in this term.
  case proposeAsLeader(Term, payloads: [Bytes])
  /// An encoded ConfChange, and the id under which its caller waits.
  case changeConfiguration(id: UInt64, payload: Bytes)
  /// Confirm that this member's view is current; `id` is unique among members and over time.
  case readIndex(id: UInt64)
  case messages([Message])
  /// The log holds everything up to this effects batch, durably.
  case persisted(UInt64)
  /// The store contains everything up to this entry.
  case applied(LogIndex)
  /// A configuration entry was applied; node id 0 = it was refused.
  case configurationApplied(ConfChange, index: LogIndex)
  /// The store's file contains everything up to this entry, durably.
  case stored(LogIndex)
  case transferLeader(to: MemberID)
  case unreachable(MemberID)
  /// The store for a lagging member is ready to be sent; nil = it could not be made.
  case snapshotMade(for: MemberID, Snapshot?)
  case snapshotSent(to: MemberID, succeeded: Bool)
  /// The store now is the received snapshot.
  case snapshotInstalled(LogIndex)
}

/// What the log thread is asked to do.
public struct LogBatch: Sendable {
  public var sequence: UInt64
  /// Written first: a received snapshot, or a point up to which the log is no longer needed.
  public var snapshot: SnapshotMetadata?
  public var entries: [Entry] = []
  public var hardState: HardState?
  public var mustSync = false
  /// Segments that hold nothing above this entry may go.
  public var releaseThrough: LogIndex?
}

/// Where a member's Raft sends its effects. Each is called at most once per batch, on the loop.
public final class RaftOutlets: Sendable {
  public let write: @Sendable (LogBatch) -> Void
  public let send: @Sendable ([Message]) -> Void
  public let apply: @Sendable ([Entry]) -> Void
  public let confirmReads: @Sendable ([RaftCore.ReadState]) -> Void
  public let softStateChanged: @Sendable (RaftCore.SoftState) -> Void
  public let proposalsDropped: @Sendable ([UInt64], RaftCore.DropReason) -> Void
  public let makeSnapshot: @Sendable (MemberID) -> Void
  public let installSnapshot: @Sendable (Snapshot) -> Void
  /// The member must end, at once and without a further promise.
  public let failed: @Sendable (String) -> Never
  /// Send ``RaftInput/announceCommit`` in a moment; replaces an earlier request.
  public let announceLater: @Sendable () -> Void

  public init(
    write: @escaping @Sendable (LogBatch) -> Void, send: @escaping @Sendable ([Message]) -> Void,
    apply: @escaping @Sendable ([Entry]) -> Void,
    confirmReads: @escaping @Sendable ([RaftCore.ReadState]) -> Void,
    softStateChanged: @escaping @Sendable (RaftCore.SoftState) -> Void,
    proposalsDropped: @escaping @Sendable ([UInt64], RaftCore.DropReason) -> Void,
    makeSnapshot: @escaping @Sendable (MemberID) -> Void,
    installSnapshot: @escaping @Sendable (Snapshot) -> Void,
    failed: @escaping @Sendable (String) -> Never = { fatalError($0) },
    announceLater: @escaping @Sendable () -> Void = {}
  ) {
    self.write = write
    self.send = send
    self.apply = apply
    self.confirmReads = confirmReads
    self.softStateChanged = softStateChanged
    self.proposalsDropped = proposalsDropped
    self.makeSnapshot = makeSnapshot
    self.installSnapshot = installSnapshot
    self.failed = failed
    self.announceLater = announceLater
  }
}

/// The actor around ``RaftCore``: feeds it batches, sees to its effects, trims the log.
///
/// A shell without decisions of its own, but for when the log is short enough to keep.
public actor RaftNode {
  /// Entry bytes in memory beyond which the log is trimmed early, and those kept for slow members.
  private static let logBytesMax = 256 << 20
  private static let catchUpBytesMax = 64 << 20
  /// What may wait for a leader.
  private static let parkedBytesMax = 64 << 20

  /// How long things are kept.
  public struct LogPolicy: Sendable {
    /// Entries between two points to which the log is trimmed (`--snapshot-count`).
    public var entriesBetween: UInt64
    /// Entries kept behind such a point for slow members (`--snapshot-catchup-entries`).
    public var catchUpEntries: UInt64
    /// Ticks after which a proposal that found no leader is given up.
    public var parkedTicksMax: Int

    public init(entriesBetween: UInt64, catchUpEntries: UInt64, parkedTicksMax: Int) {
      self.entriesBetween = entriesBetween
      self.catchUpEntries = catchUpEntries
      self.parkedTicksMax = parkedTicksMax
    }
  }

  /// Batches that may wait; a loop that is this far behind has lost.
  public static let inboxLimit = 1 << 20

  private nonisolated let executor: any ActorExecutor
  public nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  public nonisolated let inbox = Inbox<RaftInput>(name: "raft", limit: inboxLimit)

  private nonisolated let board: Mutex<RaftCore.Status>
  /// What Raft knows now. Any thread.
  public nonisolated var status: RaftCore.Status { board.withLock { $0 } }

  private var core: RaftCore
  private let policy: LogPolicy
  private var outlets: RaftOutlets?
  /// Promises that wait for a sync, oldest first.
  private var afterSync: [(sequence: UInt64, messages: [Message], install: Snapshot?)] = []
  /// A hard state that differs from the log's in the commit index alone. It is not worth a write of
  /// its own: it goes with the next entries, or with the next tick.
  private var unwrittenState: HardState?
  /// The last batch that the log was asked to write, and the last that it has written.
  private var asked: UInt64 = 0
  private var persisted: UInt64 = 0
  private var trimmedThrough: LogIndex
  private var configurationChangedAt: LogIndex = 0
  /// Proposals that wait for a leader, oldest first: an election is no reason to refuse them.
  private var parked: [(ids: [UInt64], payloads: [Bytes], tick: Int)] = []
  private var parkedBytes = 0
  /// A leader whose connection broke, as long as nothing has come from it since: what is handed to
  /// it now would be lost with it.
  private var silentLeader: MemberID = 0
  private var ticks = 0
  /// A member that is alone need not wait for anybody's silence before it leads.
  private var campaignsWhenReady = false

  public init(core: RaftCore, policy: LogPolicy, executor: any ActorExecutor) {
    self.core = core
    self.policy = policy
    self.executor = executor
    trimmedThrough = core.status.firstIndex - 1
    board = Mutex(core.status)
  }

  /// Connects the node to the rest of the member; before this it does nothing.
  public nonisolated func start(_ outlets: RaftOutlets) {
    executor.execute { [self] in
      assumeIsolated { $0.outlets = outlets }
      inbox.connect(to: executor) { [weak self] batch in
        self?.assumeIsolated { $0.receive(&batch) }
      }
    }
  }

  private func receive(_ batch: inout ContiguousArray<RaftInput>) {
    let committed = core.commit
    for input in batch { step(input) }
    deliverEffects()
    if core.commit != committed, core.hasUntoldCommit { outlets?.announceLater() }
    let status = Self.status(of: &core)
    board.withLock { $0 = status }
  }

  /// Through `inout`, for the getter would be handed a copy of the whole core.
  private static func status(of core: inout RaftCore) -> RaftCore.Status { core.status }

  private func step(_ input: RaftInput) {
    switch input {
    case .tick:
      ticks += 1
      writeState()
      core.tick()
      proposeParked()
    case .advance(let ticks): for _ in 0..<ticks where core.role == .follower { core.tick() }
    case .announceCommit: core.announceCommit()
    case .campaign:
      campaignsWhenReady = true
      campaignIfReady()
    case .propose(let ids, let payloads): propose(ids, payloads)
    case .proposeAsLeader(let term, let payloads):
      if core.role == .leader, core.term == term { _ = core.propose(payloads) }
    case .changeConfiguration(let id, let payload):
      if case .dropped(let reason) = core.proposeConfChange(payload) {
        outlets?.proposalsDropped([id], reason)
      }
    case .readIndex(let id): core.readIndex(context: id.bigEndianBytes)
    case .messages(let messages): receive(messages)
    case .persisted(let sequence):
      persisted = max(persisted, sequence)
      core.persisted(sequence)
    case .applied(let index):
      core.applied(through: index)
      campaignIfReady()
    case .configurationApplied(let change, let index):
      // A snapshot that was accepted meanwhile has brought a newer configuration.
      guard index > core.log.baseIndex else { break }
      configurationChangedAt = index
      core.applyConfChange(change)
    case .stored(let index): trimLog(stored: index)
    case .transferLeader(let target): core.transferLeader(to: target)
    case .unreachable(let member):
      if member == core.leader { silentLeader = member }
      core.reportUnreachable(member)
    case .snapshotMade(let member, let snapshot):
      if let snapshot {
        // If it is not wanted any more, the next one made for that member replaces its file.
        _ = core.snapshotReadyToSend(to: member, snapshot)
      } else {
        core.reportSnapshot(member, succeeded: false)
      }
    case .snapshotSent(let member, let succeeded):
      core.reportSnapshot(member, succeeded: succeeded)
    case .snapshotInstalled(let index):
      trimmedThrough = max(trimmedThrough, index)
      core.snapshotInstalled(index)
    }
  }

  private func receive(_ messages: [Message]) {
    for message in messages {
      core.step(message)
      guard message.from == silentLeader, message.isFromLeader else { continue }
      silentLeader = 0
      proposeParked()
    }
  }

  /// Whether what is proposed now has somewhere to go.
  private var hasLeader: Bool { core.leader != 0 && core.leader != silentLeader }

  private func propose(_ ids: [UInt64], _ payloads: [Bytes], since tick: Int? = nil) {
    let outcome = hasLeader ? core.propose(payloads) : .dropped(.noLeader)
    guard case .dropped(let reason) = outcome else { return }
    let bytes = payloads.reduce(0) { $0 + $1.count }
    guard reason != .overloaded, parkedBytes + bytes <= Self.parkedBytesMax else {
      outlets?.proposalsDropped(ids, reason)
      return
    }
    parked.append((ids, payloads, tick ?? ticks))
    parkedBytes += bytes
  }

  /// A core does not stand for election before it has applied what it knows of the membership.
  private func campaignIfReady() {
    guard campaignsWhenReady else { return }
    core.campaign()
    campaignsWhenReady = core.role == .follower
  }

  /// Offers parked proposals again, unless their callers have given up by now: what was never in a
  /// log may be proposed as if it had just come.
  private func proposeParked() {
    guard !parked.isEmpty else { return }
    let deadline = ticks - policy.parkedTicksMax
    while let first = parked.first, first.tick < deadline {
      parkedBytes -= first.payloads.reduce(0) { $0 + $1.count }
      outlets?.proposalsDropped(first.ids, .noLeader)
      parked.removeFirst()
    }
    guard hasLeader else { return }
    let waiting = parked
    parked = []
    parkedBytes = 0
    for (ids, payloads, tick) in waiting { propose(ids, payloads, since: tick) }
  }

  private func deliverEffects() {
    guard let outlets else { return }
    if let index = core.forgotten {
      outlets.failed(
        "the leader knows that this member has acknowledged entry \(index), but its log ends at "
          + "\(core.log.lastIndex): its data directory is older than its promises (put back from a copy?), "
          + "and it must not vote. Remove the data directory and replace the member (member remove, "
          + "member add)")
    }
    releasePromises(to: outlets)
    while let effects = core.takeEffects() {
      if !effects.sendNow.isEmpty { outlets.send(effects.sendNow) }
      write(effects, to: outlets)
      if !effects.sendAfterSync.isEmpty || effects.snapshot != nil {
        afterSync.append((asked, effects.sendAfterSync, effects.snapshot))
      }
      if !effects.committed.isEmpty { outlets.apply(effects.committed) }
      if !effects.readStates.isEmpty { outlets.confirmReads(effects.readStates) }
      if let soft = effects.softState {
        outlets.softStateChanged(soft)
        proposeParked()
      }
      for member in effects.snapshotWanted { outlets.makeSnapshot(member) }
      releasePromises(to: outlets)
    }
  }

  private func write(_ effects: RaftCore.Effects, to outlets: RaftOutlets) {
    if let state = effects.hardState { unwrittenState = state }
    guard effects.mustSync else { return }
    asked = effects.sequence
    outlets.write(
      LogBatch(
        sequence: effects.sequence, snapshot: effects.snapshot?.metadata,
        entries: effects.entries, hardState: unwrittenState, mustSync: true))
    unwrittenState = nil
  }

  /// Writes a hard state that has waited for entries to come; needs no sync.
  private func writeState() {
    guard let state = unwrittenState, let outlets else { return }
    unwrittenState = nil
    outlets.write(LogBatch(sequence: asked, hardState: state))
  }

  /// Sends what was waiting for syncs that are done.
  private func releasePromises(to outlets: RaftOutlets) {
    while let first = afterSync.first, first.sequence <= persisted {
      afterSync.removeFirst()
      if let snapshot = first.install { outlets.installSnapshot(snapshot) }
      if !first.messages.isEmpty { outlets.send(first.messages) }
    }
  }

  /// Drops what neither a restart nor a slow member needs any longer.
  ///
  /// The point recorded in the log lies at or below what the store's file holds, so that the store
  /// and the log together are always complete.
  private func trimLog(stored: LogIndex) {
    let point = min(stored, core.applied)
    let isLong = point >= trimmedThrough + policy.entriesBetween
    let isLarge = point > trimmedThrough && core.log.bytes > Self.logBytesMax
    guard isLong || isLarge, point >= configurationChangedAt else { return }
    guard let term = core.log.term(at: point) else { return }
    let metadata = SnapshotMetadata(index: point, term: term, confState: core.confState)
    trimmedThrough = point
    core.compact(through: catchUpStart(before: point))
    // A snapshot record counts only up to the commit index before it.
    writeState()
    outlets?.write(
      LogBatch(sequence: asked, snapshot: metadata, mustSync: true, releaseThrough: point))
  }

  /// The entry up to which a slow member would need a snapshot: as many entries as the policy keeps
  /// stay, but not more than a bound of bytes.
  private func catchUpStart(before point: LogIndex) -> LogIndex {
    let log = core.log
    let first = log.baseIndex
    var low = max(first, point > policy.catchUpEntries ? point - policy.catchUpEntries : 0)
    var high = point
    let above = log.bytes(after: point)
    while low < high {
      let middle = low + (high - low) / 2
      if log.bytes(after: middle) - above > Self.catchUpBytesMax {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }
}
