import Base
import Testing

@testable import StoreActor

@Suite struct WatcherIndexTests {
  private func bytes(_ generator: inout SeededGenerator) -> Bytes {
    (0..<Int.random(in: 1...3, using: &generator)).map { _ in
      UInt8.random(in: 0...3, using: &generator)
    }
  }

  private func range(_ generator: inout SeededGenerator) -> KeyRange {
    let key = bytes(&generator)
    return switch Int.random(in: 0..<5, using: &generator) {
    case 0: .single(key)
    case 1: .from(key)
    default: .span(start: key, end: bytes(&generator))
    }
  }

  @Test(arguments: 1...8) func matchesLikeTheDefinition(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    var index = WatcherIndex()
    var model: [Int: KeyRange] = [:]
    for _ in 0..<1500 {
      if model.count < 60, Bool.random(using: &generator) {
        let member = (0...).first { model[$0] == nil }!
        let range = range(&generator)
        model[member] = range
        index.insert(member, range: range)
      } else if let member = model.keys.sorted().randomElement(using: &generator) {
        model[member] = nil
        index.remove(member)
      }
      let key = bytes(&generator)
      var found: [Int] = []
      index.match(key, into: &found)
      let expected = model.filter { $0.value.contains(key) }.keys.sorted()
      #expect(found.sorted() == expected)
      #expect(index.count == model.count)
    }
  }
}
