import Base
import Testing

@testable import StoreActor

extension KeyIndex {
  /// Order, links, separators and counts of the whole tree. Returns what is wrong.
  func faults() -> [String] {
    var faults: [String] = []
    var leafOrder: [Int] = []
    func visit(_ node: Int, _ level: Int, _ low: Bytes?, _ high: Bytes?) -> Int {
      if level == 0 {
        leafOrder.append(node)
        let keys = (0..<leaves[node].keys.count).map { leaves[node].keys[$0] }
        if keys.count != leaves[node].entries.count { faults.append("leaf \(node): sizes") }
        for (left, right) in zip(keys, keys.dropFirst()) where !left.precedes(right) {
          faults.append("leaf \(node): order")
        }
        if let low, let first = keys.first, first.precedes(low) { faults.append("below bound") }
        if let high, let last = keys.last, !last.precedes(high) { faults.append("above bound") }
        let live = leaves[node].entries.filter(\.isLive).count
        if live != leaves[node].live { faults.append("leaf \(node): live") }
        return live
      }
      let branch = branches[node]
      if branch.separators.count + 1 != branch.children.count { faults.append("separators") }
      var sum = 0
      for slot in branch.children.indices {
        let from = slot == 0 ? low : branch.separators[slot - 1]
        let to = slot < branch.separators.count ? branch.separators[slot] : high
        let live = visit(Int(branch.children[slot]), level - 1, from, to)
        if live != branch.live[slot] { faults.append("branch \(node): live \(slot)") }
        sum += live
      }
      return sum
    }
    if visit(Int(root), height, nil, nil) != liveCount { faults.append("live count") }
    for (index, leaf) in leafOrder.enumerated() {
      let next = index + 1 < leafOrder.count ? leafOrder[index + 1] : -1
      if Int(leaves[leaf].next) != next { faults.append("next of \(leaf)") }
      if next >= 0, Int(leaves[next].previous) != leaf { faults.append("previous of \(next)") }
    }
    let known = leafOrder.reduce(0) { $0 + leaves[$1].entries.count }
    if known != knownCount { faults.append("known count") }
    if leafOrder.count + freeLeaves.count != leaves.count { faults.append("lost leaves") }
    return faults
  }
}

struct KeyIndexTests {
  private func key(_ number: Int) -> Bytes { Bytes("key/\(number)".utf8) }

  @Test(arguments: [UInt64(1), 2])
  func growsAndShrinksLikeAnyMap(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var index = KeyIndex()
    var main: Int64 = 1
    let order = Array(0..<9000).shuffled(using: &random)
    for number in order {
      main += 1
      let key = key(number)
      index.put(key, at: index.find(key), revision: Revision(main: main), isLeased: false)
    }
    #expect(index.faults() == [])
    #expect(index.height == 2)
    #expect(index.count(in: .from([])) == 9000)
    let sorted = order.map(key).sorted { $0.precedes($1) }
    for _ in 0..<50 {
      let a = Int.random(in: 0..<9000, using: &random)
      let b = Int.random(in: 0..<9000, using: &random)
      let span = KeyRange.span(start: sorted[a], end: sorted[b])
      #expect(index.count(in: span) == max(0, b - a))
    }
    for number in order.shuffled(using: &random) where number % 100 != 0 {
      main += 1
      index.delete(key(number), at: index.find(key(number)), revision: Revision(main: main))
    }
    #expect(index.liveCount == 90 && index.knownCount == 9000)
    #expect(index.faults() == [])
    #expect(index.count(in: .from([]), at: 9001) == 9000)
    var cursor = CompactionCursor(revision: main)
    var dropped = 0
    while !cursor.isDone {
      index.compact(&cursor, keys: 100) { _ in dropped += 1 }
    }
    // The tombstone at the compacted revision itself stays.
    #expect(index.knownCount == 91)
    #expect(dropped == 8910 + 8909)
    #expect(index.faults() == [])
    #expect(index.height < 2)
    cursor = CompactionCursor(revision: main + 1)
    while !cursor.isDone { index.compact(&cursor, keys: 1) { _ in } }
    #expect(index.knownCount == 90 && index.faults() == [])
  }

  @Test func emptiesCompletelyAndGrowsAgain() {
    var index = KeyIndex()
    for round in 0..<2 {
      let base = Int64(round) * 10_000 + 2
      for number in 0..<5000 {
        let revision = Revision(main: base, sub: Int64(number))
        index.put(key(number), at: index.find(key(number)), revision: revision, isLeased: false)
      }
      for number in 0..<5000 {
        let revision = Revision(main: base + 1, sub: Int64(number))
        index.delete(key(number), at: index.find(key(number)), revision: revision)
      }
      var cursor = CompactionCursor(revision: base + 2)
      while !cursor.isDone { index.compact(&cursor, keys: 64) { _ in } }
      #expect(index.knownCount == 0 && index.liveCount == 0 && index.height == 0)
      #expect(index.faults() == [])
    }
  }

  @Test func ascendingKeysFillTheirNodes() {
    var index = KeyIndex()
    for number in 0..<10_000 {
      let key = Bytes("key/\(number + 100_000_000)".utf8)
      index.put(
        key, at: index.find(key), revision: Revision(main: Int64(number) + 2), isLeased: false)
    }
    #expect(index.leaves.count <= 10_000 / KeyIndex.leafKeysMax + 2)
    #expect(index.faults() == [])
  }

  @Test func longKeysSplitEarly() {
    var index = KeyIndex()
    for number in 0..<40 {
      let key = Bytes(repeating: UInt8(number), count: 20_000)
      index.put(
        key, at: index.find(key), revision: Revision(main: Int64(number) + 2), isLeased: false)
    }
    #expect(index.leaves.count > 5)
    #expect(index.faults() == [])
  }

  @Test func keepsManyChangesOfOneKey() {
    var index = KeyIndex()
    let key = key(1)
    for main in Int64(2)...100 {
      let location = index.find(key)
      if main % 10 == 0 {
        index.delete(key, at: location, revision: Revision(main: main))
      } else {
        index.put(key, at: location, revision: Revision(main: main), isLeased: false)
      }
    }
    for main in Int64(1)...100 {
      let expected = main < 2 || main % 10 == 0 ? nil : Revision(main: main)
      #expect(index.revision(of: key, at: main) == expected)
    }
    #expect(index.state(of: key) == nil)
    var dropped: [DroppedRecord] = []
    var cursor = CompactionCursor(revision: 95)
    index.compact(&cursor, keys: 1) { dropped.append($0) }
    #expect(dropped.map(\.revision.main) == Array(2...94))
    #expect(index.revision(of: key, at: 95)?.main == 95)
    #expect(index.freeHistories.isEmpty)
    cursor = CompactionCursor(revision: 99)
    index.compact(&cursor, keys: 1) { _ in }
    #expect(index.freeHistories.count == 1)
    #expect(index.revision(of: key, at: 99)?.main == 99)
  }

  @Test func entryIsSmall() {
    #expect(MemoryLayout<KeyEntry>.stride == 48)
    #expect(MemoryLayout<Mark>.size == 12)
  }
}
