import Base

/// Deadlines of leases, earliest first; ties by lease id, so that the order is reproducible.
///
/// Entries are not moved when a lease is renewed: the owner compares a due entry with the lease's
/// deadline and puts it back. Thus one entry per lease, however often it is renewed.
struct DeadlineHeap: Sendable {
  struct Entry: Sendable {
    /// Monotonic nanoseconds.
    var due: UInt64
    var lease: LeaseID
    /// Tells a lease from an earlier one with the same id.
    var incarnation: UInt64

    func precedes(_ other: Entry) -> Bool {
      due != other.due ? due < other.due : lease < other.lease
    }
  }

  private var heap = BinaryHeap<Entry>()

  var count: Int { heap.count }
  var first: Entry? { heap.first }

  init() {}

  /// Heap order of all `entries` in linear time.
  init(_ entries: [Entry]) { heap = BinaryHeap(entries) { $0.precedes($1) } }

  mutating func insert(_ entry: Entry) { heap.insert(entry) { $0.precedes($1) } }

  mutating func removeFirst() -> Entry { heap.removeFirst { $0.precedes($1) } }

  /// Keeps only the entries for which `isValid` holds.
  mutating func prune(_ isValid: (Entry) -> Bool) {
    self = DeadlineHeap(heap.unordered.filter(isValid))
  }
}
