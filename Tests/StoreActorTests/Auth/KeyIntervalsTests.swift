import Base
import Testing

@testable import StoreActor

@Suite struct KeyIntervalsTests {
  /// Every key of up to `count` letters.
  private static func keys(_ count: Int) -> [Bytes] {
    let letters: [UInt8] = [0, 0x61, 0x62, 0xff]
    var all: [Bytes] = []
    var last: [Bytes] = [[]]
    for _ in 0..<count {
      last = last.flatMap { key in letters.map { key + [$0] } }
      all += last
    }
    return all
  }

  private static func randomRange(_ random: inout SeededGenerator, _ keys: [Bytes]) -> KeyRange {
    let key = keys[Int.random(in: 0..<keys.count, using: &random)]
    switch Int.random(in: 0..<5, using: &random) {
    case 0, 1: return .single(key)
    case 2: return .from(key)
    default:
      return .span(start: key, end: keys[Int.random(in: 0..<keys.count, using: &random)])
    }
  }

  /// Ends of intervals are keys of up to three letters, so a hole between two shows at one of those.
  @Test(arguments: 0..<40)
  func aRangeIsCoveredIfAllItsKeysAre(_ seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    let short = Self.keys(2)
    let all = Self.keys(3)
    for _ in 0..<20 {
      let granted = (0..<Int.random(in: 0..<6, using: &random)).map { _ in
        Self.randomRange(&random, short)
      }
      let set = KeyIntervals(granted)
      for key in all {
        #expect(set.covers(.single(key)) == granted.contains { $0.contains(key) })
      }
      for _ in 0..<30 {
        let asked = Self.randomRange(&random, short)
        if case .span(let start, let end) = asked, !start.precedes(end) { continue }
        let isOpen: Bool = if case .from = asked { true } else { false }
        let inside = all.filter { asked.contains($0) }.allSatisfy { set.covers(.single($0)) }
        let reachesEnd =
          !isOpen || granted.contains { if case .from = $0 { true } else { false } }
        #expect(set.covers(asked) == (inside && reachesEnd), "seed \(seed): \(asked) in \(granted)")
      }
    }
  }

  @Test func touchingRangesAreOne() {
    let set = KeyIntervals([
      .span(start: [1], end: [3]), .span(start: [3], end: [5]), .single([5]),
      .span(start: [7], end: [6]),
    ])
    #expect(set.intervals == [.init(start: [1], end: [5, 0])])
    #expect(set.covers(.span(start: [1], end: [5, 0])))
    #expect(!set.covers(.span(start: [1], end: [5, 1])))
    #expect(!set.covers(.from([1])))
    // Nothing is asked of an empty range but its start.
    #expect(set.covers(.span(start: [4], end: [2])))
  }
}
