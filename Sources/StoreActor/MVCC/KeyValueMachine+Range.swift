import Base
public import EtcdAPI
import FoundationEssentials

extension KeyValueMachine {
  /// Answers a validated range request from the current state or history, in one step.
  ///
  /// For ranges that may be long, ``openRange(_:)`` does it in slices.
  /// - Throws: `compacted` or `futureRevision`.
  public func range(_ request: Etcdserverpb_RangeRequest) throws(KVError) -> RangeResult {
    let revision = try readRevision(request.revision)
    return executeRange(request, at: revision, newest: currentRevision)
  }

  /// The revision to read at; zero and less mean the current one.
  func readRevision(_ asked: Int64) throws(KVError) -> Int64 {
    if asked <= 0 { return currentRevision }
    if asked > currentRevision { throw .futureRevision }
    if asked < compactRevision { throw .compacted }
    return asked
  }

  /// - Parameter newest: the newest revision visible to this read; also the header's.
  func executeRange(
    _ request: Etcdserverpb_RangeRequest, at revision: Int64, newest: Int64
  ) -> RangeResult {
    if request.rangeEnd.isEmpty && RangeCursor.isPlain(request) {
      return single(request, at: revision, newest: newest)
    }
    var cursor = cursor(request, at: revision, newest: newest)
    run(&cursor, visits: .max, bytes: .max)
    return cursor.result
  }

  private func single(
    _ request: Etcdserverpb_RangeRequest, at revision: Int64, newest: Int64
  ) -> RangeResult {
    var result = RangeResult(revision: newest)
    request.key.withUnsafeBytes { key in
      let location = index.find(key)
      guard location.isKnown else { return }
      let entry = index.entry(at: location)
      let mark = index.newestMark(in: entry, at: revision)
      guard !mark.isNone, !mark.isTombstone else { return }
      result.count = 1
      guard !request.countOnly else { return }
      let visible = VisibleKey(key: key, mark: mark, entry: entry)
      withRow(visible, keysOnly: request.keysOnly) { result.rows.append($0) }
    }
    return result
  }

  // MARK: - Rows

  /// One row. A key-only row comes from the index, which has no lease; etcd 3.7 leaves it out, too.
  private func withRow(
    _ visible: VisibleKey, keysOnly: Bool, _ body: (UnsafeRawBufferPointer) -> Void
  ) {
    guard keysOnly else { return store.withRecord(at: visible.mark.revision, body) }
    guard visible.isLatest else {
      return withRow(at: visible.mark.revision, keysOnly: true, keepsLease: false, body)
    }
    StoredKeyValue.encode(
      key: visible.key, createRevision: visible.entry.created, modRevision: visible.mark.main,
      version: visible.entry.version
    ).withUnsafeBytes(body)
  }

  private func withRow(
    at revision: Revision, keysOnly: Bool, keepsLease: Bool,
    _ body: (UnsafeRawBufferPointer) -> Void
  ) {
    store.withRecord(at: revision) { record in
      guard keysOnly else { return body(record) }
      let fields = StoredKeyValue(trusted: record)
      StoredKeyValue.encode(
        key: UnsafeRawBufferPointer(rebasing: record[fields.key]),
        createRevision: fields.createRevision, modRevision: fields.modRevision,
        version: fields.version, lease: keepsLease ? fields.lease : 0
      ).withUnsafeBytes(body)
    }
  }

  // MARK: - Slices

  /// Begins a long read that is pinned to its revision and advanced in slices.
  ///
  /// - Parameter request: validated.
  /// - Throws: `compacted` or `futureRevision`.
  public func openRange(_ request: Etcdserverpb_RangeRequest) throws(KVError) -> RangeCursor {
    cursor(request, at: try readRevision(request.revision), newest: currentRevision)
  }

  func cursor(
    _ request: Etcdserverpb_RangeRequest, at revision: Int64, newest: Int64
  ) -> RangeCursor {
    var cursor = RangeCursor(request, revision: revision, headerRevision: newest)
    if revision == newest { cursor.knowCount(index.count(in: cursor.range)) }
    return cursor
  }

  /// Reads on until about `visits` keys have been looked at or `bytes` of rows collected.
  ///
  /// - Returns: whether the read is complete.
  /// - Throws: `compacted` when compaction has passed the cursor's revision meanwhile.
  public func advance(
    _ cursor: inout RangeCursor, visits: Int, bytes: Int = .max
  ) throws(KVError) -> Bool {
    if cursor.isDone { return true }
    if cursor.revision < compactRevision { throw .compacted }
    run(&cursor, visits: visits, bytes: bytes)
    return cursor.isDone
  }

  /// At least one key or row is looked at.
  private func run(_ cursor: inout RangeCursor, visits: Int, bytes: Int) {
    if cursor.rest != nil {
      if cursor.sorter == nil {
        scan(&cursor, visits: visits, bytes: bytes)
      } else {
        scanToSort(&cursor, visits: visits, bytes: bytes)
      }
      // What sorting takes is work for another slice, if slices are wanted at all.
      if cursor.rest != nil || visits != .max { return }
    }
    collect(&cursor, visits: visits, bytes: bytes)
  }

  private func scan(_ cursor: inout RangeCursor, visits: Int, bytes: Int) {
    guard let bounds = cursor.rest else { return }
    let before = cursor.rows.byteCount
    let end = index.scan(bounds, at: cursor.revision, visitsMax: visits) { visible in
      if cursor.wantsRow {
        withRow(visible, keysOnly: cursor.keysOnly) { cursor.add($0) }
      }
      cursor.addToCount()
      return !cursor.hasAll && cursor.rows.byteCount - before < bytes
    }
    scanned(&cursor, end)
  }

  private func scanned(_ cursor: inout RangeCursor, _ end: KeyIndex.ScanEnd) {
    if case .paused(let next) = end, !cursor.hasAll {
      cursor.rest?.start = next
    } else {
      cursor.endScan()
    }
  }

  private func scanToSort(_ cursor: inout RangeCursor, visits: Int, bytes: Int) {
    guard let bounds = cursor.rest, var sorter = cursor.sorter else { return }
    // So that the rows are not copied when one is added.
    cursor.sorter = nil
    var kept = 0
    let end = index.scan(bounds, at: cursor.revision, visitsMax: visits) { visible in
      if !sorter.hasAll { kept += offer(visible, to: &sorter) }
      cursor.addToCount()
      return !(cursor.countIsKnown && sorter.hasAll) && kept < bytes
    }
    cursor.sorter = sorter
    scanned(&cursor, end)
  }

  private func offer(_ visible: VisibleKey, to sorter: inout RowSorter) -> Int {
    let revision = visible.mark.revision
    guard sorter.needsRecord, !visible.isLatest || sorter.target == .value else {
      return sorter.offer(
        revision, created: visible.entry.created, version: visible.entry.version, value: nil)
    }
    return store.withRecord(at: revision) { record in
      let fields = StoredKeyValue(trusted: record)
      let value = UnsafeRawBufferPointer(rebasing: record[fields.value])
      return sorter.offer(
        revision, created: fields.createRevision, version: fields.version,
        value: sorter.target == .value ? value : nil)
    }
  }

  /// Puts sorted rows into order, then reads them.
  private func collect(_ cursor: inout RangeCursor, visits: Int, bytes: Int) {
    guard var sorter = cursor.sorter else { return }
    cursor.sorter = nil
    let byValue = sorter.target == .value
    let before = cursor.rows.byteCount
    var isDone = false
    if sorter.arrange(visits) {
      var left = visits
      while left > 0, cursor.rows.byteCount - before < bytes {
        guard let revision = sorter.next() else {
          isDone = true
          break
        }
        withRow(at: revision, keysOnly: cursor.keysOnly, keepsLease: byValue) { cursor.add($0) }
        left -= 1
      }
    }
    cursor.sorter = sorter
    if isDone { cursor.endSorting() }
  }
}

extension KeyRange {
  public init(_ request: Etcdserverpb_RangeRequest) {
    self.init(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd))
  }

  public init(_ request: Etcdserverpb_DeleteRangeRequest) {
    self.init(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd))
  }
}
