package import Base
package import EtcdAPI

/// A range read in key order that is under way: pinned to one revision, resumable between applies.
package struct RangeCursor: Sendable {
  /// The revision read at, whatever is written meanwhile.
  package let revision: Int64
  /// The store's revision when the read began: the header's.
  package let headerRevision: Int64
  /// Rows read and not taken yet, as encoded mvccpb.KeyValue.
  package private(set) var rows: [Bytes] = []
  /// Visible keys in the range. Final once ``isDone``; known earlier for a read of the current state.
  package private(set) var count: Int64 = 0

  let range: KeyRange
  let keysOnly: Bool
  private let limit: Int
  private let countsOnly: Bool
  private var rowsTotal = 0
  private var countIsKnown = false
  /// What is left to read; nil when done.
  var rest: KeyBounds?

  init(_ request: Etcdserverpb_RangeRequest, revision: Int64, headerRevision: Int64) {
    self.revision = revision
    self.headerRevision = headerRevision
    range = KeyRange(request)
    keysOnly = request.keysOnly
    limit = request.countOnly ? 0 : request.limit > 0 ? Int(request.limit) : .max
    countsOnly = request.countOnly
    rest = KeyBounds(range)
  }

  package var isDone: Bool { rest == nil }

  /// Further rows were cut off by the limit. Final once ``isDone``.
  package var more: Bool { !countsOnly && count > Int64(rowsTotal) }

  /// The whole answer, if rows were never taken.
  package var result: RangeResult {
    var result = RangeResult(revision: headerRevision)
    result.rows = rows
    result.count = count
    result.more = more
    return result
  }

  /// Hands over the rows read so far: a part of a streamed answer.
  package mutating func takeRows() -> [Bytes] {
    defer { rows = [] }
    return rows
  }

  // MARK: - Reading

  var wantsRow: Bool { rowsTotal < limit }
  var hasAll: Bool { countIsKnown && !wantsRow }

  /// The count is final from the start, so that reading may stop at the limit.
  mutating func knowCount(_ count: Int) {
    self.count = Int64(count)
    countIsKnown = true
    if hasAll { rest = nil }
  }

  mutating func add(_ row: Bytes) {
    rows.append(row)
    rowsTotal += 1
    addCountOnly()
  }

  mutating func addCountOnly() {
    if !countIsKnown { count += 1 }
  }

  // MARK: - Requests

  /// The answer is in key order and unfiltered, so it can be read in slices.
  package static func isPlain(_ request: Etcdserverpb_RangeRequest) -> Bool {
    if request.countOnly { return true }
    return request.sortTarget == .key && request.sortOrder != .descend && !hasFilter(request)
  }

  package static func hasFilter(_ request: Etcdserverpb_RangeRequest) -> Bool {
    request.minModRevision != 0 || request.maxModRevision != 0
      || request.minCreateRevision != 0 || request.maxCreateRevision != 0
  }

  static func passesFilter(
    _ fields: StoredKeyValue, _ request: Etcdserverpb_RangeRequest
  ) -> Bool {
    func within(_ value: Int64, _ low: Int64, _ high: Int64) -> Bool {
      (low == 0 || value >= low) && (high == 0 || value <= high)
    }
    return within(fields.modRevision, request.minModRevision, request.maxModRevision)
      && within(fields.createRevision, request.minCreateRevision, request.maxCreateRevision)
  }
}
