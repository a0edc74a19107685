import Base

/// Half-open key intervals with a number each, searched by a key they contain.
///
/// A treap ordered by (start, end); every node knows which interval of its subtree reaches
/// farthest, so a search skips subtrees that end before the key. Expected O(log n) per change and
/// O(log n + found x log n) per search. Nodes live in one array and refer to each other by index.
struct IntervalTree: Sendable {
  private struct Node: Sendable {
    var start: Bytes
    /// nil: no upper bound.
    var end: Bytes?
    var value: Int
    var priority: UInt64
    var left = none
    var right = none
    /// The node of this subtree whose interval ends last.
    var farthest: Int
  }

  private static let none = -1

  private var nodes: [Node] = []
  private var free: [Int] = []
  private var root = none
  /// Shapes the tree; a fixed seed, so that equal histories give equal trees.
  private var generator = SeededGenerator(seed: 0x57a7)
  private(set) var count = 0

  /// Adds an interval. The caller keeps (start, end) unique.
  mutating func insert(start: Bytes, end: Bytes?, value: Int) {
    let index = free.popLast() ?? nodes.count
    let node = Node(
      start: start, end: end, value: value, priority: generator.next(), farthest: index)
    if index == nodes.count { nodes.append(node) } else { nodes[index] = node }
    root = insert(index, under: root)
    count += 1
  }

  /// Removes the interval with exactly these bounds, if there is one.
  mutating func remove(start: Bytes, end: Bytes?) {
    root = remove(start, end, under: root)
  }

  /// Appends the values of all intervals that contain `key`, in (start, end) order.
  func search(_ key: Bytes, into found: inout [Int]) {
    search(key, under: root, into: &found)
  }

  private func search(_ key: Bytes, under index: Int, into found: inout [Int]) {
    guard index != Self.none, ends(nodes[index].farthest, after: key) else { return }
    search(key, under: nodes[index].left, into: &found)
    guard nodes[index].start.compare(key) <= 0 else { return }
    if ends(index, after: key) { found.append(nodes[index].value) }
    search(key, under: nodes[index].right, into: &found)
  }

  private func ends(_ index: Int, after key: Bytes) -> Bool {
    guard let end = nodes[index].end else { return true }
    return key.compare(end) < 0
  }

  private mutating func insert(_ new: Int, under index: Int) -> Int {
    guard index != Self.none else { return new }
    if order(nodes[new].start, nodes[new].end, nodes[index].start, nodes[index].end) < 0 {
      nodes[index].left = insert(new, under: nodes[index].left)
      if nodes[nodes[index].left].priority > nodes[index].priority { return rotateRight(index) }
    } else {
      nodes[index].right = insert(new, under: nodes[index].right)
      if nodes[nodes[index].right].priority > nodes[index].priority { return rotateLeft(index) }
    }
    updateFarthest(index)
    return index
  }

  private mutating func remove(_ start: Bytes, _ end: Bytes?, under index: Int) -> Int {
    guard index != Self.none else { return index }
    let side = order(start, end, nodes[index].start, nodes[index].end)
    if side == 0 {
      let rest = merge(nodes[index].left, nodes[index].right)
      // The slot is reused later; the key bytes are not needed until then.
      nodes[index] = Node(start: [], end: nil, value: 0, priority: 0, farthest: index)
      free.append(index)
      count -= 1
      return rest
    }
    if side < 0 {
      nodes[index].left = remove(start, end, under: nodes[index].left)
    } else {
      nodes[index].right = remove(start, end, under: nodes[index].right)
    }
    updateFarthest(index)
    return index
  }

  private mutating func merge(_ left: Int, _ right: Int) -> Int {
    if left == Self.none { return right }
    if right == Self.none { return left }
    if nodes[left].priority > nodes[right].priority {
      nodes[left].right = merge(nodes[left].right, right)
      updateFarthest(left)
      return left
    }
    nodes[right].left = merge(left, nodes[right].left)
    updateFarthest(right)
    return right
  }

  private mutating func rotateRight(_ index: Int) -> Int {
    let top = nodes[index].left
    nodes[index].left = nodes[top].right
    nodes[top].right = index
    updateFarthest(index)
    updateFarthest(top)
    return top
  }

  private mutating func rotateLeft(_ index: Int) -> Int {
    let top = nodes[index].right
    nodes[index].right = nodes[top].left
    nodes[top].left = index
    updateFarthest(index)
    updateFarthest(top)
    return top
  }

  private mutating func updateFarthest(_ index: Int) {
    var farthest = index
    for child in [nodes[index].left, nodes[index].right] where child != Self.none {
      let other = nodes[child].farthest
      if compareEnds(nodes[other].end, nodes[farthest].end) > 0 { farthest = other }
    }
    nodes[index].farthest = farthest
  }

  private func order(_ start: Bytes, _ end: Bytes?, _ start2: Bytes, _ end2: Bytes?) -> Int {
    let byStart = start.compare(start2)
    return byStart != 0 ? byStart : compareEnds(end, end2)
  }

  private func compareEnds(_ left: Bytes?, _ right: Bytes?) -> Int {
    switch (left, right) {
    case (nil, nil): 0
    case (nil, _): 1
    case (_, nil): -1
    case (.some(let left), .some(let right)): left.compare(right)
    }
  }
}
