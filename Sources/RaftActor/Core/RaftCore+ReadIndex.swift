public import Base

/// Reads that a leader has yet to confirm.
///
/// All reads that arrive between two effects batches form one round, numbered by this leader alone.
/// Heartbeats carry the number as their context; a quorum that echoes it, or a later one, proves that
/// no newer leader existed when the round began.
struct ReadQueue: Sendable {
  struct Request: Sendable {
    /// Who asked: this member or a follower.
    var from: MemberID
    var context: Bytes
  }

  struct Round: Sendable {
    var number: UInt64
    var index: LogIndex
    var requests: [Request]
  }

  /// Waiting for the first commit of the term.
  var parked: [Request] = []
  /// Arrived since the last batch.
  var arrived: [Request] = []
  /// Under way, oldest first.
  var rounds: [Round] = []
  /// Never reused, so an echo of an older leadership confirms nothing.
  var lastRound: UInt64 = 0

  static func encode(_ round: UInt64) -> Bytes {
    withUnsafeBytes(of: round.littleEndian) { Array($0) }
  }

  static func decode(_ context: Bytes) -> UInt64? {
    guard context.count == 8 else { return nil }
    return context.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}

extension RaftCore {
  /// Asks for an index at which a linearizable read may be served.
  ///
  /// The answer is a ``ReadState`` with the same context, or nothing: ask again with a new context
  /// after a while, and on each change of leader.
  /// - Parameter context: 8 bytes, unique across the members and over time.
  /// - Returns: false if no leader is known: nothing was sent.
  @discardableResult
  public mutating func readIndex(context: Bytes) -> Bool {
    switch role {
    case .leader:
      enqueueRead(ReadQueue.Request(from: id, context: context))
      return true
    case .follower where leader != 0:
      let request = Entry(term: 0, index: 0, data: context)
      send(Message(kind: .readIndex, to: leader, entries: [request]))
      return true
    case .follower, .preCandidate, .candidate:
      return false
    }
  }

  mutating func onReadIndex(_ message: Message) {
    guard message.entries.count == 1 else { return }
    switch role {
    case .leader:
      let context = message.entries[0].data
      enqueueRead(ReadQueue.Request(from: message.from, context: context))
    case .follower where leader != 0 && leader != message.from:
      var forwarded = message
      forwarded.to = leader
      forwarded.term = 0
      send(forwarded)
    case .follower, .preCandidate, .candidate:
      break
    }
  }

  mutating func onReadIndexResponse(_ message: Message) {
    guard message.entries.count == 1 else { return }
    outReadStates.append(ReadState(context: message.entries[0].data, index: message.index))
  }

  private var hasCommittedInTerm: Bool { log.term(at: commit) == term }

  private mutating func enqueueRead(_ request: ReadQueue.Request) {
    if !hasCommittedInTerm {
      // The commit index of a new leader may be behind what its predecessor acknowledged.
      reads.parked.append(request)
    } else if isOnlyVoter {
      answerRead(request, index: commit)
    } else {
      reads.arrived.append(request)
    }
  }

  private var isOnlyVoter: Bool {
    var voters = 0
    var isVoter = false
    for member in members where !member.isLearner {
      voters += 1
      if member.id == id { isVoter = true }
    }
    return isVoter && voters == 1
  }

  private mutating func answerRead(_ request: ReadQueue.Request, index: LogIndex) {
    if request.from == id {
      outReadStates.append(ReadState(context: request.context, index: index))
    } else {
      let entry = Entry(term: 0, index: 0, data: request.context)
      send(
        Message(
          kind: .readIndexResponse, to: request.from, term: term, index: index, entries: [entry]))
    }
  }

  /// Called when the commit index moved.
  mutating func releaseParkedReads() {
    guard !reads.parked.isEmpty, hasCommittedInTerm else { return }
    let parked = reads.parked
    reads.parked.removeAll(keepingCapacity: true)
    for request in parked { enqueueRead(request) }
  }

  /// Gives what has arrived a round of its own and asks the members about it.
  mutating func startReadRound() {
    guard !reads.arrived.isEmpty else { return }
    reads.lastRound += 1
    reads.rounds.append(
      ReadQueue.Round(number: reads.lastRound, index: commit, requests: reads.arrived))
    reads.arrived.removeAll(keepingCapacity: true)
    sendHeartbeats()
    confirmReads()
  }

  /// Answers every round that a quorum of the voters has echoed.
  mutating func confirmReads() {
    guard !reads.rounds.isEmpty else { return }
    scratch.removeAll(keepingCapacity: true)
    for member in members where !member.isLearner {
      scratch.append(member.id == id ? .max : member.readRound)
    }
    let confirmed = Quorum.reached(&scratch)
    let done = reads.rounds.prefix { $0.number <= confirmed }
    guard !done.isEmpty else { return }
    for round in done {
      for request in round.requests { answerRead(request, index: round.index) }
    }
    reads.rounds.removeFirst(done.count)
  }

  /// The leadership is over: nothing waiting can be confirmed.
  mutating func dropReads() {
    var lost = reads.rounds.flatMap(\.requests)
    lost += reads.arrived
    lost += reads.parked
    for request in lost where request.from == id { outDroppedReads.append(request.context) }
    reads.rounds.removeAll()
    reads.arrived.removeAll()
    reads.parked.removeAll()
  }
}
