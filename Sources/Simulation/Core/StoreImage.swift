import Base
import RaftActor
import StoreActor

/// Records in memory, through which a planted fault can hide a tombstone.
struct SimulatedRecords: RecordStore, Sendable {
  var records = MemoryRecordStore()
  /// Planted: the tombstone at this revision is not there for whoever reads history.
  var hiddenTombstone: Int64?

  mutating func append(_ revision: Revision, isTombstone: Bool, record: Bytes) {
    records.append(revision, isTombstone: isTombstone, record: record)
  }

  func record(at revision: Revision) -> Bytes { records.record(at: revision) }

  func withRecord<Result>(
    at revision: Revision, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    records.withRecord(at: revision, body)
  }

  func forEachRecord(
    from first: Revision, through last: Revision, reading part: RecordPart,
    _ body: (Revision, Bool, UnsafeRawBufferPointer) -> Bool
  ) {
    guard let hiddenTombstone else {
      return records.forEachRecord(from: first, through: last, reading: part, body)
    }
    records.forEachRecord(from: first, through: last, reading: part) {
      revision, isTombstone, record in
      if isTombstone && revision.main == hiddenTombstone { return true }
      return body(revision, isTombstone, record)
    }
  }

  mutating func remove(_ revision: Revision, isTombstone: Bool) {
    records.remove(revision, isTombstone: isTombstone)
  }
}

typealias SimulatedMachine = StateMachine<SimulatedRecords>

/// What the store's file holds: everything that belongs to one applied index, in one transaction.
struct StoreImage: Sendable {
  var records = SimulatedRecords()
  var finishedCompactRevision: Int64 = -1
  var scheduledCompactRevision: Int64 = -1
  var leases: [LeaseRecord] = []
  var alarms: [AlarmSet.Alarm] = []
  var membership = Membership()
  var applied: LogIndex = 0
  var term: Term = 0
  /// The oracle's checksum of the entries it stands for.
  var chain: UInt64 = 0

  init() {}

  init(_ machine: SimulatedMachine, chain: UInt64) {
    records = machine.kv.store
    finishedCompactRevision = machine.kv.finishedCompactRevision
    scheduledCompactRevision = machine.kv.compactRevision
    leases = machine.lessor.records
    alarms = machine.alarms.alarms
    membership = machine.membership
    applied = machine.applied
    term = machine.appliedTerm
    self.chain = chain
  }

  /// Takes the state up as a start does: the index is rebuilt from the records.
  func load(settings: SimulatedMachine.Settings, lessor: Lessor) throws(Violation)
    -> SimulatedMachine
  {
    var lessor = lessor
    lessor.demote()
    lessor.restore(leases)
    let kv: KeyValueMachine<SimulatedRecords>
    do {
      kv = try KeyValueMachine(
        restoring: records, finishedCompactRevision: finishedCompactRevision,
        scheduledCompactRevision: scheduledCompactRevision)
    } catch {
      throw Violation(.recovery, "the store cannot be read: \(error)")
    }
    var orphan: LeaseID?
    kv.forEachLeasedKey { lease, key in
      do { try lessor.attach(key, to: lease) } catch { orphan = lease }
    }
    if let orphan { throw Violation(.atomicApply, "lease \(orphan) of a stored key is missing") }
    return StateMachine(
      settings: settings, kv: kv, lessor: lessor, alarms: AlarmSet(alarms),
      membership: membership, applied: applied, appliedTerm: term)
  }
}
