public import Base

/// All keys and where their changes stand in history: an ordered map in memory, rebuilt at start.
///
/// A B+tree with wide nodes. Nodes live in two arrays and refer to each other by number, so the
/// whole index is a value without reference counting per node; the keys of a node are contiguous;
/// every branch knows how many live keys each child holds, which makes counting O(log n).
///
/// Memory per key, measured with a million keys of 20 bytes, the key and unused capacity included: 108
/// bytes when they arrive in random order (nodes 69 % full: 70 for the entry, 6 for the offset, 30 for
/// the key), 86 when in ascending order. A key with three or more uncompacted changes adds an array:
/// about 56 bytes and 16 per older change.
public struct KeyIndex: Sendable {
  struct Leaf: Sendable {
    var keys: PackedKeys
    var entries: [KeyEntry]
    var live = 0
    var previous: Int32 = -1
    var next: Int32 = -1

    init() {
      keys = PackedKeys(reserving: KeyIndex.leafKeysMax + 1)
      entries = []
      entries.reserveCapacity(KeyIndex.leafKeysMax + 1)
    }
  }

  struct Branch: Sendable {
    /// The smallest key that may stand below `children[i + 1]`, for each `i`.
    var separators = PackedKeys()
    var children: [Int32] = []
    /// Live keys below each child.
    var live: [Int] = []
  }

  /// Where a key stands or would stand. Valid until the index changes.
  public struct Location {
    let leaf: Int32
    let slot: Int
    /// The index knows the key: it is live, or deleted and not compacted away yet.
    public let isKnown: Bool
  }

  static let leafKeysMax = 64
  static let branchChildrenMax = 64
  /// A leaf whose keys take more is split early, so that long keys do not make inserts slow.
  static let leafBytesMax = 32 << 10

  var leaves: [Leaf] = [Leaf()]
  var freeLeaves: [Int32] = []
  var branches: [Branch] = []
  var freeBranches: [Int32] = []
  var root: Int32 = 0
  /// Levels of branches above the leaves.
  var height = 0
  var histories: [[Mark]] = []
  var freeHistories: [Int32] = []

  /// Keys that exist now.
  public internal(set) var liveCount = 0
  /// Keys the index holds, those included that are deleted but still have history.
  public internal(set) var knownCount = 0

  public init() {}

  // MARK: - Points

  public func find(_ key: Bytes) -> Location { key.withUnsafeBytes { find($0) } }

  func find(_ key: UnsafeRawBufferPointer) -> Location {
    let leaf = Int(descend(to: key))
    let (slot, found) = leaves[leaf].keys.search(key)
    return Location(leaf: Int32(truncatingIfNeeded: leaf), slot: slot, isKnown: found)
  }

  func entry(at location: Location) -> KeyEntry {
    leaves[Int(location.leaf)].entries[location.slot]
  }

  /// The current state at `location`, or nil if there is no such live key.
  public func state(at location: Location) -> KeyState? {
    guard location.isKnown else { return nil }
    let entry = entry(at: location)
    return entry.isLive ? KeyState(entry) : nil
  }

  /// The current state of `key`, or nil if it does not exist.
  public func state(of key: Bytes) -> KeyState? { state(at: find(key)) }

  /// Where the value of `key` at revision `main` is stored; nil if the key did not exist then.
  public func revision(of key: Bytes, at main: Int64) -> Revision? {
    let mark = newestMark(of: key, at: main)
    return mark.isNone || mark.isTombstone ? nil : mark.revision
  }

  /// The newest change of `key` with `main` or less, tombstones included.
  func newestMark(of key: Bytes, at main: Int64) -> Mark {
    key.withUnsafeBytes { newestMark(of: $0, at: main) }
  }

  func newestMark(of key: UnsafeRawBufferPointer, at main: Int64) -> Mark {
    let location = find(key)
    return location.isKnown ? newestMark(in: entry(at: location), at: main) : .none
  }

  func newestMark(in entry: KeyEntry, at main: Int64) -> Mark {
    if entry.latest.main <= main { return entry.latest }
    if entry.previous.main <= main { return entry.previous }
    guard entry.history >= 0 else { return .none }
    return histories[Int(entry.history)].last { $0.main <= main } ?? .none
  }

  // MARK: - Changes

  /// Records a put of `key`, found at `location`.
  ///
  /// - Parameter revision: newer than every change of the key so far (precondition).
  /// - Returns: the new state; `version` 1 and `created == revision.main` for a new incarnation.
  @discardableResult
  public mutating func put(
    _ key: Bytes, at location: Location, revision: Revision, isLeased: Bool
  ) -> KeyState {
    let mark = Mark(revision, isLeased: isLeased)
    guard location.isKnown else {
      let entry = KeyEntry(latest: mark, created: revision.main, version: 1)
      key.withUnsafeBytes {
        addLive(1, to: $0)  // first: a split divides counts that include the new key
        insert(entry, key: $0, at: location)
      }
      return KeyState(entry)
    }
    let leaf = Int(location.leaf)
    let wasLive = leaves[leaf].entries[location.slot].isLive
    push(mark, leaf: leaf, slot: location.slot)
    if wasLive {
      leaves[leaf].entries[location.slot].version += 1
    } else {
      leaves[leaf].entries[location.slot].created = revision.main
      leaves[leaf].entries[location.slot].version = 1
      key.withUnsafeBytes { addLive(1, to: $0) }
    }
    return KeyState(leaves[leaf].entries[location.slot])
  }

  /// Records the deletion of `key`, live at `location` (precondition).
  public mutating func delete(_ key: Bytes, at location: Location, revision: Revision) {
    precondition(
      location.isKnown && entry(at: location).isLive, "only a live key can be deleted")
    push(Mark(revision, isTombstone: true), leaf: Int(location.leaf), slot: location.slot)
    key.withUnsafeBytes { addLive(-1, to: $0) }
  }

  /// Makes `mark` the newest change of an entry.
  mutating func push(_ mark: Mark, leaf: Int, slot: Int) {
    let latest = leaves[leaf].entries[slot].latest
    let previous = leaves[leaf].entries[slot].previous
    precondition(latest.revision < mark.revision, "changes of a key must come in order")
    if !previous.isNone {
      let history = leaves[leaf].entries[slot].history
      if history >= 0 {
        histories[Int(history)].append(previous)
      } else {
        leaves[leaf].entries[slot].history = allocateHistory([previous])
      }
    }
    leaves[leaf].entries[slot].previous = latest
    leaves[leaf].entries[slot].latest = mark
  }

  mutating func allocateHistory(_ marks: [Mark]) -> Int32 {
    if let slot = freeHistories.popLast() {
      histories[Int(slot)] = marks
      return slot
    }
    histories.append(marks)
    return Int32(histories.count - 1)
  }

  mutating func releaseHistory(_ slot: Int32) {
    guard slot >= 0 else { return }
    histories[Int(slot)] = []
    freeHistories.append(slot)
  }

  // MARK: - Restore

  /// Takes in one stored change while the index is rebuilt, in order within each key. The counts are
  /// wrong until ``finishRestore()``. A tombstone has `created` and `version` 0.
  mutating func restore(
    _ key: UnsafeRawBufferPointer, mark: Mark, created: Int64, version: Int64
  ) {
    let location = find(key)
    guard location.isKnown else {
      insert(KeyEntry(latest: mark, created: created, version: version), key: key, at: location)
      return
    }
    let leaf = Int(location.leaf)
    push(mark, leaf: leaf, slot: location.slot)
    leaves[leaf].entries[location.slot].created = created
    leaves[leaf].entries[location.slot].version = version
  }

  /// Counts the live keys after the last restored record.
  mutating func finishRestore() { liveCount = recount(root, level: height) }

  private mutating func recount(_ node: Int32, level: Int) -> Int {
    let node = Int(node)
    if level == 0 {
      leaves[node].live = leaves[node].entries.reduce(0) { $0 + ($1.isLive ? 1 : 0) }
      return leaves[node].live
    }
    var sum = 0
    for slot in branches[node].children.indices {
      let live = recount(branches[node].children[slot], level: level - 1)
      branches[node].live[slot] = live
      sum += live
    }
    return sum
  }

  /// Bytes of heap the index takes, unused capacity included.
  public var footprintBytes: Int {
    let entryBytes = MemoryLayout<KeyEntry>.stride
    let leafBytes = leaves.reduce(leaves.capacity * MemoryLayout<Leaf>.stride) {
      $0 + $1.keys.footprint + $1.entries.capacity * entryBytes
    }
    let branchBytes = branches.reduce(branches.capacity * MemoryLayout<Branch>.stride) {
      $0 + $1.separators.footprint + $1.children.capacity * 4 + $1.live.capacity * 8
    }
    let historyBytes = histories.reduce(histories.capacity * 8) {
      $0 + ($1.isEmpty ? 0 : 32 + $1.capacity * MemoryLayout<Mark>.stride)
    }
    return leafBytes + branchBytes + historyBytes
  }
}
