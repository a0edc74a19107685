import Base

/// What the leader knows of one member's log. Every member keeps the list; only a leader uses it.
///
/// Invariants: `match < next`; in `probe` and `snapshot` nothing is in flight by count.
struct Progress: Sendable {
  let id: MemberID
  var isLearner: Bool
  /// The last position known to equal the leader's, durably.
  var match: LogIndex = 0
  /// The next position to send.
  var next: LogIndex
  var state: RaftCore.PeerState = .probe
  /// The snapshot under way in `.snapshot`; 0 otherwise.
  var pendingSnapshot: LogIndex = 0
  /// The owner was asked for a snapshot and has not answered.
  var snapshotRequested = false
  /// Anything was heard since the last quorum check.
  var recentActive: Bool
  /// No append leaves until a response arrives.
  var paused = false
  /// The next flush sends an append even if it is empty.
  var appendDue = false
  /// The highest commit index told to the member in an append.
  var sentCommit: LogIndex = 0
  /// The newest read round the member confirmed.
  var readRound: UInt64 = 0
  /// The answer in the present election.
  var granted: Bool?
  var inflight: Inflight

  init(
    id: MemberID, isLearner: Bool, next: LogIndex, recentActive: Bool,
    configuration: RaftCore.Configuration
  ) {
    self.id = id
    self.isLearner = isLearner
    self.next = next
    self.recentActive = recentActive
    inflight = Inflight(
      maxMessages: configuration.maxInflightMessages, maxBytes: configuration.maxInflightBytes)
  }

  /// Forgets everything but identity: a new term starts.
  mutating func reset(next: LogIndex) {
    match = 0
    self.next = next
    enter(.probe)
    recentActive = false
    snapshotRequested = false
    appendDue = false
    sentCommit = 0
    readRound = 0
    granted = nil
  }

  private mutating func enter(_ state: RaftCore.PeerState) {
    self.state = state
    paused = false
    pendingSnapshot = 0
    inflight.removeAll()
  }

  /// Back to one append at a time: what was sent optimistically may be lost.
  mutating func becomeProbe() {
    let snapshot = pendingSnapshot
    enter(.probe)
    next = max(match, snapshot) + 1
    sentCommit = min(sentCommit, next - 1)
  }

  mutating func becomeReplicate() {
    enter(.replicate)
    next = match + 1
    snapshotRequested = false
  }

  mutating func becomeSnapshot(index: LogIndex) {
    enter(.snapshot)
    pendingSnapshot = index
    snapshotRequested = false
    next = max(next, match + 1)
    sentCommit = index
  }

  var isPaused: Bool { paused || state == .snapshot }

  /// Whether an append would tell the member of a commit it does not know.
  func canRaiseCommit(to commit: LogIndex) -> Bool { commit > sentCommit && sentCommit < next - 1 }

  /// Records an acknowledgement; whether it was news.
  mutating func acknowledge(_ index: LogIndex) -> Bool {
    guard index > match else { return false }
    match = index
    next = max(next, index + 1)
    paused = false
    return true
  }

  /// Records a rejection of an append behind `rejected`; false if it is stale.
  mutating func reject(_ rejected: LogIndex, hint: LogIndex) -> Bool {
    switch state {
    case .replicate:
      guard rejected > match else { return false }
      becomeProbe()
    case .probe, .snapshot:
      guard state == .probe, next == rejected + 1 else { return false }
      next = max(min(rejected, hint + 1), match + 1)
      sentCommit = min(sentCommit, next - 1)
      paused = false
    }
    return true
  }

  /// Records an append that leaves with `count` entries.
  mutating func sent(count: Int, bytes: Int, commit: LogIndex) {
    appendDue = false
    sentCommit = max(sentCommit, commit)
    switch state {
    case .replicate:
      if count > 0 {
        next += LogIndex(count)
        inflight.add(last: next - 1, bytes: bytes)
      }
      paused = inflight.isFull
    case .probe:
      if count > 0 { paused = true }
    case .snapshot:
      preconditionFailure("append to a member that receives a snapshot")
    }
  }
}

/// The appends sent to a member and not acknowledged, oldest first.
struct Inflight: Sendable {
  private struct Item {
    var last: LogIndex
    var bytes: Int
  }

  let maxMessages: Int
  let maxBytes: Int
  private(set) var bytes = 0
  private var items: [Item] = []
  private var head = 0

  init(maxMessages: Int, maxBytes: Int) {
    self.maxMessages = maxMessages
    self.maxBytes = maxBytes
  }

  var count: Int { items.count - head }
  var isFull: Bool { count >= maxMessages || bytes >= maxBytes }

  mutating func add(last: LogIndex, bytes: Int) {
    precondition(!isFull, "append sent beyond the window")
    items.append(Item(last: last, bytes: bytes))
    self.bytes += bytes
  }

  /// Frees every append whose last entry is at or below `index`.
  mutating func release(through index: LogIndex) {
    while head < items.count, items[head].last <= index {
      bytes -= items[head].bytes
      head += 1
    }
    if head == items.count {
      items.removeAll(keepingCapacity: true)
      head = 0
    } else if head >= 64 && head * 2 >= items.count {
      items.removeFirst(head)
      head = 0
    }
  }

  mutating func removeAll() {
    items.removeAll(keepingCapacity: true)
    head = 0
    bytes = 0
  }
}
