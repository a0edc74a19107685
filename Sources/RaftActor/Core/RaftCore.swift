public import Base

/// One member's part in Raft: a function of its inputs.
///
/// No I/O, no clock, no hidden randomness: time is `tick()`, the network is `step(_:)`, the disk is
/// `persisted(_:)`. What is to be done comes out of `takeEffects()` in batches. Every call is
/// synchronous and cheap; after feeding what has arrived, call `takeEffects()` until it returns nil.
///
/// Invariants (preconditions that stay on): base <= applied <= handedOut <= commit <= last, durable
/// <= written <= last, terms and commit never decrease, a committed entry is never replaced. While a
/// snapshot waits to be installed, `applied` lags behind the base.
public struct RaftCore: Sendable {
  public struct Configuration: Sendable {
    public var id: MemberID
    /// Ticks without a leader before an election; the drawn timeout is in [this, 2 x this - 1].
    public var electionTicks: Int
    public var heartbeatTicks: Int
    /// Entry bytes in one append; a larger single entry still travels alone.
    public var maxMessageBytes: Int
    /// Appends in flight to one follower, by number and by entry bytes.
    public var maxInflightMessages: Int
    public var maxInflightBytes: Int
    /// Entry bytes that may wait for commit on a leader; beyond, proposals are dropped.
    public var maxUncommittedBytes: Int
    /// Committed entry bytes handed out in one effects batch.
    public var maxApplyBytes: Int
    public var preVote: Bool
    /// A commit without entries to go with it is told to followers only when the owner calls
    /// ``RaftCore/announceCommit()``, with a read round, or with the next tick; at once if it may
    /// be one of theirs that waits for it, or a change of members.
    public var announcesCommitLazily: Bool

    public init(
      id: MemberID, electionTicks: Int = 10, heartbeatTicks: Int = 1,
      maxMessageBytes: Int = 1 << 20, maxInflightMessages: Int = 512,
      maxInflightBytes: Int = 64 << 20, maxUncommittedBytes: Int = 256 << 20,
      maxApplyBytes: Int = 1 << 20, preVote: Bool = true, announcesCommitLazily: Bool = false
    ) {
      precondition(id != 0, "a member id is never 0")
      precondition(heartbeatTicks > 0 && electionTicks > heartbeatTicks)
      precondition(maxMessageBytes > 0 && maxInflightMessages > 0 && maxInflightBytes > 0)
      precondition(maxUncommittedBytes > 0 && maxApplyBytes > 0)
      self.id = id
      self.electionTicks = electionTicks
      self.heartbeatTicks = heartbeatTicks
      self.maxMessageBytes = maxMessageBytes
      self.maxInflightMessages = maxInflightMessages
      self.maxInflightBytes = maxInflightBytes
      self.maxUncommittedBytes = maxUncommittedBytes
      self.maxApplyBytes = maxApplyBytes
      self.preVote = preVote
      self.announcesCommitLazily = announcesCommitLazily
    }
  }

  /// Writes that were handed out and are not yet known to be durable.
  struct PendingWrite: Sendable {
    var sequence: UInt64
    /// The log is durable up to here with this batch. Lowered when entries at or below are voided, so
    /// that a late acknowledgement never counts for what replaced them.
    var last: LogIndex
    var term: Term
    var vote: MemberID
  }

  let configuration: Configuration
  public var id: MemberID { configuration.id }

  // Persistent state.
  public internal(set) var term: Term
  public internal(set) var vote: MemberID
  public internal(set) var log: RaftLog
  public internal(set) var commit: LogIndex

  // Pointers into the log.
  public internal(set) var applied: LogIndex
  /// Committed entries up to here were handed out for applying.
  public internal(set) var handedOut: LogIndex
  /// Entries up to here were handed out for writing.
  var written: LogIndex
  public internal(set) var durable: LogIndex
  var durableTerm: Term

  // Role.
  public internal(set) var role: Role = .follower
  public internal(set) var leader: MemberID = 0
  public internal(set) var electionElapsed = 0
  var heartbeatElapsed = 0
  var electionTimeout = 0
  var generator: SeededGenerator

  /// All members, ascending by id.
  var members: [Progress] = []
  /// The position of the last configuration entry that may be unapplied.
  var pendingConfIndex: LogIndex = 0
  public internal(set) var transferee: MemberID = 0
  /// The next flush may send appends that say nothing but the commit index.
  var announcesCommit = false
  /// The last entry that a follower has proposed.
  var forwardedThrough: LogIndex = 0
  var reads = ReadQueue()
  /// An accepted snapshot that the owner has not installed; 0 = none.
  public internal(set) var pendingSnapshot: LogIndex = 0

  // Output that the next `takeEffects` hands out.
  var outNow: [Message] = []
  var outAfterSync: [Message] = []
  var outSnapshot: Snapshot?
  var outReadStates: [ReadState] = []
  var outDroppedReads: [Bytes] = []
  var outSnapshotWanted: [MemberID] = []
  var lastHardState: HardState
  var lastSoftState: SoftState
  var sequence: UInt64 = 0
  var pendingWrites: [PendingWrite] = []
  /// What a leader knows to be acknowledged by this member though its log does not reach so far: the
  /// owner must end the member before any further effect.
  var forgotten: LogIndex?
  /// Reused by quorum counting.
  var scratch: [UInt64] = []

  /// Starts a member from what its disk holds.
  ///
  /// - Parameters:
  ///   - snapshot: the position before the first entry, and its term; its configuration is not read.
  ///   - entries: all entries after that position, contiguous. They count as durable.
  ///   - applied: what the state machine already contains; entries above, up to the commit index, are
  ///     handed out again. May be above the stored commit index, which is written lazily.
  ///   - confState: the configuration as of `applied`.
  ///   - generator: the source of election jitter; members of one cluster need different seeds.
  public init(
    configuration: Configuration, hardState: HardState, snapshot: SnapshotMetadata,
    entries: [Entry], applied: LogIndex, confState: ConfState, generator: SeededGenerator
  ) {
    self.configuration = configuration
    self.generator = generator
    term = hardState.term
    vote = hardState.vote
    log = RaftLog(baseIndex: snapshot.index, baseTerm: snapshot.term)
    log.reserve(entries.count)
    for entry in entries { log.append(entry) }
    commit = max(hardState.commit, applied, snapshot.index)
    self.applied = applied
    handedOut = applied
    written = log.lastIndex
    durable = log.lastIndex
    durableTerm = hardState.term
    lastHardState = hardState
    lastSoftState = SoftState(role: .follower, leader: 0, term: hardState.term)
    if log.lastTerm > term {
      // The sync was cut between the entries and the hard state behind them. No vote of that term was
      // durable then, so none was cast.
      term = log.lastTerm
      vote = 0
    }
    // A leader proposes a change of the membership only once it has applied the one before. So all of
    // them but the last are committed, even if the hard state that said so was cut off with the end of
    // the log: without this knowledge, the member could win an election by an outdated quorum.
    if let change = log.lastConfigurationButOne { commit = max(commit, change) }
    precondition(applied >= snapshot.index, "the state machine is older than the log")
    precondition(commit <= log.lastIndex, "the log ends before its commit index")
    setMembers(confState)
    drawElectionTimeout()
  }

  // MARK: - Inputs from the owner

  /// Time passes: one tick is one heartbeat interval of the cluster (100 ms by default).
  public mutating func tick() {
    electionElapsed += 1
    if role == .leader {
      tickLeader()
    } else if electionElapsed >= electionTimeout && isPromotable {
      electionElapsed = 0
      campaign()
    }
  }

  /// The writes of all batches up to `sequence` are durable.
  ///
  /// Batches that did not ask for a sync may be reported or not.
  public mutating func persisted(_ sequence: UInt64) {
    precondition(sequence <= self.sequence, "a batch that was never handed out")
    let covered = pendingWrites.prefix { $0.sequence <= sequence }
    guard let newest = covered.last else { return }
    // A later batch can cover less of the log than an earlier one only after a truncation, which
    // lowered the earlier one too.
    let last = covered.reduce(durable) { max($0, $1.last) }
    pendingWrites.removeFirst(covered.count)
    precondition(last <= log.lastIndex, "durable beyond the log")
    durable = last
    durableTerm = newest.term
    if role == .candidate && newest.term == term && newest.vote == id {
      countVote(from: id, granted: true)
    }
    if let own = memberSlot(id) { _ = members[own].acknowledge(durable) }
    if role == .leader { advanceCommit() }
  }

  /// The state machine contains all entries up to `index`.
  ///
  /// Call ``applyConfChange(_:)`` for a configuration entry before reporting it here.
  public mutating func applied(through index: LogIndex) {
    guard index > applied else { return }
    precondition(index <= handedOut, "applied what was never handed out")
    // While a snapshot waits, reports of older entries say nothing new about the future.
    if !configuration.announcesCommitLazily || forwardedThrough > applied {
      announcesCommit = true
    }
    applied = index
  }

  /// Whether there is a follower that could be told of a commit and was not.
  public var hasUntoldCommit: Bool {
    guard role == .leader else { return false }
    for slot in members.indices where members[slot].id != id && !members[slot].isPaused {
      if members[slot].canRaiseCommit(to: commit) { return true }
    }
    return false
  }

  /// Followers are to be told the commit index, whether or not there are entries for them.
  public mutating func announceCommit() { announcesCommit = true }

  /// The state machine now is the snapshot at `index`.
  public mutating func snapshotInstalled(_ index: LogIndex) {
    applied = max(applied, index)
    precondition(applied <= handedOut, "installed a snapshot that was never accepted")
    if index >= pendingSnapshot { pendingSnapshot = 0 }
  }

  /// Drops entries up to `index` from memory; the owner keeps enough for slow followers.
  public mutating func compact(through index: LogIndex) {
    precondition(index <= applied, "compaction of entries that are not applied")
    log.dropPrefix(through: index)
  }

  // MARK: - Output

  /// Everything to be done since the last call; nil if there is nothing.
  ///
  /// On a leader this is where appends are made: at most one per follower and call, so proposals and
  /// acknowledgements that arrived together share one. A follower far behind gets more on the next
  /// call. A commit alone is told once it is applied here, or with the next tick: until then the next
  /// entries may carry it, and no follower's work comes before the answer to the client.
  public mutating func takeEffects() -> Effects? {
    if role == .leader {
      startReadRound()
      flushReplication()
    }
    let soft = SoftState(role: role, leader: leader, term: term)
    let hard = HardState(term: term, vote: vote, commit: commit)
    guard hasOutput(soft, hard) else { return nil }
    sequence += 1
    var effects = Effects(sequence: sequence)
    takeWrites(hard, into: &effects)
    effects.committed = takeCommitted()
    swap(&effects.sendNow, &outNow)
    swap(&effects.sendAfterSync, &outAfterSync)
    swap(&effects.readStates, &outReadStates)
    swap(&effects.droppedReads, &outDroppedReads)
    swap(&effects.snapshotWanted, &outSnapshotWanted)
    if soft != lastSoftState {
      lastSoftState = soft
      effects.softState = soft
    }
    return effects
  }

  private func hasOutput(_ soft: SoftState, _ hard: HardState) -> Bool {
    if written < log.lastIndex || hard != lastHardState || soft != lastSoftState { return true }
    if hasCommitted || outSnapshot != nil || !outSnapshotWanted.isEmpty { return true }
    return !outNow.isEmpty || !outAfterSync.isEmpty || !outReadStates.isEmpty
      || !outDroppedReads.isEmpty
  }

  private mutating func takeWrites(_ hard: HardState, into effects: inout Effects) {
    effects.snapshot = outSnapshot
    outSnapshot = nil
    if written < log.lastIndex {
      effects.entries = log.entries(from: written + 1)
      written = log.lastIndex
    }
    if hard != lastHardState {
      effects.hardState = hard
    }
    effects.mustSync =
      effects.snapshot != nil || !effects.entries.isEmpty || hard.term != lastHardState.term
      || hard.vote != lastHardState.vote
    lastHardState = hard
    if effects.mustSync {
      pendingWrites.append(
        PendingWrite(sequence: effects.sequence, last: written, term: term, vote: vote))
    }
  }

  private var hasCommitted: Bool { pendingSnapshot == 0 && min(commit, durable) > handedOut }

  private mutating func takeCommitted() -> [Entry] {
    guard hasCommitted else { return [] }
    let entries = log.entries(
      from: handedOut + 1, through: min(commit, durable), maxBytes: configuration.maxApplyBytes)
    handedOut += LogIndex(entries.count)
    return entries
  }

  /// Queues a message, in the lane that its promise allows.
  ///
  /// Votes, granted votes and append responses speak for the disk. So does any message of a term that
  /// is not on the disk yet: a member that forgets a term could lead it twice.
  mutating func send(_ message: Message) {
    var message = message
    if message.from == 0 { message.from = id }
    switch message.kind {
    case .vote, .appendResponse:
      sendAfterSync(message)
    case .voteResponse where !message.reject:
      sendAfterSync(message)
    case .preVote:
      outNow.append(message)
    case .preVoteResponse where !message.reject:
      // Carries the candidate's term and promises nothing.
      outNow.append(message)
    default:
      if message.term > durableTerm {
        sendAfterSync(message)
      } else {
        outNow.append(message)
      }
    }
  }

  /// Of several append responses to one peer only the strongest of each kind is kept.
  private mutating func sendAfterSync(_ message: Message) {
    if message.kind == .appendResponse,
      let slot = outAfterSync.lastIndex(where: {
        $0.kind == .appendResponse && $0.to == message.to && $0.term == message.term
          && $0.reject == message.reject
      })
    {
      if message.reject || message.index >= outAfterSync[slot].index {
        outAfterSync[slot] = message
      }
      return
    }
    outAfterSync.append(message)
  }

  // MARK: - Shared by the aspects

  /// The index of `id` in `members`.
  func memberSlot(_ id: MemberID) -> Int? { members.firstIndex { $0.id == id } }

  /// Moves the commit index; never back, never beyond the log.
  mutating func raiseCommit(to index: LogIndex) {
    guard index > commit else { return }
    precondition(index <= log.lastIndex, "commit beyond the log: this member lost entries")
    commit = index
  }

  /// Voids the log from `index`, on disk too once the next entries are written.
  mutating func truncateLog(from index: LogIndex) {
    precondition(index > commit, "a committed entry would be replaced")
    log.truncate(from: index)
    voidWrites(from: index)
  }

  /// Nothing written at or above `index` counts any longer, however late its sync is reported.
  mutating func voidWrites(from index: LogIndex) {
    written = min(written, index - 1)
    durable = min(durable, index - 1)
    for slot in pendingWrites.indices {
      pendingWrites[slot].last = min(pendingWrites[slot].last, index - 1)
    }
  }

  public var status: Status {
    Status(
      id: id, term: term, vote: vote, role: role, leader: leader, commit: commit,
      applied: applied, durable: durable, firstIndex: log.firstIndex, lastIndex: log.lastIndex,
      pendingConfIndex: pendingConfIndex, transferee: transferee,
      peers: members.map {
        PeerStatus(
          id: $0.id, isLearner: $0.isLearner, match: $0.match, next: $0.next, state: $0.state,
          recentActive: $0.recentActive, inflightMessages: $0.inflight.count)
      })
  }
}
