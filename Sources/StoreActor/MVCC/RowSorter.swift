import Base
import EtcdAPI

/// Picks and orders the rows of a range that are wanted in another order than that of keys, or not
/// all of them.
///
/// Rows are offered in key order, then taken best first. Only the rows that may be answered are kept,
/// and of each what it is sorted by and where it is stored: a limit bounds the memory. No step costs
/// more than the logarithm of the rows kept. Ties keep key order, in either direction.
struct RowSorter: Sendable {
  private struct Item: Sendable {
    /// What rows are sorted by, if it is a number.
    let number: Int64
    /// What rows are sorted by, if they are sorted by value.
    let value: Bytes
    /// In key order.
    let position: Int
    let revision: Revision
  }

  let target: Etcdserverpb_RangeRequest.SortTarget
  private let filter: Filter
  private let descends: Bool
  private let limit: Int
  /// With order NONE etcd reads only one row more than the limit, and sorts those.
  private let offersMax: Int
  private var offers = 0
  private var matches = 0
  /// The rows to answer so far, the last one of the answer first.
  private var heap = BinaryHeap<Item>()
  /// Where the rows to answer are stored, the last one first; filled once all were offered.
  private var order: [Revision] = []

  init(_ request: Etcdserverpb_RangeRequest) {
    target = request.sortTarget
    filter = Filter(request)
    descends = request.sortOrder == .descend
    limit = request.limit > 0 ? Int(request.limit) : .max
    let readsAll = request.sortOrder != .none || !filter.isEmpty || limit == .max
    offersMax = readsAll ? .max : limit + 1
  }

  var keptCount: Int { heap.count + order.count }

  /// Further rows would be passed over.
  var hasAll: Bool { offers >= offersMax }
  /// Rows that match and are beyond the limit. Final once all were offered.
  var more: Bool { matches > limit }

  /// Whether more than the mod revision of a row is needed to place it.
  var needsRecord: Bool {
    target == .value || target == .create || target == .version || filter.needsCreated
  }

  /// Considers a row.
  ///
  /// - Parameter value: what it is sorted by, if that is the value.
  /// - Returns: the bytes kept of it.
  mutating func offer(
    _ revision: Revision, created: Int64, version: Int64, value: UnsafeRawBufferPointer?
  ) -> Int {
    offers += 1
    guard filter.passes(created: created, mod: revision.main) else { return 0 }
    matches += 1
    let position = matches
    let number: Int64
    switch target {
    case .version: number = version
    case .create: number = created
    case .mod: number = revision.main
    case .key, .UNRECOGNIZED: number = descends ? Int64(position) : 0
    case .value: number = 0
    }
    let isFull = heap.count >= limit
    if isFull, let last = heap.first, !precedes(number, value, last) { return 0 }
    let item = Item(
      number: number, value: value.map { Bytes($0) } ?? [], position: position, revision: revision)
    if isFull {
      heap.replaceFirst(item, by: follows)
    } else {
      heap.insert(item, by: follows)
    }
    return item.value.count + MemoryLayout<Item>.stride
  }

  /// Puts up to `count` of the rows into order; true once all are.
  mutating func arrange(_ count: Int) -> Bool {
    for _ in 0..<min(count, heap.count) { order.append(heap.removeFirst(by: follows).revision) }
    return heap.isEmpty
  }

  /// Where the next row of the answer is stored.
  mutating func next() -> Revision? { order.popLast() }

  // MARK: - Order

  /// Whether a row that comes later in key order than `other` stands before it in the answer.
  private func precedes(
    _ number: Int64, _ value: UnsafeRawBufferPointer?, _ other: Item
  ) -> Bool {
    if let value {
      let order = other.value.withUnsafeBytes { value.compare($0) }
      return descends ? order > 0 : order < 0
    }
    return descends ? number > other.number : number < other.number
  }

  private func follows(_ left: Item, _ right: Item) -> Bool {
    let order: Int
    if target == .value {
      order = left.value.compare(right.value)
    } else {
      order = left.number < right.number ? -1 : left.number > right.number ? 1 : 0
    }
    if order == 0 { return left.position > right.position }
    return descends ? order < 0 : order > 0
  }
}

extension RowSorter {
  /// The bounds of revisions that a request asks for; 0 is none.
  struct Filter: Sendable {
    private let minMod: Int64
    private let maxMod: Int64
    private let minCreated: Int64
    private let maxCreated: Int64

    init(_ request: Etcdserverpb_RangeRequest) {
      minMod = request.minModRevision
      maxMod = request.maxModRevision
      minCreated = request.minCreateRevision
      maxCreated = request.maxCreateRevision
    }

    var needsCreated: Bool { minCreated != 0 || maxCreated != 0 }
    var isEmpty: Bool { minMod == 0 && maxMod == 0 && !needsCreated }

    func passes(created: Int64, mod: Int64) -> Bool {
      Self.within(mod, minMod, maxMod) && Self.within(created, minCreated, maxCreated)
    }

    private static func within(_ value: Int64, _ low: Int64, _ high: Int64) -> Bool {
      (low == 0 || value >= low) && (high == 0 || value <= high)
    }
  }
}
