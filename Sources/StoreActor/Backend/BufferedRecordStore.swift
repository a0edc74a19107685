public import Base

/// The store's records as the STORE thread sees them: the committed file, under the buffers that are
/// on their way into it, under the buffer being filled.
///
/// Cycle: apply entries with `append`, `remove`, `put`, `delete`; `seal` and hand the result to the
/// BACKEND thread; when it reports the commit, `didCommit`. Confined to one thread (not Sendable).
public final class BufferedRecordStore {
  private let backend: Backend
  private let view: ReadView
  private var active = WriteBuffer()
  /// Sealed and not known to be committed, oldest first.
  private var sealed: [SealedBuffer] = []

  public init(backend: Backend) throws(BackendError) {
    self.backend = backend
    view = try backend.makeReadView()
  }

  /// Bytes applied and not yet committed.
  public var pendingBytes: Int {
    sealed.reduce(active.byteCount) { $0 + $1.buffer.byteCount }
  }

  /// True when nothing was applied since the last `seal`.
  public var isActiveEmpty: Bool { active.isEmpty }

  // MARK: Changes

  /// Adds a record. - Precondition: `revision` is higher than every one before.
  public func append(_ revision: Revision, isTombstone: Bool, _ record: Bytes) {
    if active.recordCount == 0, let last = sealed.last?.buffer.lastRevision {
      precondition(last < revision, "records are appended in order of revision")
    }
    active.append(revision, isTombstone: isTombstone, record)
  }

  /// Hides the record at once and deletes it with the next commit (compaction).
  public func remove(_ revision: Revision) { active.remove(revision) }

  /// A change of another table. Not visible here before its commit: those tables' owners keep their
  /// state in memory and read the file only at start.
  public func put(_ bucket: BackendBucket, _ key: Bytes, _ value: Bytes) {
    active.put(bucket, key, value)
  }

  public func delete(_ bucket: BackendBucket, _ key: Bytes) { active.delete(bucket, key) }

  // MARK: Commit cycle

  /// Closes the active buffer, for the BACKEND thread to commit, and begins another. Works on an
  /// empty buffer too: the index may have moved over entries without effect.
  public func seal(consistentIndex: LogIndex, term: Term) -> SealedBuffer {
    let result = SealedBuffer(
      id: backend.takeBufferID(), consistentIndex: consistentIndex, term: term, buffer: active)
    active = WriteBuffer(sizedLike: result.buffer)
    sealed.append(result)
    return result
  }

  /// Buffers up to `id` are in the file: moves the view there and drops them. Invalidates buffers
  /// handed out before.
  public func didCommit(through id: UInt64) throws(BackendError) {
    try view.renew()
    sealed.removeAll { $0.id <= id }
  }

  /// Moves to the newest file after a defragmentation, so that the old one can go.
  public func renew() throws(BackendError) { try view.renew() }

  public var isStale: Bool { view.isStale }

  // MARK: Reads

  /// The record at `revision`, tombstone or not; nil if there is none or it was removed.
  public func record(at revision: Revision) throws(BackendError) -> Bytes? {
    try withRecord(at: revision) { Bytes($0) }
  }

  /// Calls `body` with the record in place, without a copy; valid during the call.
  public func withRecord<Result>(
    at revision: Revision, _ body: (UnsafeRawBufferPointer) -> Result
  ) throws(BackendError) -> Result? {
    if isRemoved(revision) { return nil }
    if let first = active.firstRevision, revision >= first {
      return active.withRecord(at: revision, body)
    }
    for pending in sealed.reversed() {
      if let first = pending.buffer.firstRevision, revision >= first {
        return pending.buffer.withRecord(at: revision, body)
      }
    }
    return try view.record(at: revision).map(body)
  }

  /// Visits records from `first` on, in order of revision, until `body` returns false.
  public func scan(
    from first: Revision = Revision(main: 0), reading part: RecordPart = .whole,
    _ body: (_ revision: Revision, _ isTombstone: Bool, _ record: UnsafeRawBufferPointer) -> Bool
  ) throws(BackendError) {
    let mayHide = active.hasRemovals || sealed.contains { $0.buffer.hasRemovals }
    let buffers = sealed.map(\.buffer) + [active]
    // The view may already show what a buffer holds, when it was renewed before `didCommit`.
    let buffered = buffers.lazy.compactMap(\.firstRevision).first
    var goesOn = true
    try view.scanRecords(from: first, reading: part) { revision, isTombstone, record in
      if let buffered, revision >= buffered { return false }
      if mayHide, isRemoved(revision) { return true }
      goesOn = body(revision, isTombstone, record)
      return goesOn
    }
    for buffer in buffers where goesOn {
      goesOn = buffer.scan(from: first) { revision, isTombstone, record in
        mayHide && isRemoved(revision) ? true : body(revision, isTombstone, record)
      }
    }
  }

  /// The newest record's revision, removed ones included.
  public func lastRevision() throws(BackendError) -> Revision? {
    if let last = active.lastRevision { return last }
    for pending in sealed.reversed() {
      if let last = pending.buffer.lastRevision { return last }
    }
    return try view.lastRevision()
  }

  private func isRemoved(_ revision: Revision) -> Bool {
    if active.hasRemovals, active.hasRemoved(revision) { return true }
    return sealed.contains { $0.buffer.hasRemovals && $0.buffer.hasRemoved(revision) }
  }
}
