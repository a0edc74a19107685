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

  private var entries: [Entry] = []

  var count: Int { entries.count }
  var first: Entry? { entries.first }

  init() {}

  /// Heap order of all `entries` in linear time.
  init(_ entries: [Entry]) {
    self.entries = entries
    for position in (0..<entries.count / 2).reversed() { siftDown(position) }
  }

  mutating func insert(_ entry: Entry) {
    entries.append(entry)
    var position = entries.count - 1
    while position > 0 {
      let parent = (position - 1) / 2
      guard entries[position].precedes(entries[parent]) else { break }
      entries.swapAt(position, parent)
      position = parent
    }
  }

  mutating func removeFirst() -> Entry {
    let first = entries[0]
    let last = entries.removeLast()
    if !entries.isEmpty {
      entries[0] = last
      siftDown(0)
    }
    return first
  }

  /// Keeps only the entries for which `isValid` holds.
  mutating func prune(_ isValid: (Entry) -> Bool) { self = DeadlineHeap(entries.filter(isValid)) }

  private mutating func siftDown(_ start: Int) {
    var position = start
    while true {
      var smallest = position
      for child in (2 * position + 1)...(2 * position + 2)
      where child < entries.count && entries[child].precedes(entries[smallest]) {
        smallest = child
      }
      if smallest == position { return }
      entries.swapAt(position, smallest)
      position = smallest
    }
  }
}
