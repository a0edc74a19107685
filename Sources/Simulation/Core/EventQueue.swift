/// Things to come, earliest first; those due at the same time in the order in which they were added.
struct EventQueue<Event> {
  private struct Item {
    let due: UInt64
    let number: UInt64
    let event: Event

    func precedes(_ other: Item) -> Bool {
      due != other.due ? due < other.due : number < other.number
    }
  }

  private var items: [Item] = []
  private var added: UInt64 = 0

  var isEmpty: Bool { items.isEmpty }

  mutating func add(_ event: Event, at due: UInt64) {
    added += 1
    items.append(Item(due: due, number: added, event: event))
    var position = items.count - 1
    while position > 0 {
      let parent = (position - 1) / 2
      guard items[position].precedes(items[parent]) else { break }
      items.swapAt(position, parent)
      position = parent
    }
  }

  mutating func next() -> (due: UInt64, event: Event)? {
    guard let last = items.popLast() else { return nil }
    guard let first = items.first else { return (last.due, last.event) }
    items[0] = last
    var position = 0
    while true {
      var smallest = position
      for child in (2 * position + 1)...(2 * position + 2)
      where child < items.count && items[child].precedes(items[smallest]) {
        smallest = child
      }
      if smallest == position { break }
      items.swapAt(position, smallest)
      position = smallest
    }
    return (first.due, first.event)
  }
}
