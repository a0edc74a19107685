extension KeyValueMachine {
  /// Puts a new limit to history in force: reads below `revision` are refused from here on.
  ///
  /// The owner stores ``compactRevision`` as scheduled, then calls ``compactionStep(keys:)`` until it
  /// is done, and stores ``finishedCompactRevision``.
  /// - Throws: `compacted` if the limit is there or above already, `futureRevision`.
  public mutating func compact(at revision: Int64) throws(KVError) {
    if revision <= compactRevision { throw .compacted }
    if revision > currentRevision { throw .futureRevision }
    compactRevision = revision
  }

  /// Removes records that compaction has made unreachable, a slice at a time.
  ///
  /// A limit set while a pass is under way gets a pass of its own afterwards. After a restart the
  /// pass begins anew; what it removed before stays removed, and the outcome is the same.
  /// - Parameters:
  ///   - keys: about how many keys to look at.
  ///   - drops: at most how many records to remove.
  /// - Returns: whether nothing is left to do.
  public mutating func compactionStep(keys: Int, drops: Int = .max) -> Bool {
    if compaction == nil {
      guard finishedCompactRevision < compactRevision else { return true }
      compaction = CompactionCursor(revision: compactRevision)
    }
    guard var cursor = compaction else { return true }
    index.compact(&cursor, keys: keys, drops: drops) { dropped in
      store.remove(dropped.revision, isTombstone: dropped.isTombstone)
      removedRecords += 1
    }
    compaction = cursor
    if cursor.isDone {
      finishedCompactRevision = cursor.revision
      compaction = nil
    }
    return finishedCompactRevision == compactRevision
  }
}
