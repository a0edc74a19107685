/// A binary heap whose order is given with each call; it must be the same in all of them.
///
/// `precedes` says whether the first argument comes out before the second.
struct BinaryHeap<Element> {
  private var elements: [Element]

  init() { elements = [] }

  /// Heap order of all `elements` in linear time.
  init(_ elements: [Element], by precedes: (Element, Element) -> Bool) {
    self.elements = elements
    for position in (0..<elements.count / 2).reversed() { siftDown(position, by: precedes) }
  }

  var count: Int { elements.count }
  var isEmpty: Bool { elements.isEmpty }
  var first: Element? { elements.first }
  /// In no order.
  var unordered: [Element] { elements }

  mutating func insert(_ element: Element, by precedes: (Element, Element) -> Bool) {
    elements.append(element)
    var position = elements.count - 1
    while position > 0 {
      let parent = (position - 1) / 2
      guard precedes(elements[position], elements[parent]) else { break }
      elements.swapAt(position, parent)
      position = parent
    }
  }

  /// - Precondition: the heap is not empty.
  mutating func removeFirst(by precedes: (Element, Element) -> Bool) -> Element {
    let first = elements[0]
    let last = elements.removeLast()
    if !elements.isEmpty {
      elements[0] = last
      siftDown(0, by: precedes)
    }
    return first
  }

  /// Takes the first element out and another one in, at the price of one of them.
  ///
  /// - Precondition: the heap is not empty.
  mutating func replaceFirst(
    _ element: Element, by precedes: (Element, Element) -> Bool
  ) {
    elements[0] = element
    siftDown(0, by: precedes)
  }

  private mutating func siftDown(_ start: Int, by precedes: (Element, Element) -> Bool) {
    var position = start
    while true {
      var smallest = position
      for child in (2 * position + 1)...(2 * position + 2)
      where child < elements.count && precedes(elements[child], elements[smallest]) {
        smallest = child
      }
      if smallest == position { return }
      elements.swapAt(position, smallest)
      position = smallest
    }
  }
}

extension BinaryHeap: Sendable where Element: Sendable {}
