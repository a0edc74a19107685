import Base
public import EtcdAPI

/// A range read that is under way: pinned to one revision, resumable between applies.
public struct RangeCursor: Sendable {
  /// The revision read at, whatever is written meanwhile.
  public let revision: Int64
  /// The store's revision when the read began: the header's.
  public let headerRevision: Int64
  /// Rows read and not taken yet.
  public private(set) var rows = EncodedRows()
  /// Visible keys in the range. Final once ``isDone``; known earlier for a read of the current state.
  public private(set) var count: Int64 = 0

  let range: KeyRange
  let keysOnly: Bool
  private let limit: Int
  private let countsOnly: Bool
  private var rowsTotal = 0
  private(set) var countIsKnown = false
  /// What is left to scan; nil when that is done.
  var rest: KeyBounds?
  /// Rows wait here if key order is not the answer's.
  var sorter: RowSorter?

  init(_ request: Etcdserverpb_RangeRequest, revision: Int64, headerRevision: Int64) {
    self.revision = revision
    self.headerRevision = headerRevision
    range = KeyRange(request)
    keysOnly = request.keysOnly
    limit = request.countOnly ? 0 : request.limit > 0 ? Int(request.limit) : .max
    countsOnly = request.countOnly
    rest = KeyBounds(range)
    if !Self.isPlain(request) { sorter = RowSorter(request) }
  }

  public var isDone: Bool { rest == nil && sorter == nil }

  /// Further rows were cut off by the limit. Final once ``isDone``.
  public private(set) var more = false

  /// The whole answer, if rows were never taken.
  public var result: RangeResult {
    var result = RangeResult(revision: headerRevision)
    result.rows = rows
    result.count = count
    result.more = more
    return result
  }

  /// Hands over the rows read so far: a part of a streamed answer.
  public mutating func takeRows() -> EncodedRows {
    defer { rows = EncodedRows() }
    return rows
  }

  // MARK: - Reading

  var wantsRow: Bool { sorter.map { !$0.hasAll } ?? (rowsTotal < limit) }
  var hasAll: Bool { countIsKnown && !wantsRow }

  /// The count is final from the start, so that reading may stop at the limit.
  mutating func knowCount(_ count: Int) {
    self.count = Int64(count)
    countIsKnown = true
    if hasAll { endScan() }
  }

  mutating func add(_ row: UnsafeRawBufferPointer) {
    rows.append(row)
    rowsTotal += 1
  }

  mutating func addToCount() {
    if !countIsKnown { count += 1 }
  }

  mutating func endScan() {
    rest = nil
    if sorter == nil { more = !countsOnly && count > Int64(rowsTotal) }
  }

  mutating func endSorting() {
    more = sorter?.more ?? false
    sorter = nil
  }

  // MARK: - Requests

  /// The answer is in key order and unfiltered.
  public static func isPlain(_ request: Etcdserverpb_RangeRequest) -> Bool {
    if request.countOnly { return true }
    return request.sortTarget == .key && request.sortOrder != .descend && !hasFilter(request)
  }

  public static func hasFilter(_ request: Etcdserverpb_RangeRequest) -> Bool {
    !RowSorter.Filter(request).isEmpty
  }
}
