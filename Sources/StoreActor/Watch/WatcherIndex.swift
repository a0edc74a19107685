import Base

/// Which watchers want a key: a hash table for single keys, an interval tree for ranges.
///
/// Watchers of the same range form a group, so thousands on one prefix cost one tree node.
/// Members are small dense numbers chosen by the caller.
struct WatcherIndex: Sendable {
  private struct Group: Sendable {
    var range: KeyRange
    var members: [Int]
  }

  private struct Place: Sendable {
    var group: Int
    var position: Int
  }

  private var groups: [Group] = []
  private var freeGroups: [Int] = []
  private var singles: [Bytes: Int] = [:]
  private var ranges: [KeyRange: Int] = [:]
  private var tree = IntervalTree()
  /// Indexed by member; only meaningful for members that are present.
  private var places: [Place] = []
  private(set) var count = 0

  mutating func insert(_ member: Int, range: KeyRange) {
    let group = self.group(for: range)
    while places.count <= member { places.append(Place(group: -1, position: -1)) }
    precondition(places[member].group < 0, "watcher indexed twice")
    places[member] = Place(group: group, position: groups[group].members.count)
    groups[group].members.append(member)
    count += 1
  }

  mutating func remove(_ member: Int) {
    let place = places[member]
    precondition(place.group >= 0, "watcher not indexed")
    places[member] = Place(group: -1, position: -1)
    let last = groups[place.group].members.removeLast()
    if last != member {
      groups[place.group].members[place.position] = last
      places[last].position = place.position
    }
    if groups[place.group].members.isEmpty { removeGroup(place.group) }
    count -= 1
  }

  /// Appends every member whose range contains `key`, each once, in an order that depends only on
  /// the sequence of insertions and removals.
  func match(_ key: Bytes, into found: inout [Int]) {
    if !singles.isEmpty, let group = singles[key] {
      found.append(contentsOf: groups[group].members)
    }
    guard tree.count > 0 else { return }
    var matching: [Int] = []
    tree.search(key, into: &matching)
    for group in matching { found.append(contentsOf: groups[group].members) }
  }

  private mutating func group(for range: KeyRange) -> Int {
    if case .single(let key) = range {
      if let known = singles[key] { return known }
    } else if let known = ranges[range] {
      return known
    }
    let new = Group(range: range, members: [])
    let index = freeGroups.popLast() ?? groups.count
    if index == groups.count { groups.append(new) } else { groups[index] = new }
    switch range {
    case .single(let key): singles[key] = index
    case .span(let start, let end):
      ranges[range] = index
      tree.insert(start: start, end: end, value: index)
    case .from(let start):
      ranges[range] = index
      tree.insert(start: start, end: nil, value: index)
    }
    return index
  }

  private mutating func removeGroup(_ index: Int) {
    let range = groups[index].range
    switch range {
    case .single(let key): singles[key] = nil
    case .span(let start, let end):
      ranges[range] = nil
      tree.remove(start: start, end: end)
    case .from(let start):
      ranges[range] = nil
      tree.remove(start: start, end: nil)
    }
    groups[index] = Group(range: .single([]), members: [])
    freeGroups.append(index)
  }
}
