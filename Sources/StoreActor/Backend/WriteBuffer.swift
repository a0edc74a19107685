public import Base
import Synchronization

/// Changes applied but not yet committed, readable by revision.
///
/// Revisions arrive in order, so a record is found by counting, without hashing: the index holds
/// where each main revision starts. A value: sealing hands it to the BACKEND thread without a copy.
public struct WriteBuffer: Sendable {
  public private(set) var batch = WriteBatch()
  /// The records' revisions, ascending, and the operation of `batch` that writes each.
  private var revisions: [Revision] = []
  private var operationIndexes: [Int32] = []
  /// Position in `revisions` of the first record with main revision `revisions[0].main + index`.
  private var starts: [Int32] = []
  /// Records removed since, in this buffer or in anything older. Never iterated.
  private var removed: Set<Revision> = []

  /// A jump in main revisions larger than this is not filled in the index but searched for.
  private static let gapMax: Int64 = 1_024

  public init() {}

  /// An empty buffer with room for about as much as `previous` holds.
  init(sizedLike previous: WriteBuffer) {
    batch = WriteBatch(sizedLike: previous.batch)
    let count = min(previous.revisions.count, 1 << 16)
    revisions.reserveCapacity(count)
    operationIndexes.reserveCapacity(count)
    starts.reserveCapacity(count)
  }

  public var isEmpty: Bool { batch.isEmpty }
  public var byteCount: Int { batch.byteCount }
  public var recordCount: Int { revisions.count }
  public var firstRevision: Revision? { revisions.first }
  public var lastRevision: Revision? { revisions.last }
  var hasRemovals: Bool { !removed.isEmpty }

  /// - Precondition: `revision` is higher than every one before.
  public mutating func append(_ revision: Revision, isTombstone: Bool, _ record: Bytes) {
    if let last = revisions.last {
      precondition(last < revision, "records are appended in order of revision")
      let jump = revision.main - last.main
      if jump > 0, jump <= Self.gapMax, Int64(starts.count) == last.main - revisions[0].main + 1 {
        // Main revisions without a record point at the next record.
        starts.append(contentsOf: repeatElement(Int32(revisions.count), count: Int(jump)))
      }
    } else {
      starts.append(0)
    }
    operationIndexes.append(Int32(batch.count))
    revisions.append(revision)
    batch.putRecord(revision, isTombstone: isTombstone, record)
  }

  /// Deletes a record, of this buffer or of what is older, at this buffer's commit.
  public mutating func remove(_ revision: Revision) {
    batch.removeRecord(revision)
    removed.insert(revision)
  }

  public mutating func put(_ bucket: BackendBucket, _ key: Bytes, _ value: Bytes) {
    batch.put(bucket, key, value)
  }

  public mutating func delete(_ bucket: BackendBucket, _ key: Bytes) {
    batch.delete(bucket, key)
  }

  func hasRemoved(_ revision: Revision) -> Bool { removed.contains(revision) }

  /// Calls `body` with the record at `revision`; nil if it is not in this buffer.
  func withRecord<Result>(
    at revision: Revision, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result? {
    guard let position = position(of: revision) else { return nil }
    return batch.withValue(of: operation(at: position), body)
  }

  private func operation(at position: Int) -> WriteBatch.Operation {
    batch.operations[Int(operationIndexes[position])]
  }

  private func position(of revision: Revision) -> Int? {
    guard let first = revisions.first, let last = revisions.last, revision >= first,
      revision <= last
    else { return nil }
    let offset = revision.main - first.main
    if offset < Int64(starts.count), revision.sub < Int64(revisions.count) {
      let sub = offset == 0 ? revision.sub - first.sub : revision.sub
      let guess = Int(starts[Int(offset)]) + Int(sub)
      if guess >= 0, guess < revisions.count, revisions[guess] == revision { return guess }
    }
    let found = lowerBound(revision)
    return found < revisions.count && revisions[found] == revision ? found : nil
  }

  /// Position of the first record at or after `revision`.
  private func lowerBound(_ revision: Revision) -> Int {
    var low = 0
    var high = revisions.count
    while low < high {
      let middle = (low + high) / 2
      if revisions[middle] < revision { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Visits records from `first` on; false if `body` ended the scan.
  func scan(
    from first: Revision,
    _ body: (_ revision: Revision, _ isTombstone: Bool, _ record: UnsafeRawBufferPointer) -> Bool
  ) -> Bool {
    for position in lowerBound(first)..<revisions.count {
      let operation = operation(at: position)
      let isTombstone = Int(operation.keyCount) == RevisionKey.tombstoneByteCount
      let goesOn = batch.withValue(of: operation) { body(revisions[position], isTombstone, $0) }
      if !goesOn { return false }
    }
    return true
  }
}

/// A buffer that takes no more changes, with the position in the Raft log that it leads to.
public struct SealedBuffer: Sendable {
  /// Ascends with each seal, over all record stores of one backend.
  public let id: UInt64
  public let consistentIndex: LogIndex
  public let term: Term
  public let buffer: WriteBuffer
}

extension Backend {
  /// Commits a sealed buffer; see `commit(_:consistentIndex:term:)`. Buffers in order of id.
  ///
  /// A buffer that is in the file already, or that an installed snapshot has overtaken, is passed
  /// over: sending one twice does no harm. After a `diskFull` or `mapFull`, later buffers meet the
  /// same error until the one that failed is tried again: its entries must not be left out below a
  /// higher consistent index.
  public func commit(_ sealed: SealedBuffer) throws(BackendError) {
    let (committed, refused) = writer.withLock { ($0.committedBuffer, $0.refused) }
    if sealed.id <= committed { return }
    if let refused, sealed.id > refused.id { throw refused.error }
    do throws(BackendError) {
      try commit(
        sealed.buffer.batch, consistentIndex: sealed.consistentIndex, term: sealed.term)
      writer.withLock {
        $0.refused = nil
        $0.committedBuffer = sealed.id
      }
    } catch {
      writer.withLock { $0.refused = (sealed.id, error) }
      throw error
    }
  }
}
