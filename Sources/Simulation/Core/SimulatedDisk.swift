import Base
import RaftActor

/// What one effects batch has written to the log.
struct DiskBatch {
  var sequence: UInt64
  var mark: SnapshotMetadata?
  var entries: [Entry] = []
  var hardState: HardState?
  var mustSync = false

  var recordCount: Int {
    entries.count + (mark == nil ? 0 : 1) + (hardState == nil ? 0 : 1)
  }
}

/// What a log file holds: records in order, as a reader finds them.
struct LogImage {
  private(set) var hardState = HardState()
  private(set) var base = SnapshotMetadata()
  private(set) var entries: [Entry] = []
  /// A received snapshot's mark counts once a hard state behind it confirms it.
  private var unconfirmed: (mark: SnapshotMetadata, entries: [Entry])?

  var lastIndex: LogIndex { base.index + LogIndex(entries.count) }

  func term(at index: LogIndex) -> Term? {
    if index == base.index { return base.term }
    guard index > base.index, index <= lastIndex else { return nil }
    return entries[Int(index - base.index) - 1].term
  }

  func entry(at index: LogIndex) -> Entry? {
    guard index > base.index, index <= lastIndex else { return nil }
    return entries[Int(index - base.index) - 1]
  }

  /// Reads the first `records` records of a batch; nil = all.
  mutating func append(_ batch: DiskBatch, records: Int? = nil) {
    var left = records ?? Int.max
    if let mark = batch.mark, left > 0 {
      left -= 1
      append(mark)
    }
    let count = min(left, batch.entries.count)
    if count > 0 { append(batch.entries[..<count]) }
    left -= count
    if let state = batch.hardState, left > 0 { append(state) }
  }

  private mutating func append(_ mark: SnapshotMetadata) {
    if mark.index <= hardState.commit {
      advance(to: mark)
    } else {
      unconfirmed = (mark, [])
    }
  }

  private mutating func append(_ new: ArraySlice<Entry>) {
    guard let first = new.first else { return }
    if let unconfirmed, first.index > unconfirmed.mark.index {
      let kept = unconfirmed.entries.filter { $0.index < first.index }
      self.unconfirmed = (unconfirmed.mark, kept + new)
      return
    }
    precondition(first.index <= lastIndex + 1 && first.index > base.index, "hole in the log")
    entries.removeLast(Int(lastIndex + 1 - first.index))
    entries.append(contentsOf: new)
  }

  private mutating func append(_ state: HardState) {
    hardState = state
    guard let (mark, behind) = unconfirmed, state.commit >= mark.index else { return }
    unconfirmed = nil
    base = mark
    entries = behind
  }

  private mutating func advance(to mark: SnapshotMetadata) {
    guard mark.index > base.index, mark.index <= lastIndex else { return }
    entries.removeFirst(Int(mark.index - base.index))
    base = mark
  }

  /// A reader drops what nothing confirms.
  mutating func recover() { unconfirmed = nil }

  // For planted faults.
  mutating func dropLast(_ count: Int) { entries.removeLast(min(count, entries.count)) }
  mutating func forget(vote: Bool, term: Bool) {
    if vote { hardState.vote = 0 }
    if term { hardState.term = base.term }
  }
}

/// A member's disk: the log with what is not synced yet, and the store's file.
struct SimulatedDisk {
  var log = LogImage()
  /// Written, not synced: survives the process, not the power.
  var unsynced: [DiskBatch] = []
  /// Under way.
  var flushing: [DiskBatch] = []
  /// Waits for the flush under way.
  var queued: [DiskBatch] = []
  var isFlushing = false
  /// The next flush fails.
  var failsNext = false
  /// No room until then.
  var fullUntil: UInt64 = 0

  var store: StoreImage
  var storeUnderWay: StoreImage?
  /// Received snapshot files by their index, durable.
  var received: [LogIndex: StoreImage] = [:]

  /// What is left of the log after the process, or the power, is gone.
  ///
  /// The log is read up to its first unreadable byte: whichever sectors are lost, a prefix remains.
  mutating func lose(power: Bool, _ random: inout SeededGenerator) {
    // The page cache outlives the process: then only the write under way may be cut.
    if !power { for batch in unsynced { log.append(batch) } }
    let batches = power ? unsynced + flushing : flushing
    unsynced = []
    flushing = []
    queued = []
    isFlushing = false
    storeUnderWay = nil
    let total = batches.reduce(0) { $0 + $1.recordCount }
    var left = Int.random(in: 0...total, using: &random)
    for batch in batches where left > 0 {
      log.append(batch, records: left)
      left -= min(left, batch.recordCount)
    }
    log.recover()
  }

  mutating func sync(_ batches: [DiskBatch]) {
    for batch in unsynced { log.append(batch) }
    unsynced.removeAll(keepingCapacity: true)
    for batch in batches { log.append(batch) }
  }
}
