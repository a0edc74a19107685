import Base
package import EtcdAPI
import FoundationEssentials

extension KeyValueMachine {
  /// Answers a validated range request from the current state or history, in one step.
  ///
  /// For ranges that may be long and need no sorting, ``openRange(_:)`` does it in slices.
  /// - Throws: `compacted` or `futureRevision`.
  package func range(_ request: Etcdserverpb_RangeRequest) throws(KVError) -> RangeResult {
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
    if !RangeCursor.isPlain(request) && !request.countOnly {
      return sortedRange(request, at: revision, newest: newest)
    }
    var cursor = RangeCursor(request, revision: revision, headerRevision: newest)
    if revision == newest { cursor.knowCount(index.count(in: cursor.range)) }
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
      result.rows = [row(visible, keysOnly: request.keysOnly)]
    }
    return result
  }

  /// One row. A key-only row comes from the index, which has no lease; etcd 3.7 leaves it out, too.
  private func row(_ visible: VisibleKey, keysOnly: Bool) -> Bytes {
    guard keysOnly else { return store.record(at: visible.mark.revision) }
    if visible.isLatest {
      return StoredKeyValue.encode(
        key: visible.key, createRevision: visible.entry.created, modRevision: visible.mark.main,
        version: visible.entry.version)
    }
    return Self.withoutValue(store.record(at: visible.mark.revision), keepsLease: false)
  }

  private static func withoutValue(_ record: Bytes, keepsLease: Bool) -> Bytes {
    let fields = StoredKeyValue(record)
    return record.withUnsafeBytes {
      StoredKeyValue.encode(
        key: UnsafeRawBufferPointer(rebasing: $0[fields.key]),
        createRevision: fields.createRevision, modRevision: fields.modRevision,
        version: fields.version, lease: keepsLease ? fields.lease : 0)
    }
  }

  // MARK: - Slices

  /// Begins a long read that is pinned to its revision and advanced in slices.
  ///
  /// - Parameter request: validated and ``RangeCursor/isPlain(_:)`` (precondition).
  /// - Throws: `compacted` or `futureRevision`.
  package func openRange(_ request: Etcdserverpb_RangeRequest) throws(KVError) -> RangeCursor {
    precondition(RangeCursor.isPlain(request), "sorted and filtered ranges are read in one step")
    let revision = try readRevision(request.revision)
    var cursor = RangeCursor(request, revision: revision, headerRevision: currentRevision)
    if revision == currentRevision { cursor.knowCount(index.count(in: cursor.range)) }
    return cursor
  }

  /// Reads on until about `visits` keys have been looked at or `bytes` of rows collected.
  ///
  /// - Returns: whether the read is complete.
  /// - Throws: `compacted` when compaction has passed the cursor's revision meanwhile.
  package func advance(
    _ cursor: inout RangeCursor, visits: Int, bytes: Int = .max
  ) throws(KVError) -> Bool {
    if cursor.isDone { return true }
    if cursor.revision < compactRevision { throw .compacted }
    run(&cursor, visits: visits, bytes: bytes)
    return cursor.isDone
  }

  private func run(_ cursor: inout RangeCursor, visits: Int, bytes: Int) {
    guard let bounds = cursor.rest else { return }
    var collected = 0
    let end = index.scan(bounds, at: cursor.revision, visitsMax: visits) { visible in
      if cursor.wantsRow {
        let row = row(visible, keysOnly: cursor.keysOnly)
        collected += row.count
        cursor.add(row)
      } else {
        cursor.addCountOnly()
      }
      return !cursor.hasAll && collected < bytes
    }
    if case .paused(let next) = end, !cursor.hasAll {
      cursor.rest?.start = next
    } else {
      cursor.rest = nil
    }
  }

  // MARK: - Sorting and filtering

  /// A row with what it may be sorted and filtered by.
  private struct SortableRow {
    let bytes: Bytes
    let fields: StoredKeyValue
    let position: Int
  }

  private func sortedRange(
    _ request: Etcdserverpb_RangeRequest, at revision: Int64, newest: Int64
  ) -> RangeResult {
    var result = RangeResult(revision: newest)
    let limit = request.limit > 0 ? Int(request.limit) : .max
    // With order NONE etcd reads only one row more than the limit, and sorts those.
    let readsAll = request.sortOrder != .none || RangeCursor.hasFilter(request)
    let readMax = readsAll || limit == .max ? .max : limit + 1
    let sortsByValue = request.sortTarget == .value
    var rows: [SortableRow] = []
    var count = 0
    let range = KeyRange(request)
    _ = index.scan(KeyBounds(range), at: revision, visitsMax: .max) { visible in
      count += 1
      guard rows.count < readMax else { return true }
      let bytes = row(visible, keysOnly: request.keysOnly && !sortsByValue)
      let row = SortableRow(bytes: bytes, fields: StoredKeyValue(bytes), position: rows.count)
      if RangeCursor.passesFilter(row.fields, request) { rows.append(row) }
      return true
    }
    Self.sort(&rows, request)
    result.count = Int64(count)
    result.more = rows.count > limit
    let dropsValue = request.keysOnly && sortsByValue
    result.rows = rows.prefix(limit).map {
      dropsValue ? Self.withoutValue($0.bytes, keepsLease: true) : $0.bytes
    }
    return result
  }

  /// Ties keep key order, in either direction.
  private static func sort(_ rows: inout [SortableRow], _ request: Etcdserverpb_RangeRequest) {
    let descends = request.sortOrder == .descend
    func sort(by order: (SortableRow, SortableRow) -> Int) {
      rows.sort { left, right in
        let order = order(left, right)
        if order == 0 { return left.position < right.position }
        return descends ? order > 0 : order < 0
      }
    }
    func compare(_ left: Int64, _ right: Int64) -> Int {
      left < right ? -1 : left > right ? 1 : 0
    }
    switch request.sortTarget {
    case .key, .UNRECOGNIZED:
      if descends { rows.reverse() }
    case .version: sort { compare($0.fields.version, $1.fields.version) }
    case .create: sort { compare($0.fields.createRevision, $1.fields.createRevision) }
    case .mod: sort { compare($0.fields.modRevision, $1.fields.modRevision) }
    case .value:
      sort { left, right in
        Bytes(left.bytes[left.fields.value]).compare(Bytes(right.bytes[right.fields.value]))
      }
    }
  }
}

extension KeyRange {
  package init(_ request: Etcdserverpb_RangeRequest) {
    self.init(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd))
  }

  package init(_ request: Etcdserverpb_DeleteRangeRequest) {
    self.init(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd))
  }
}
