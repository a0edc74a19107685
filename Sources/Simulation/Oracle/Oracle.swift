import Base
import RaftActor
import StoreActor

/// A request that a client has made.
struct Operation: Sendable {
  let command: Command
  let client: Int
  let invokedAt: UInt64
  /// The highest commit index anywhere at that moment.
  let commitAtInvocation: LogIndex
}

/// Watches a cluster from outside, remembers what may never change again, and says so if it does.
///
/// It knows every entry ever written, every vote and commit, and runs a model of the store on what is
/// committed. The checks are spread over extensions by what they are about.
struct Oracle {
  struct EntryKey: Hashable {
    let index: LogIndex
    let term: Term
  }

  struct Origin {
    let entry: Entry
    let previousTerm: Term
  }

  struct VoteKey: Hashable {
    let voter: MemberID
    let term: Term
  }

  // Raft.
  var written: [EntryKey: Origin] = [:]
  var leaders: [Term: (member: MemberID, incarnation: Int)] = [:]
  var votes: [VoteKey: MemberID] = [:]
  /// What a leader has committed by the rule.
  var ruledCommit: LogIndex = 0
  /// Committed entries from index 1 on.
  var committed: [Entry] = []
  var terms: Int { leaders.count }

  // Store.
  var model: Model
  /// The model's revision and compact revision after each entry, from index 0 on.
  var revisions: [Int64] = [1]
  var operations: [UInt64: Operation] = [:]
  var expected: [UInt64: (index: LogIndex, result: Expected)] = [:]
  /// Checksum of everything that applying the entries up to an index did; the first to apply sets it.
  var chains: [UInt64] = [0]
  /// Checksums of whole states, by index.
  var states: [LogIndex: UInt64] = [:]
  var historyHashes: [Int64: [Int64: UInt32]] = [:]
  var voters: [LogIndex: ConfState] = [:]
  /// Until when clients may rely on a lease.
  var leaseUntil: [LeaseID: UInt64] = [:]
  var leaseRevoked: Set<LeaseID> = []

  // Reads.
  var reads: [UInt64: LogIndex] = [:]

  /// Entries that every member starts with.
  private(set) var bootstrapCount: LogIndex = 0

  var counts = RunCounts()

  init(keys: Int, ttlMin: Int64) { model = Model(keys: keys, ttlMin: ttlMin) }

  var highestCommit: LogIndex { LogIndex(committed.count) }

  static func mix(_ hash: UInt64, _ value: UInt64) -> UInt64 {
    let mixed = (hash ^ value) &* 0x9e37_79b9_7f4a_7c15
    return mixed ^ (mixed >> 31)
  }

  static func mix(_ hash: UInt64, _ bytes: Bytes) -> UInt64 {
    let crc = bytes.withUnsafeBytes { CRC32C.extend(UInt32(truncatingIfNeeded: hash), $0) }
    return mix(hash, UInt64(crc) << 20 | UInt64(bytes.count))
  }

  // MARK: - The committed log

  /// The entries that every member starts with.
  mutating func bootstrap(_ entries: [Entry]) {
    for entry in entries {
      committed.append(entry)
      revisions.append(model.revision)
      chains.append(0)
      written[EntryKey(index: entry.index, term: entry.term)] = Origin(
        entry: entry, previousTerm: entry.index == 1 ? 0 : 1)
    }
    chains = Array(repeating: 0, count: committed.count + 1)
    ruledCommit = highestCommit
    bootstrapCount = highestCommit
  }

  /// Entries are committed, whoever says so. The first to say it brings the model forward.
  mutating func commit(_ entry: Entry, at node: MemberID, now: UInt64, drift: Int) throws(Violation)
  {
    if entry.index <= highestCommit {
      try require(
        committed[Int(entry.index) - 1] == entry, .committedImmutable,
        "entry \(entry.index) at \(node) is of term \(entry.term), committed was term "
          + "\(committed[Int(entry.index) - 1].term)")
      return
    }
    try require(
      entry.index == highestCommit + 1, .committedImmutable,
      "\(node) committed entry \(entry.index), others only up to \(highestCommit)")
    try require(
      entry.index <= ruledCommit, .commitRule,
      "\(node) took entry \(entry.index) for committed, no leader has committed it")
    committed.append(entry)
    counts.commits += 1
    if entry.kind == .normal { try execute(entry, now: now, drift: drift) }
    revisions.append(model.revision)
  }

  private mutating func execute(_ entry: Entry, now: UInt64, drift: Int) throws(Violation) {
    guard let payload = try? EntryPayload(entry.data), case .request(let envelope) = payload else {
      return
    }
    if envelope.requestID == 0 {
      guard envelope.kind == .leaseRevoke, let lease = Self.lease(entry.data, envelope) else {
        return
      }
      if model.leases[lease] != nil {
        let until = leaseUntil[lease] ?? 0
        // A clock that runs fast by d parts in 1,000 ends a lease that much early.
        let slack = UInt64(drift) * 12_000_000
        try require(
          now + slack >= until, .lease,
          "lease \(lease) was ended at \(now / 1_000_000) ms, promised until "
            + "\(until / 1_000_000) ms")
        counts.expiries += 1
      }
      _ = model.apply(.expire(lease))
      leaseRevoked.insert(lease)
      return
    }
    guard let operation = operations[envelope.requestID] else {
      throw Violation(.clientAck, "entry \(entry.index) holds a request that nobody made")
    }
    try require(
      expected[envelope.requestID] == nil, .clientAck,
      "request \(envelope.requestID.hex) is in the log twice: \(entry.index)")
    try require(
      entry.index > operation.commitAtInvocation, .clientAck,
      "request \(envelope.requestID.hex) precedes its invocation")
    let result = model.apply(operation.command)
    if case .revoke(let lease) = operation.command, result.succeeds { leaseRevoked.insert(lease) }
    expected[envelope.requestID] = (entry.index, result)
  }

  private static func lease(_ data: Bytes, _ envelope: InternalRequestEnvelope) -> LeaseID? {
    data.withUnsafeBytes { buffer -> LeaseID? in
      var reader = ProtobufReader(UnsafeRawBufferPointer(rebasing: buffer[envelope.payload]))
      while let field = try? reader.next() {
        if field.number == 1 { return try? field.int64() }
      }
      return nil
    }
  }
}
