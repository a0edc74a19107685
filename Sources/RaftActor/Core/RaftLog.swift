public import Base

/// The part of the replicated log that is held in memory: everything after a base position.
///
/// Invariants: entries are contiguous from `baseIndex + 1`; terms never decrease with the index; the
/// base is a position whose term is known although its entry is gone.
public struct RaftLog: Sendable {
  /// The position before the first entry held.
  public private(set) var baseIndex: LogIndex
  public private(set) var baseTerm: Term
  /// Slots below `head` were dropped and hold no data.
  private var storage: [Entry] = []
  private var head = 0
  /// Bytes of all entries up to and including the slot, counted from the creation of this value.
  private var byteEnds: [UInt64] = []
  private var droppedBytes: UInt64 = 0
  /// Positions of configuration entries held, ascending.
  private var configurationIndices: [LogIndex] = []

  public init(baseIndex: LogIndex, baseTerm: Term) {
    self.baseIndex = baseIndex
    self.baseTerm = baseTerm
  }

  public var firstIndex: LogIndex { baseIndex + 1 }
  public var lastIndex: LogIndex { baseIndex + LogIndex(storage.count - head) }
  public var lastTerm: Term { storage.count > head ? storage[storage.count - 1].term : baseTerm }
  public var count: Int { storage.count - head }
  /// Bytes of all entries held.
  public var bytes: Int { Int(cumulativeBytes(at: lastIndex) - droppedBytes) }

  /// Bytes that an entry takes beside its payload, about, in a message or in the log file.
  static let entryOverhead = 16

  static func bytes(of entry: Entry) -> Int { entry.data.count + entryOverhead }

  private func slot(_ index: LogIndex) -> Int { head + Int(index - baseIndex) - 1 }

  private func cumulativeBytes(at index: LogIndex) -> UInt64 {
    index == baseIndex ? droppedBytes : byteEnds[slot(index)]
  }

  /// Bytes of the entries after `index`, up to the last.
  func bytes(after index: LogIndex) -> Int {
    Int(cumulativeBytes(at: lastIndex) - cumulativeBytes(at: max(index, baseIndex)))
  }

  /// The term at `index`; nil below the base or beyond the end.
  public func term(at index: LogIndex) -> Term? {
    if index == baseIndex { return baseTerm }
    guard index > baseIndex, index <= lastIndex else { return nil }
    return storage[slot(index)].term
  }

  /// Whether an entry with this position and term is held (or is the base).
  func matches(index: LogIndex, term: Term) -> Bool { self.term(at: index) == term }

  /// Whether a candidate whose log ends here knows at least as much as this log.
  func isUpToDate(index: LogIndex, term: Term) -> Bool {
    term > lastTerm || (term == lastTerm && index >= lastIndex)
  }

  /// Entries `from...through`, cut where they would exceed `maxBytes`, but at least one if any.
  public func entries(
    from: LogIndex, through: LogIndex? = nil, maxBytes: Int = .max
  ) -> [Entry] {
    let through = through ?? lastIndex
    guard from <= through else { return [] }
    precondition(from > baseIndex && through <= lastIndex, "entries outside the log")
    let before = cumulativeBytes(at: from - 1)
    var end = slot(through) + 1
    let start = slot(from)
    if byteEnds[end - 1] - before > UInt64(clamping: maxBytes) {
      // The first slot whose bytes exceed the budget, by bisection.
      var low = start + 1
      while low < end {
        let middle = (low + end) / 2
        if byteEnds[middle] - before > UInt64(clamping: maxBytes) {
          end = middle
        } else {
          low = middle + 1
        }
      }
    }
    return Array(storage[start..<end])
  }

  /// The position from which `entries` differ from the log or extend it; nil if all are held.
  func firstDifference(_ entries: [Entry]) -> LogIndex? {
    for entry in entries where !matches(index: entry.index, term: entry.term) {
      return entry.index
    }
    return nil
  }

  /// The last position at or below `index` whose term is not above `term`, and that term.
  ///
  /// Term 0 with a position below the base means that nothing is known there.
  func lastPosition(atOrBelow index: LogIndex, termAtMost term: Term) -> (LogIndex, Term) {
    guard index >= baseIndex else { return (index, 0) }
    guard baseTerm <= term else { return (baseIndex == 0 ? 0 : baseIndex - 1, 0) }
    var low = baseIndex
    var high = min(index, lastIndex)
    while low < high {
      let middle = low + (high - low + 1) / 2
      if storage[slot(middle)].term <= term {
        low = middle
      } else {
        high = middle - 1
      }
    }
    return (low, low == baseIndex ? baseTerm : storage[slot(low)].term)
  }

  /// Whether a configuration entry lies in `(after, through]`.
  func hasConfiguration(after: LogIndex, through: LogIndex) -> Bool {
    for index in configurationIndices.reversed() where index <= through { return index > after }
    return false
  }

  /// The position of the last configuration entry but one, of those held.
  var lastConfigurationButOne: LogIndex? {
    configurationIndices.count > 1 ? configurationIndices[configurationIndices.count - 2] : nil
  }

  /// Adds `entry` behind the last one.
  mutating func append(_ entry: Entry) {
    precondition(entry.index == lastIndex + 1, "log entries must be contiguous")
    precondition(entry.term >= lastTerm, "log terms must not decrease")
    let before = cumulativeBytes(at: lastIndex)
    if entry.kind != .normal { configurationIndices.append(entry.index) }
    storage.append(entry)
    byteEnds.append(before + UInt64(RaftLog.bytes(of: entry)))
  }

  /// Slots that are allocated, of the larger table.
  var capacity: Int { max(storage.capacity, byteEnds.capacity) }

  mutating func reserve(_ additional: Int) {
    // Asking for an exact capacity each time would make appending quadratic. Doubled is what is held,
    // not the capacity: a copy of the log may have left the two arrays with different ones.
    let needed = storage.count + additional
    if needed > storage.capacity { storage.reserveCapacity(max(needed, storage.count * 2)) }
    if needed > byteEnds.capacity { byteEnds.reserveCapacity(max(needed, storage.count * 2)) }
  }

  /// Removes the entries from `index` to the end.
  mutating func truncate(from index: LogIndex) {
    precondition(index > baseIndex && index <= lastIndex + 1, "truncation outside the log")
    let removed = Int(lastIndex + 1 - index)
    storage.removeLast(removed)
    byteEnds.removeLast(removed)
    while let last = configurationIndices.last, last >= index { configurationIndices.removeLast() }
  }

  /// Drops the entries up to and including `index`, whose position becomes the base.
  mutating func dropPrefix(through index: LogIndex) {
    guard index > baseIndex else { return }
    guard let term = term(at: index) else { preconditionFailure("compaction beyond the log") }
    let end = slot(index) + 1
    droppedBytes = byteEnds[end - 1]
    for slot in head..<end { storage[slot].data = [] }
    head = end
    baseIndex = index
    baseTerm = term
    if head > 1024 && head * 2 > storage.count {
      storage.removeFirst(head)
      byteEnds.removeFirst(head)
      head = 0
    }
    let gone = configurationIndices.prefix { $0 <= index }.count
    configurationIndices.removeFirst(gone)
  }

  /// Forgets every entry: the log starts anew behind a snapshot.
  mutating func reset(baseIndex: LogIndex, baseTerm: Term) {
    self = RaftLog(baseIndex: baseIndex, baseTerm: baseTerm)
  }
}
