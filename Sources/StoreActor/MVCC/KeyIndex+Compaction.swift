package import Base

/// A stored change that compaction no longer needs.
package struct DroppedRecord: Equatable, Sendable {
  package let revision: Revision
  package let isTombstone: Bool
}

/// Progress of one compaction through the keys.
package struct CompactionCursor: Equatable, Sendable {
  package let revision: Int64
  /// The next key to look at; nil when every key has been.
  package fileprivate(set) var next: Bytes?

  package init(revision: Int64) {
    self.revision = revision
    next = []
  }

  package var isDone: Bool { next == nil }
}

extension KeyIndex {
  /// Forgets changes that no read at `cursor.revision` or later needs, node by node.
  ///
  /// Per key the newest change at or below the revision stays, unless it is a tombstone below it; all
  /// newer changes stay. Dropped changes come oldest first within a key: a crash between two
  /// removals must never leave a put without the tombstone that ended it.
  ///
  /// - Parameter keys: stops at the end of the node in which this many keys have been looked at.
  package mutating func compact(
    _ cursor: inout CompactionCursor, keys: Int, drop: (DroppedRecord) -> Void
  ) {
    var visited = 0
    while let key = cursor.next, visited < keys {
      let leaf = Int(find(key).leaf)
      visited += max(1, leaves[leaf].entries.count)
      let probe = leaves[leaf].entries.isEmpty ? key : leaves[leaf].keys[0]
      let next = leaves[leaf].next
      let following = next >= 0 ? leaves[Int(next)].keys[0] : nil
      compactLeaf(leaf, at: cursor.revision, drop: drop)
      rebalance(leafOf: probe)
      cursor.next = following
    }
  }

  private mutating func compactLeaf(_ leaf: Int, at main: Int64, drop: (DroppedRecord) -> Void) {
    var slot = 0
    while slot < leaves[leaf].entries.count {
      let entry = leaves[leaf].entries[slot]
      let oldest = entry.previous.isNone ? entry.latest.main : entry.previous.main
      let isSettled = entry.history < 0 && (oldest > main || entry.previous.isNone)
      let isGone = !entry.isLive && entry.latest.main < main
      if isSettled && !isGone {
        slot += 1
      } else if let rest = compacted(entry, at: main, drop: drop) {
        leaves[leaf].entries[slot] = rest
        slot += 1
      } else {
        leaves[leaf].entries.remove(at: slot)
        leaves[leaf].keys.remove(at: slot)
        knownCount -= 1
      }
    }
  }

  /// The entry without its unneeded changes; nil if none is needed.
  private mutating func compacted(
    _ entry: KeyEntry, at main: Int64, drop: (DroppedRecord) -> Void
  ) -> KeyEntry? {
    var marks = entry.history >= 0 ? histories[Int(entry.history)] : []
    if !entry.previous.isNone { marks.append(entry.previous) }
    marks.append(entry.latest)
    var kept = marks.lastIndex { $0.main <= main } ?? 0
    if marks[kept].isTombstone && marks[kept].main < main { kept += 1 }
    for mark in marks[..<kept] {
      drop(DroppedRecord(revision: mark.revision, isTombstone: mark.isTombstone))
    }
    guard kept > 0 else { return entry }
    marks.removeFirst(kept)

    releaseHistory(entry.history)
    guard let latest = marks.popLast() else { return nil }
    var rest = KeyEntry(latest: latest, created: entry.created, version: entry.version)
    rest.previous = marks.popLast() ?? .none
    rest.history = marks.isEmpty ? -1 : allocateHistory(marks)
    return rest
  }
}
