public import Base

/// All leases of the store: which exist, which keys hang on them and, on the leader, when they end.
///
/// Grants, revocations, attachments and checkpoints are replicated: every member applies the same
/// ones and reaches the same state. Deadlines exist on the leader only, between `promote` and
/// `demote`. Times are monotonic nanoseconds, passed in; elsewhere a lease never ends by itself.
public struct Lessor: Sendable {
  /// In seconds.
  public static let ttlMax: Int64 = 9_000_000_000
  /// After a promotion no more leases than this fall due per second.
  public static let expiriesPerSecondMax: UInt64 = 750
  /// Up to this many leases may fall due together after a promotion.
  public static let unpacedLeasesMax = 1000

  private struct Lease: Sendable {
    let ttl: Int64
    var remainingTTL: Int64 = 0
    let incarnation: UInt64
    var keys: Set<Bytes> = []
    /// Meaningful on the leader only.
    var deadline: UInt64 = .max
    /// A checkpoint was handed out and not yet seen applied.
    var checkpointInFlight = false
    /// An entry in `checkpoints` stands for this lease.
    var checkpointIsScheduled = false
  }

  private static let second: UInt64 = 1_000_000_000

  /// Shortest TTL granted, in seconds.
  public let ttlMin: Int64
  /// An expired lease is reported again after this time.
  private let retryPeriod: UInt64
  private let checkpointInterval: UInt64?

  private var table: [LeaseID: Lease] = [:]
  private var leaseByKey: [Bytes: LeaseID] = [:]
  private var incarnations: UInt64 = 0
  /// Whether this member is the leader and keeps clocks.
  public private(set) var isPrimary = false
  /// One entry per lease, due no later than its deadline, or at the next retry if it has expired.
  private var deadlines = DeadlineHeap()
  private var checkpoints = DeadlineHeap()

  /// - Parameters:
  ///   - ttlMin: seconds; the same on every member, see `ttlMin(electionTimeout:)`.
  ///   - retryPeriod: nanoseconds to wait for a revocation before an expired lease is reported again
  ///     (the request timeout).
  ///   - checkpointInterval: nanoseconds between checkpoints of a long lease; nil = none are due.
  public init(ttlMin: Int64, retryPeriod: UInt64, checkpointInterval: UInt64? = nil) {
    self.ttlMin = ttlMin
    self.retryPeriod = max(1, retryPeriod)
    self.checkpointInterval = checkpointInterval.map { max(1, $0) }
  }

  /// 1.5 election timeouts, in whole seconds rounded up.
  /// - Parameter electionTimeout: nanoseconds.
  public static func ttlMin(electionTimeout: UInt64) -> Int64 {
    Int64((electionTimeout / 2 * 3 + second - 1) / second)
  }

  // MARK: Replicated operations

  public var count: Int { table.count }

  /// Ascending.
  public var leases: [LeaseID] { table.keys.sorted() }

  public func contains(_ id: LeaseID) -> Bool { table[id] != nil }

  /// Creates a lease with at least the minimal TTL.
  /// - Parameters:
  ///   - id: chosen by the proposer, never 0.
  ///   - ttl: seconds wanted.
  ///   - now: only used on the leader.
  /// - Returns: the record to store; its `ttl` is what was granted.
  /// - Throws: `notFound` for id 0, `ttlTooLarge`, `exists`.
  public mutating func grant(
    _ id: LeaseID, ttl: Int64, now: UInt64
  ) throws(LeaseError) -> LeaseRecord {
    guard id != 0 else { throw .notFound }
    guard ttl <= Self.ttlMax else { throw .ttlTooLarge }
    guard table[id] == nil else { throw .exists }
    let granted = max(ttl, ttlMin)
    table[id] = makeLease(ttl: granted)
    if isPrimary {
      setDeadline(id, Self.after(granted, from: now))
      scheduleCheckpoint(id, now: now)
    }
    return LeaseRecord(id: id, ttl: granted)
  }

  /// Ends a lease. Its keys are detached; the caller deletes them.
  /// - Throws: `notFound`.
  public mutating func revoke(_ id: LeaseID) throws(LeaseError) -> LeaseRevocation {
    guard let lease = table.removeValue(forKey: id) else { throw .notFound }
    for key in lease.keys { leaseByKey[key] = nil }
    pruneHeaps()
    return LeaseRevocation(
      keys: lease.keys.sorted { $0.precedes($1) }, effect: .delete(id))
  }

  /// Ties a key to a lease, and loosens it from the one it hung on before.
  /// - Throws: `notFound`; then nothing has changed.
  public mutating func attach(_ key: Bytes, to id: LeaseID) throws(LeaseError) {
    guard table[id] != nil else { throw .notFound }
    if let before = leaseByKey[key] {
      if before == id { return }
      table[before]?.keys.remove(key)
    }
    leaseByKey[key] = id
    table[id]?.keys.insert(key)
  }

  /// Loosens a key from its lease, if it has one: it was deleted or put without a lease.
  public mutating func detach(_ key: Bytes) {
    if let id = leaseByKey.removeValue(forKey: key) { table[id]?.keys.remove(key) }
  }

  /// Loosens a key from this lease, unless it hangs on another one.
  public mutating func detach(_ key: Bytes, from id: LeaseID) {
    if leaseByKey[key] == id { detach(key) }
  }

  public func lease(ofKey key: Bytes) -> LeaseID? { leaseByKey[key] }

  /// Attached keys in byte order; nil if there is no such lease.
  public func keys(of id: LeaseID) -> [Bytes]? {
    table[id]?.keys.sorted { $0.precedes($1) }
  }

  /// Applies a checkpoint: a new leader will start from `remainingTTL` seconds, or from the full TTL
  /// if that is 0. Deadlines that are running do not change.
  /// - Returns: the record to store if checkpoints are to be persistent; nil for an unknown lease,
  ///   which is no error.
  public mutating func checkpoint(_ id: LeaseID, remainingTTL: Int64) -> LeaseEffect? {
    guard let lease = table[id] else { return nil }
    let remaining = min(max(0, remainingTTL), lease.ttl)
    table[id]?.remainingTTL = remaining
    table[id]?.checkpointInFlight = false
    return .put(LeaseRecord(id: id, ttl: lease.ttl, remainingTTL: remaining))
  }

  // MARK: Persistence

  /// Records of all leases, by ascending id.
  public var records: [LeaseRecord] {
    leases.compactMap { id in
      table[id].map { LeaseRecord(id: id, ttl: $0.ttl, remainingTTL: $0.remainingTTL) }
    }
  }

  /// Replaces everything with stored leases (start, snapshot) and stops all clocks. Keys are not
  /// part of it: the caller attaches each key that carries a lease.
  public mutating func restore(_ records: [LeaseRecord]) {
    demote()
    table.removeAll()
    leaseByKey.removeAll()
    for record in records where record.id != 0 {
      var lease = makeLease(ttl: max(record.ttl, ttlMin))
      lease.remainingTTL = min(max(0, record.remainingTTL), lease.ttl)
      table[record.id] = lease
    }
  }

  // MARK: The leader's clocks

  /// Starts the clocks, once the first entry of the new term is applied.
  ///
  /// Every lease gets its checkpointed remaining time, else its full TTL, and the extension. With
  /// more than 1000 leases, expiries are spread so that at most 750 fall due per second.
  /// - Parameter extend: nanoseconds: the election timeout, in which nobody could be renewed.
  public mutating func promote(now: UInt64, extend: UInt64) {
    isPrimary = true
    var entries: [DeadlineHeap.Entry] = []
    entries.reserveCapacity(table.count)
    for (id, lease) in table {
      let seconds = lease.remainingTTL > 0 ? lease.remainingTTL : lease.ttl
      let due = Self.after(seconds, from: now).addingClamped(extend)
      entries.append(.init(due: due, lease: id, incarnation: lease.incarnation))
    }
    entries.sort { $0.precedes($1) }
    if entries.count > Self.unpacedLeasesMax { Self.pace(&entries) }
    for entry in entries {
      table[entry.lease]?.deadline = entry.due
      table[entry.lease]?.checkpointInFlight = false
      table[entry.lease]?.checkpointIsScheduled = false
    }
    deadlines = DeadlineHeap(entries)
    checkpoints = DeadlineHeap()
    if checkpointInterval != nil {
      for entry in entries { scheduleCheckpoint(entry.lease, now: now) }
    }
  }

  /// Stops the clocks: this member leads no longer.
  public mutating func demote() {
    isPrimary = false
    deadlines = DeadlineHeap()
    checkpoints = DeadlineHeap()
  }

  /// Answers a keepalive. The owner must have proved its leadership if its clock stood still.
  public mutating func renew(_ id: LeaseID, now: UInt64) -> RenewOutcome {
    guard isPrimary else { return .notPrimary }
    guard let lease = table[id] else { return .notFound }
    guard now < lease.deadline else { return .expiredPendingRevoke }
    if lease.remainingTTL > 0 || lease.checkpointInFlight { return .clearCheckpointFirst }
    // The heap entry stays where it is, earlier than the new deadline; `expired` puts it back.
    table[id]?.deadline = max(lease.deadline, Self.after(lease.ttl, from: now))
    scheduleCheckpoint(id, now: now)
    return .renewed(ttl: lease.ttl)
  }

  /// Takes leases whose time is up and whose revocation is to be proposed, earliest first. Each is
  /// returned again after the retry period while it exists.
  public mutating func expired(now: UInt64, limit: Int = 500) -> [LeaseID] {
    guard isPrimary else { return [] }
    var expired: [LeaseID] = []
    while expired.count < limit, let first = deadlines.first, first.due <= now {
      var entry = deadlines.removeFirst()
      guard let lease = table[entry.lease], lease.incarnation == entry.incarnation else { continue }
      if lease.deadline > now {
        entry.due = lease.deadline
      } else {
        expired.append(entry.lease)
        entry.due = now.addingClamped(retryPeriod)
      }
      if entry.due < .max { deadlines.insert(entry) }
    }
    return expired
  }

  /// What is left of a lease; nil if there is none (the client is told TTL -1).
  /// - Throws: `notPrimary`: ask the leader.
  public func timeToLive(_ id: LeaseID, now: UInt64) throws(LeaseError) -> LeaseTimeToLive? {
    guard isPrimary else { throw .notPrimary }
    guard let lease = table[id] else { return nil }
    let remaining =
      lease.deadline >= now
      ? Int64((lease.deadline - now) / Self.second) : -Int64((now - lease.deadline) / Self.second)
    return LeaseTimeToLive(remaining: remaining, granted: lease.ttl)
  }

  /// When `expired` or `dueCheckpoints` may have something to return next; nil if never. It may be
  /// early, not late.
  public var nextDue: UInt64? {
    switch (deadlines.first?.due, checkpoints.first?.due) {
    case (let expiry?, let checkpoint?): min(expiry, checkpoint)
    case (let expiry, let checkpoint): expiry ?? checkpoint
    }
  }

  /// Takes checkpoints that are to be proposed now.
  public mutating func dueCheckpoints(now: UInt64, limit: Int = 1000) -> [LeaseCheckpoint] {
    guard isPrimary else { return [] }
    var due: [LeaseCheckpoint] = []
    while due.count < limit, let first = checkpoints.first, first.due <= now {
      let entry = checkpoints.removeFirst()
      guard let lease = table[entry.lease], lease.incarnation == entry.incarnation else { continue }
      table[entry.lease]?.checkpointIsScheduled = false
      let left = lease.deadline > now ? lease.deadline - now : 0
      let remaining = Int64(
        min(left.addingClamped(Self.second - 1) / Self.second, UInt64(Int64.max)))
      if left > 0, remaining < lease.ttl {
        table[entry.lease]?.checkpointInFlight = true
        due.append(LeaseCheckpoint(id: entry.lease, remainingTTL: remaining))
      }
      scheduleCheckpoint(entry.lease, now: now)
    }
    return due
  }

  // MARK: Helpers

  /// Entries in the heaps, those of revoked leases included.
  var scheduledCount: Int { deadlines.count + checkpoints.count }

  private mutating func makeLease(ttl: Int64) -> Lease {
    incarnations += 1
    return Lease(ttl: ttl, incarnation: incarnations)
  }

  private mutating func setDeadline(_ id: LeaseID, _ deadline: UInt64) {
    guard let incarnation = table[id]?.incarnation else { return }
    table[id]?.deadline = deadline
    deadlines.insert(.init(due: deadline, lease: id, incarnation: incarnation))
  }

  /// Checkpoints matter to leases that outlive the interval; a lease's last stretch needs none.
  private mutating func scheduleCheckpoint(_ id: LeaseID, now: UInt64) {
    guard let checkpointInterval, let lease = table[id], !lease.checkpointIsScheduled else {
      return
    }
    let due = now.addingClamped(checkpointInterval)
    guard lease.deadline > due else { return }
    table[id]?.checkpointIsScheduled = true
    checkpoints.insert(.init(due: due, lease: id, incarnation: lease.incarnation))
  }

  /// Entries of revoked leases go when they are due; before that, when they become the majority.
  private mutating func pruneHeaps() {
    let entriesMax = 2 * table.count + 64
    guard max(deadlines.count, checkpoints.count) > entriesMax else { return }
    let table = self.table
    let isCurrent = { (entry: DeadlineHeap.Entry) in
      table[entry.lease]?.incarnation == entry.incarnation
    }
    deadlines.prune(isCurrent)
    checkpoints.prune(isCurrent)
  }

  /// Moves sorted deadlines later, none earlier, until they keep their distance.
  private static func pace(_ entries: inout [DeadlineHeap.Entry]) {
    let distance = (second + expiriesPerSecondMax - 1) / expiriesPerSecondMax
    for position in entries.indices.dropFirst() {
      let earliest = entries[position - 1].due.addingClamped(distance)
      entries[position].due = max(entries[position].due, earliest)
    }
  }

  private static func after(_ seconds: Int64, from now: UInt64) -> UInt64 {
    let (nanoseconds, overflow) = UInt64(max(0, seconds))
      .multipliedReportingOverflow(by: second)
    return overflow ? .max : now.addingClamped(nanoseconds)
  }
}

extension UInt64 {
  /// The sum, at most `UInt64.max`: a deadline that far off never comes.
  fileprivate func addingClamped(_ other: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}
