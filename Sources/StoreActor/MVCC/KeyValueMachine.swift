public import Base

/// etcd's multi-version key-value store as a value: requests in, results and changes out.
///
/// Deterministic: members that apply the same requests hold the same revisions and records, byte for
/// byte. Does no I/O; values live in the `Store`. Used by one thread.
public struct KeyValueMachine<Store: RecordStore> {
  /// The revision of the newest change; 1 in a fresh store.
  public internal(set) var currentRevision: Int64 = 1
  /// Reads below this revision are refused; -1 if there never was a compaction.
  public internal(set) var compactRevision: Int64 = -1
  /// Records that this compaction needs no longer are gone. Below ``compactRevision`` while a
  /// compaction is under way.
  public internal(set) var finishedCompactRevision: Int64 = -1
  /// Only the owner's own parts (flushing, statistics) may be changed from outside.
  public var store: Store
  public internal(set) var index = KeyIndex()
  var compaction: CompactionCursor?
  /// Records that compactions have removed since this machine exists.
  public internal(set) var removedRecords: UInt64 = 0

  /// A fresh store. `store` must be empty.
  public init(store: Store) { self.store = store }

  /// Why a stored state cannot be taken up.
  public enum RestoreError: Error, Equatable, Sendable {
    /// The record is not a key-value message, or has no key.
    case unreadableRecord(Revision)
  }

  /// Takes up a stored state: rebuilds the index from all records.
  ///
  /// - Parameters:
  ///   - finishedCompactRevision: of the newest compaction that was completed, -1 if none.
  ///   - scheduledCompactRevision: of the newest compaction that was begun, -1 if none. When it is
  ///     above the finished one, ``compactionStep(keys:)`` has work at once.
  public init(
    restoring store: Store, finishedCompactRevision: Int64, scheduledCompactRevision: Int64
  ) throws(RestoreError) {
    self.store = store
    var index = KeyIndex()
    var batch = RestoreBatch()
    var newest: Int64 = 1
    var unreadable: Revision?
    let all = Revision(main: .max, sub: .max)
    store.forEachRecord(from: Revision(main: 0), through: all, reading: .edges) {
      revision, isTombstone, record in
      guard let fields = try? StoredKeyValue(parsing: record), !fields.key.isEmpty else {
        unreadable = revision
        return false
      }
      newest = revision.main
      let key = UnsafeRawBufferPointer(rebasing: record[fields.key])
      batch.add(
        key, mark: Mark(revision, isTombstone: isTombstone, isLeased: fields.lease != 0),
        created: fields.createRevision, version: fields.version)
      if batch.isFull { batch.flush(into: &index) }
      return true
    }
    if let unreadable { throw .unreadableRecord(unreadable) }
    batch.flush(into: &index)
    index.finishRestore()
    self.index = index
    self.finishedCompactRevision = finishedCompactRevision
    compactRevision = max(finishedCompactRevision, scheduledCompactRevision)
    currentRevision = max(newest, compactRevision, 1)
  }

  /// Calls `body` for every live key with a lease, in key order: what leases need after a restart.
  public func forEachLeasedKey(_ body: (LeaseID, Bytes) -> Void) {
    _ = index.scan(KeyBounds(.from([])), at: .max, visitsMax: .max) { visible in
      if visible.mark.isLeased {
        body(lease(at: visible.mark.revision), Bytes(visible.key))
      }
      return true
    }
  }

  func lease(at revision: Revision) -> LeaseID {
    StoredKeyValue(store.record(at: revision)).lease
  }
}

/// The revision that a write request gets if it changes anything, and the changes made so far.
struct WriteStep {
  let main: Int64
  private(set) var sub: Int64 = 0

  init(after current: Int64) { main = current + 1 }

  var hasChanged: Bool { sub > 0 }

  /// The newest revision that a read at this point of the request sees.
  var visible: Int64 { hasChanged ? main : main - 1 }

  mutating func next() -> Revision {
    defer { sub += 1 }
    return Revision(main: main, sub: sub)
  }
}

extension KeyValueMachine: Sendable where Store: Sendable {}
