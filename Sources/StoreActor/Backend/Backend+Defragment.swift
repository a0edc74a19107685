import Base
import CLMDB
import Synchronization

/// A read transaction that stays where it is.
final class PinnedTransaction {
  let environment: Environment
  let txn: OpaquePointer

  init(_ environment: Environment) throws(BackendError) {
    self.environment = environment
    txn = try environment.beginRead()
  }

  deinit { mdb_txn_abort(txn) }
}

/// A defragmentation under way: the copy, what it copies from, and what was committed since.
final class DefragmentCopy {
  let source: PinnedTransaction
  let target: Environment
  var bucket: BackendBucket? = BackendBucket.allCases.first
  /// Last key copied in `bucket`; empty at its beginning.
  var lastKey: Bytes = []
  var journal: [(batch: WriteBatch, consistentIndex: UInt64, term: Term)] = []
  var journalBytes = 0

  init(source: PinnedTransaction, target: Environment) {
    self.source = source
    self.target = target
  }

  var isCopied: Bool { bucket == nil }

  /// Copies on from where the last call stopped, about `maxBytes`, in one transaction.
  func copy(maxBytes: Int) throws(BackendError) {
    try target.write { (txn) throws(BackendError) in
      var budget = maxBytes
      while let bucket, budget > 0 {
        budget = try copy(bucket, budget, txn)
        guard budget > 0 else { return }
        let next = BackendBucket(rawValue: bucket.rawValue + 1)
        self.bucket = next
        lastKey = []
      }
    }
  }

  /// Returns the budget left; positive means that the table is complete.
  private func copy(
    _ bucket: BackendBucket, _ maxBytes: Int, _ txn: OpaquePointer
  ) throws(BackendError) -> Int {
    var budget = maxBytes
    let cursor = try TableCursor(source.environment, source.txn, bucket)
    var entry = try lastKey.withBuffer { (raw) throws(BackendError) in try cursor.seek(raw) }
    if !lastKey.isEmpty, entry != nil { entry = try cursor.next() }
    while let (key, value) = entry {
      try target.putStored(txn, bucket, key, value, append: true)
      budget -= key.count + value.count + 16
      if budget <= 0 {
        lastKey = Bytes(key)
        return budget
      }
      entry = try cursor.next()
    }
    return budget
  }
}

extension Backend {
  /// Bytes per transaction of bulk copies: bounds the memory that LMDB's dirty pages take.
  public static let copySliceBytes = 32 << 20
  /// The same for copies beside a running load: what a sync of the log may have to wait for.
  static let gentleSliceBytes = 4 << 20

  /// Rewrites the file without free pages and puts it in place. BACKEND thread; blocks it for the
  /// whole copy. Readers go on with what they see until they renew; the old file's space is given
  /// back when the last of them has done so. On an error the old file stays in use.
  public func defragment() throws(BackendError) {
    try beginDefragment()
    while try !continueDefragment(maxBytes: Self.copySliceBytes) {}
    try finishDefragment()
  }

  /// Starts a defragmentation in slices: `commit` may be called between them, and what it writes is
  /// kept in memory and repeated on the copy at the end.
  ///
  /// - Precondition: none is under way.
  public func beginDefragment() throws(BackendError) {
    try writer.withLock { (state) throws(BackendError) in
      precondition(state.copy == nil, "a defragmentation is under way")
      guard !state.isUnusable else { throw .unusable(file: environment.path) }
      let target = try Self.makeTemporary(directory, options, owner)
      state.copy = DefragmentCopy(
        source: try PinnedTransaction(environment), target: target)
    }
  }

  /// Copies about `maxBytes` more, and waits until they are on the disk. True when only
  /// `finishDefragment` is left to do. An error cancels the defragmentation.
  public func continueDefragment(maxBytes: Int) throws(BackendError) -> Bool {
    try writer.withLock { (state) throws(BackendError) in
      guard let copy = state.copy else { preconditionFailure("no defragmentation is under way") }
      do throws(BackendError) {
        try copy.copy(maxBytes: maxBytes)
        copy.target.writeBack()
      } catch {
        state.copy = nil
        try? Self.removeTemporaries(directory)
        throw error
      }
      return copy.isCopied
    }
  }

  /// Bytes of commits that are kept in memory for the copy under way.
  var journalBytes: Int { writer.withLock { $0.copy?.journalBytes ?? 0 } }

  /// Repeats the commits made meanwhile, makes the copy durable and swaps it in.
  public func finishDefragment() throws(BackendError) {
    try writer.withLock { (state) throws(BackendError) in
      guard let copy = state.copy, copy.isCopied else {
        preconditionFailure("the copy is not complete")
      }
      state.copy = nil
      do throws(BackendError) {
        for (batch, index, term) in copy.journal {
          try copy.target.apply(batch, consistentIndex: index, term: term)
        }
        try copy.target.sealAfterBulkLoad(syncEachCommit: !options.noSync)
      } catch {
        try? Self.removeTemporaries(directory)
        throw error
      }
      try swapIn(copy.target, &state)
    }
  }

  /// Gives up a defragmentation, if one is under way.
  public func cancelDefragment() throws(BackendError) {
    try writer.withLock { (state) throws(BackendError) in
      state.copy = nil
      try Self.removeTemporaries(directory)
    }
  }

  /// The deciding step of defragmentation and snapshot install. A failure inside it leaves open
  /// which file a restart would find, so it ends writing through this handle.
  func swapIn(_ target: Environment, _ state: inout WriterState) throws(BackendError) {
    do throws(BackendError) {
      try Self.putInPlace(directory)
    } catch {
      state.isUnusable = true
      throw error
    }
    state.replaced.add(environment)
    try adopt(target)
  }

  /// Gives back a part of the space of files that were replaced, about `maxBytes`. BACKEND thread.
  public func reclaim(maxBytes: Int) -> ReplacedFiles.Progress {
    writer.withLock { $0.replaced.reclaim(maxBytes: maxBytes) }
  }
}
