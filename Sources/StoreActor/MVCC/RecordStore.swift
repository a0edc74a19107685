public import Base

/// Where the values live: one record per change, keyed by revision.
///
/// A put's record is the encoded mvccpb.KeyValue exactly as etcd stores it (fields ascending, zeros
/// left out); a tombstone's holds only the key. Used on the store thread. Reads see every earlier
/// `append` and `remove` at once, committed to disk or not.
///
/// Durability is the store's matter, under two rules: appends and removals become durable in the
/// order issued (or together), and none before the scheduled compaction it belongs to.
public protocol RecordStore {
  /// Adds a record; `revision` is above all others (that are or ever were in the store).
  mutating func append(_ revision: Revision, isTombstone: Bool, record: Bytes)

  /// The record of the put at `revision`, which exists: the index knows it.
  func record(at revision: Revision) -> Bytes

  /// Calls `body` with the same record in place; the buffer is valid only during the call.
  func withRecord<Result>(
    at revision: Revision, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result

  /// Visits records with `first <= revision <= last` in order until `body` returns false.
  ///
  /// `body` gets the revision, whether it is a tombstone, and the record; the buffer is valid only
  /// during the call.
  ///
  /// - Parameter part: what `body` will read of a record.
  func forEachRecord(
    from first: Revision, through last: Revision, reading part: RecordPart,
    _ body: (Revision, Bool, UnsafeRawBufferPointer) -> Bool)

  /// Forgets a record that exists.
  mutating func remove(_ revision: Revision, isTombstone: Bool)
}

extension RecordStore {
  func forEachRecord(
    from first: Revision, through last: Revision,
    _ body: (Revision, Bool, UnsafeRawBufferPointer) -> Bool
  ) {
    forEachRecord(from: first, through: last, reading: .whole, body)
  }
}

/// What a scan reads of each record; a hint to what has to come from the disk.
public enum RecordPart: Sendable {
  case whole
  /// Its fields but not its value, which may be long: the first bytes and the last.
  case edges
}

/// Records in memory: for tests and simulation.
public struct MemoryRecordStore: RecordStore, Sendable {
  private struct Record: Sendable {
    let revision: Revision
    let isTombstone: Bool
    /// Nil once removed; swept when many are.
    var bytes: Bytes?
  }

  private var records: [Record] = []
  private var removed = 0

  public init() {}

  public var count: Int { records.count - removed }

  public mutating func append(_ revision: Revision, isTombstone: Bool, record: Bytes) {
    precondition(records.last.map { $0.revision < revision } ?? true, "append out of order")
    records.append(Record(revision: revision, isTombstone: isTombstone, bytes: record))
  }

  public func record(at revision: Revision) -> Bytes {
    let slot = firstSlot(notBelow: revision)
    guard slot < records.count, records[slot].revision == revision,
      !records[slot].isTombstone, let bytes = records[slot].bytes
    else { preconditionFailure("no record at \(revision)") }
    return bytes
  }

  public func withRecord<Result>(
    at revision: Revision, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    record(at: revision).withUnsafeBytes(body)
  }

  public func forEachRecord(
    from first: Revision, through last: Revision, reading part: RecordPart,
    _ body: (Revision, Bool, UnsafeRawBufferPointer) -> Bool
  ) {
    for record in records[firstSlot(notBelow: first)...] {
      guard record.revision <= last else { return }
      guard let bytes = record.bytes else { continue }
      guard bytes.withUnsafeBytes({ body(record.revision, record.isTombstone, $0) }) else { return }
    }
  }

  public mutating func remove(_ revision: Revision, isTombstone: Bool) {
    let slot = firstSlot(notBelow: revision)
    precondition(
      slot < records.count && records[slot].revision == revision
        && records[slot].isTombstone == isTombstone && records[slot].bytes != nil,
      "no record at \(revision)")
    records[slot].bytes = nil
    removed += 1
    if removed > 1024 && removed > records.count / 2 {
      records.removeAll { $0.bytes == nil }
      removed = 0
    }
  }

  private func firstSlot(notBelow revision: Revision) -> Int {
    var (low, high) = (0, records.count)
    while low < high {
      let middle = (low + high) / 2
      if records[middle].revision < revision { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
