import Base

/// The keys a range selects, as a half-open interval.
struct KeyBounds: Sendable {
  var start: Bytes
  /// Nil: no upper bound.
  var end: Bytes?

  init(_ range: KeyRange) {
    switch range {
    case .single(let key): (start, end) = (key, key + [0])
    case .span(let from, let to): (start, end) = (from, to)
    case .from(let from): (start, end) = (from, nil)
    }
  }

  var isEmpty: Bool {
    guard let end else { return false }
    return !start.precedes(end)
  }
}

/// A key that a scan meets and that is visible at the scan's revision.
struct VisibleKey {
  /// Valid only during the callback.
  let key: UnsafeRawBufferPointer
  let mark: Mark
  /// `created` and `version` describe `mark` only if ``isLatest``.
  let entry: KeyEntry
  var isLatest: Bool { mark == entry.latest }
}

extension KeyIndex {
  // MARK: - Counting

  /// Live keys in `range` now, in O(log n).
  public func count(in range: KeyRange) -> Int {
    if case .single(let key) = range { return state(of: key) == nil ? 0 : 1 }
    let bounds = KeyBounds(range)
    guard !bounds.isEmpty else { return 0 }
    let upper = bounds.end.map { rank(of: $0) } ?? liveCount
    return upper - rank(of: bounds.start)
  }

  /// Keys in `range` that were visible at revision `main`. Visits every key of the range.
  public func count(in range: KeyRange, at main: Int64) -> Int {
    var count = 0
    _ = scan(KeyBounds(range), at: main, visitsMax: .max) { _ in
      count += 1
      return true
    }
    return count
  }

  /// Live keys below `key`.
  private func rank(of key: Bytes) -> Int {
    key.withUnsafeBytes { key in
      var sum = 0
      var node = Int(root)
      for _ in 0..<height {
        let slot = childSlot(of: node, for: key)
        for before in 0..<slot { sum += branches[node].live[before] }
        node = Int(branches[node].children[slot])
      }
      let (slot, _) = leaves[node].keys.search(key)
      for before in 0..<slot where leaves[node].entries[before].isLive { sum += 1 }
      return sum
    }
  }

  // MARK: - Scanning

  enum ScanEnd: Equatable {
    /// The range has no further keys.
    case done
    /// `visitsMax` keys were looked at, or the body stopped; the next one to look at is this.
    case paused(next: Bytes)
  }

  /// Visits the keys in `bounds` that are visible at revision `main`, in key order.
  ///
  /// - Parameter visitsMax: keys to look at, visible or not, so that a call's time is bounded.
  /// - Parameter body: returns false to stop after this key.
  func scan(
    _ bounds: KeyBounds, at main: Int64, visitsMax: Int, _ body: (VisibleKey) -> Bool
  ) -> ScanEnd {
    guard !bounds.isEmpty else { return .done }
    let first = find(bounds.start)
    var leaf = Int(first.leaf)
    var slot = first.slot
    var visits = 0
    while leaf >= 0 {
      let (end, isLast) = endSlot(of: leaf, bounds.end)
      while slot < end {
        guard visits < visitsMax else { return .paused(next: leaves[leaf].keys[slot]) }
        visits += 1
        let entry = leaves[leaf].entries[slot]
        let mark = newestMark(in: entry, at: main)
        if !mark.isNone && !mark.isTombstone {
          let goesOn = leaves[leaf].keys.withKey(at: slot) {
            body(VisibleKey(key: $0, mark: mark, entry: entry))
          }
          guard goesOn else { return .paused(next: leaves[leaf].keys[slot] + [0]) }
        }
        slot += 1
      }
      if isLast { return .done }
      leaf = Int(leaves[leaf].next)
      slot = 0
    }
    return .done
  }

  /// Where `end` cuts a leaf, and whether it does.
  private func endSlot(of leaf: Int, _ end: Bytes?) -> (slot: Int, isLast: Bool) {
    let count = leaves[leaf].entries.count
    guard let end else { return (count, false) }
    let slot = end.withUnsafeBytes { leaves[leaf].keys.search($0).slot }
    return (slot, slot < count)
  }
}
