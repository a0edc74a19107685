public import Base

extension KeyValueMachine {
  /// Reads past changes for watchers that are behind, in order and in whole revisions.
  ///
  /// - Parameters:
  ///   - first: the revision to begin with.
  ///   - recordsMax: stops after the revision in which this many records have been read. At least
  ///     one revision is read.
  ///   - bytesMax: likewise, for the size of the records.
  ///   - matches: whether anybody wants changes of this key; the buffer is valid only in the call.
  ///   - changes: where matching changes are appended.
  /// - Returns: the revision to go on with; `currentRevision + 1` when all has been read.
  /// - Throws: `compacted` when `first` is below the compact revision.
  public func changes(
    from first: Int64, recordsMax: Int, bytesMax: Int = .max,
    matching matches: (UnsafeRawBufferPointer) -> Bool, into changes: inout [Change]
  ) throws(KVError) -> Int64 {
    if first < compactRevision { throw .compacted }
    var read = 0
    var bytes = 0
    var main: Int64 = 0
    var next = currentRevision + 1
    var found: [Change] = []
    let last = Revision(main: currentRevision, sub: .max)
    store.forEachRecord(from: Revision(main: first), through: last) {
      revision, isTombstone, record in
      if revision.main != main && main != 0 && (read >= recordsMax || bytes >= bytesMax) {
        next = revision.main
        return false
      }
      main = revision.main
      read += 1
      bytes += record.count
      let fields = StoredKeyValue(trusted: record)
      let key = UnsafeRawBufferPointer(rebasing: record[fields.key])
      if matches(key) {
        found.append(Self.change(revision, isTombstone, key: Bytes(key), record))
      }
      return true
    }
    changes += found
    return max(next, first)
  }

  private static func change(
    _ revision: Revision, _ isTombstone: Bool, key: Bytes, _ record: UnsafeRawBufferPointer
  ) -> Change {
    Change(
      kind: isTombstone ? .delete : .put, key: key, revision: revision,
      keyValue: isTombstone
        ? StoredKeyValue.encodeDeletion(key: key, at: revision.main) : Bytes(record))
  }

  /// The key-value that a change at `revision` replaced, encoded; nil if there was none, or if that
  /// revision is compacted.
  public func previousKeyValue(of key: Bytes, before revision: Int64) -> Bytes? {
    guard revision - 1 >= compactRevision,
      let stored = index.revision(of: key, at: revision - 1)
    else { return nil }
    return store.record(at: stored)
  }
}
