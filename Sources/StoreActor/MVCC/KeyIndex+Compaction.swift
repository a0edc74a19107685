public import Base

/// A stored change that compaction no longer needs.
public struct DroppedRecord: Equatable, Sendable {
  public let revision: Revision
  public let isTombstone: Bool
}

/// Progress of one compaction through the keys.
public struct CompactionCursor: Equatable, Sendable {
  public let revision: Int64
  /// The next key to look at; nil when every key has been.
  public fileprivate(set) var next: Bytes?
  /// Changes of `next` that are dropped but still listed: a long history goes in several slices.
  fileprivate var dropped = 0

  public init(revision: Int64) {
    self.revision = revision
    next = []
  }

  public var isDone: Bool { next == nil }
}

extension KeyIndex {
  /// Forgets changes that no read at `cursor.revision` or later needs, node by node.
  ///
  /// Per key the newest change at or below the revision stays, unless it is a tombstone below it; all
  /// newer changes stay. Dropped changes come oldest first within a key: a crash between two
  /// removals must never leave a put without the tombstone that ended it.
  ///
  /// A history that takes several calls is dropped bit by bit and forgotten at the end at once, so
  /// that no call moves it around in memory for a few changes.
  ///
  /// - Parameters:
  ///   - keys: stops at the end of the node in which this many keys have been looked at.
  ///   - drops: stops when this many changes are dropped, even within a key.
  public mutating func compact(
    _ cursor: inout CompactionCursor, keys: Int, drops: Int = .max, drop: (DroppedRecord) -> Void
  ) {
    var visited = 0
    var budget = drops
    while let key = cursor.next, visited < keys, budget > 0 {
      let location = find(key)
      let leaf = Int(location.leaf)
      visited += max(1, leaves[leaf].entries.count - location.slot)
      let probe = leaves[leaf].entries.isEmpty ? key : leaves[leaf].keys[0]
      let next = leaves[leaf].next
      let following = next >= 0 ? leaves[Int(next)].keys[0] : nil
      let stop = compactLeaf(leaf, from: location.slot, &cursor, &budget, drop: drop)
      rebalance(leafOf: probe)
      cursor.next = stop ?? following
    }
  }

  /// Returns the key at which the budget ended; nil if the leaf is done.
  private mutating func compactLeaf(
    _ leaf: Int, from first: Int, _ cursor: inout CompactionCursor, _ budget: inout Int,
    drop: (DroppedRecord) -> Void
  ) -> Bytes? {
    var slot = first
    while slot < leaves[leaf].entries.count {
      let entry = leaves[leaf].entries[slot]
      let unneeded = unneededCount(of: entry, at: cursor.revision)
      let stop = min(unneeded, cursor.dropped + budget)
      for position in cursor.dropped..<stop {
        let mark = mark(position, of: entry)
        drop(DroppedRecord(revision: mark.revision, isTombstone: mark.isTombstone))
      }
      budget -= stop - cursor.dropped
      cursor.dropped = stop < unneeded ? stop : 0
      guard stop == unneeded else { return leaves[leaf].keys[slot] }
      if unneeded == 0 {
        slot += 1
      } else if let rest = forgetting(unneeded, of: entry) {
        leaves[leaf].entries[slot] = rest
        slot += 1
      } else {
        leaves[leaf].entries.remove(at: slot)
        leaves[leaf].keys.remove(at: slot)
        knownCount -= 1
      }
    }
    return nil
  }

  /// How many of an entry's oldest changes no read at `main` or later needs.
  private func unneededCount(of entry: KeyEntry, at main: Int64) -> Int {
    var low = 0
    var high = markCount(of: entry)
    if entry.latest.main <= main {
      low = high
    } else {
      high -= 1
      while low < high {
        let middle = (low + high) / 2
        if mark(middle, of: entry).main <= main { low = middle + 1 } else { high = middle }
      }
    }
    guard low > 0 else { return 0 }
    let newest = mark(low - 1, of: entry)
    return newest.isTombstone && newest.main < main ? low : low - 1
  }

  private func markCount(of entry: KeyEntry) -> Int {
    guard !entry.previous.isNone else { return 1 }
    return 2 + (entry.history >= 0 ? histories[Int(entry.history)].count : 0)
  }

  /// The change at `position`, counted from the oldest.
  private func mark(_ position: Int, of entry: KeyEntry) -> Mark {
    let older = entry.history >= 0 ? histories[Int(entry.history)].count : 0
    if position < older { return histories[Int(entry.history)][position] }
    return position == older && !entry.previous.isNone ? entry.previous : entry.latest
  }

  /// The entry without its `count` oldest changes; nil if none is left.
  private mutating func forgetting(_ count: Int, of entry: KeyEntry) -> KeyEntry? {
    let total = markCount(of: entry)
    guard count < total else {
      releaseHistory(entry.history)
      return nil
    }
    var rest = entry
    let left = total - count
    if left <= 2 {
      releaseHistory(entry.history)
      rest.history = -1
      if left == 1 { rest.previous = .none }
    } else {
      // A copy, to give the memory back.
      histories[Int(entry.history)] = Array(histories[Int(entry.history)][count...])
    }
    return rest
  }
}
