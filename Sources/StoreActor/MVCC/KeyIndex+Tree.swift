import Base

/// The shape of the tree: descent, growth by splitting, shrinking by merging.
extension KeyIndex {
  /// The leaf where `key` stands or would stand.
  func descend(to key: UnsafeRawBufferPointer) -> Int32 {
    var node = root
    for _ in 0..<height {
      node = branches[Int(node)].children[childSlot(of: Int(node), for: key)]
    }
    return node
  }

  @inline(__always)
  func childSlot(of branch: Int, for key: UnsafeRawBufferPointer) -> Int {
    let (slot, found) = branches[branch].separators.search(key)
    return found ? slot + 1 : slot
  }

  /// Changes the live count of `key`'s leaf and of everything above.
  mutating func addLive(_ delta: Int, to key: UnsafeRawBufferPointer) {
    var node = Int(root)
    for _ in 0..<height {
      let slot = childSlot(of: node, for: key)
      branches[node].live[slot] += delta
      node = Int(branches[node].children[slot])
    }
    leaves[node].live += delta
    liveCount += delta
  }

  /// Adds a key that the index does not know. Live counts are the caller's.
  mutating func insert(_ entry: KeyEntry, key: UnsafeRawBufferPointer, at location: Location) {
    let leaf = Int(location.leaf)
    leaves[leaf].keys.insert(key, at: location.slot)
    leaves[leaf].entries.insert(entry, at: location.slot)
    knownCount += 1
    let count = leaves[leaf].entries.count
    let isLong = leaves[leaf].keys.bytes.count > Self.leafBytesMax && count >= 4
    if count > Self.leafKeysMax || isLong {
      splitLeaf(leaf, path: path(to: key), atRightEdge: location.slot == count - 1)
    }
  }

  struct Step {
    let branch: Int
    let slot: Int
  }

  /// The branches from the root down to `key`'s leaf.
  private func path(to key: UnsafeRawBufferPointer) -> [Step] {
    var steps: [Step] = []
    var node = Int(root)
    for _ in 0..<height {
      let slot = childSlot(of: node, for: key)
      steps.append(Step(branch: node, slot: slot))
      node = Int(branches[node].children[slot])
    }
    return steps
  }

  /// Splits in half, or leaves the old node full when keys arrive in ascending order.
  private mutating func splitLeaf(_ left: Int, path: [Step], atRightEdge: Bool) {
    let count = leaves[left].entries.count
    let isAppend = atRightEdge && leaves[left].next < 0
    let cut = isAppend ? count - 1 : count / 2
    let right = allocateLeaf()
    leaves[right].keys = leaves[left].keys.split(at: cut, reserving: Self.leafKeysMax + 1)
    leaves[right].entries.append(contentsOf: leaves[left].entries[cut...])
    leaves[left].entries.removeSubrange(cut...)

    let next = leaves[left].next
    leaves[right].next = next
    leaves[right].previous = Int32(left)
    leaves[left].next = Int32(right)
    if next >= 0 { leaves[Int(next)].previous = Int32(right) }

    let live = leaves[right].entries.reduce(0) { $0 + ($1.isLive ? 1 : 0) }
    leaves[right].live = live
    leaves[left].live -= live
    let separator = leaves[right].keys[0]
    addChild(Int32(right), separator: separator, live: live, besideLastOf: path)
  }

  /// Links a new right sibling of the node that `path` leads to.
  private mutating func addChild(
    _ child: Int32, separator: Bytes, live: Int, besideLastOf path: [Step]
  ) {
    guard let step = path.last else { return growRoot(child, separator: separator, live: live) }
    let branch = step.branch
    separator.withUnsafeBytes { branches[branch].separators.insert($0, at: step.slot) }
    branches[branch].children.insert(child, at: step.slot + 1)
    branches[branch].live[step.slot] -= live
    branches[branch].live.insert(live, at: step.slot + 1)
    let count = branches[branch].children.count
    guard count > Self.branchChildrenMax else { return }

    let isRightmost = path.dropLast().allSatisfy { above in
      above.slot + 1 == branches[above.branch].children.count
    }
    let isAppend = isRightmost && step.slot + 2 == count
    let cut = isAppend ? count - 2 : count / 2
    let right = allocateBranch()
    let upper = branches[branch].separators.split(at: cut - 1, reserving: 0)
    let middle = upper[0]
    branches[right].separators = upper
    branches[right].separators.remove(at: 0)
    branches[right].children = Array(branches[branch].children[cut...])
    branches[right].live = Array(branches[branch].live[cut...])
    branches[branch].children.removeSubrange(cut...)
    branches[branch].live.removeSubrange(cut...)
    let moved = branches[right].live.reduce(0, +)
    addChild(Int32(right), separator: middle, live: moved, besideLastOf: path.dropLast())
  }

  private mutating func growRoot(_ right: Int32, separator: Bytes, live: Int) {
    let top = allocateBranch()
    let leftLive =
      height == 0 ? leaves[Int(root)].live : branches[Int(root)].live.reduce(0, +)
    separator.withUnsafeBytes { branches[top].separators.insert($0, at: 0) }
    branches[top].children = [root, right]
    branches[top].live = [leftLive, live]
    root = Int32(top)
    height += 1
  }

  private mutating func allocateLeaf() -> Int {
    if let free = freeLeaves.popLast() {
      leaves[Int(free)] = Leaf()
      return Int(free)
    }
    leaves.append(Leaf())
    return leaves.count - 1
  }

  private mutating func allocateBranch() -> Int {
    if let free = freeBranches.popLast() { return Int(free) }
    branches.append(Branch())
    return branches.count - 1
  }

  // MARK: - Shrinking

  /// Merges the leaf that `key` leads to with a neighbour if it has become small.
  mutating func rebalance(leafOf key: Bytes) {
    let steps = key.withUnsafeBytes { path(to: $0) }
    guard let step = steps.last else { return }
    let leaf = Int(branches[step.branch].children[step.slot])
    let count = leaves[leaf].entries.count
    guard count < Self.leafKeysMax / 4 else { return }
    if count == 0 {
      unlinkLeaf(leaf)
      removeChild(at: step.slot, path: steps)
      return
    }
    let siblings = branches[step.branch].children.count
    for slot in [step.slot - 1, step.slot] where slot >= 0 && slot + 1 < siblings {
      if mergeLeaves(at: slot, of: step.branch) {
        removeChild(at: slot + 1, path: steps)
        return
      }
    }
  }

  /// Moves the keys of child `slot + 1` into child `slot` if they fit with room to spare.
  private mutating func mergeLeaves(at slot: Int, of branch: Int) -> Bool {
    let left = Int(branches[branch].children[slot])
    let right = Int(branches[branch].children[slot + 1])
    let count = leaves[left].entries.count + leaves[right].entries.count
    let bytes = leaves[left].keys.bytes.count + leaves[right].keys.bytes.count
    guard count <= Self.leafKeysMax * 3 / 4, bytes <= Self.leafBytesMax else { return false }
    let keys = leaves[right].keys
    let entries = leaves[right].entries
    leaves[left].keys.append(keys)
    leaves[left].entries.append(contentsOf: entries)
    leaves[left].live += leaves[right].live
    branches[branch].live[slot] += branches[branch].live[slot + 1]
    branches[branch].live[slot + 1] = 0
    unlinkLeaf(right)
    return true
  }

  private mutating func unlinkLeaf(_ leaf: Int) {
    let (previous, next) = (leaves[leaf].previous, leaves[leaf].next)
    if previous >= 0 { leaves[Int(previous)].next = next }
    if next >= 0 { leaves[Int(next)].previous = previous }
    leaves[leaf].keys = PackedKeys()
    leaves[leaf].entries = []
    leaves[leaf].live = 0
    freeLeaves.append(Int32(leaf))
  }

  /// Drops a child of the last branch of `path`, and whatever becomes empty or small above it.
  private mutating func removeChild(at slot: Int, path: [Step]) {
    guard let step = path.last else { return }
    let branch = step.branch
    branches[branch].children.remove(at: slot)
    branches[branch].live.remove(at: slot)
    if branches[branch].separators.count > 0 {
      branches[branch].separators.remove(at: max(0, slot - 1))
    }
    let count = branches[branch].children.count
    guard let above = path.dropLast().last else { return shrinkRoot() }
    if count == 0 {
      freeBranch(branch)
      removeChild(at: above.slot, path: path.dropLast())
      return
    }
    guard count < Self.branchChildrenMax / 4 else { return }
    let siblings = branches[above.branch].children.count
    for slot in [above.slot - 1, above.slot] where slot >= 0 && slot + 1 < siblings {
      if mergeBranches(at: slot, of: above.branch) {
        removeChild(at: slot + 1, path: path.dropLast())
        return
      }
    }
  }

  private mutating func mergeBranches(at slot: Int, of parent: Int) -> Bool {
    let left = Int(branches[parent].children[slot])
    let right = Int(branches[parent].children[slot + 1])
    let count = branches[left].children.count + branches[right].children.count
    guard count <= Self.branchChildrenMax * 3 / 4 else { return false }
    let separator = branches[parent].separators[slot]
    let moved = branches[right]
    separator.withUnsafeBytes {
      branches[left].separators.insert($0, at: branches[left].separators.count)
    }
    branches[left].separators.append(moved.separators)
    branches[left].children.append(contentsOf: moved.children)
    branches[left].live.append(contentsOf: moved.live)
    branches[parent].live[slot] += branches[parent].live[slot + 1]
    branches[parent].live[slot + 1] = 0
    freeBranch(right)
    return true
  }

  private mutating func freeBranch(_ branch: Int) {
    branches[branch] = Branch()
    freeBranches.append(Int32(branch))
  }

  /// Lowers the tree while its root has a single child; an empty tree is one empty leaf.
  private mutating func shrinkRoot() {
    while height > 0, branches[Int(root)].children.count <= 1 {
      let old = Int(root)
      if let child = branches[old].children.first {
        root = child
        height -= 1
      } else {
        root = Int32(allocateLeaf())
        height = 0
      }
      freeBranch(old)
    }
  }
}
