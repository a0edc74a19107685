import Base
import Testing

@testable import RaftActor

@Suite struct QuorumTests {
  @Test func reachedEqualsTheNaiveModel() {
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<5000 {
      let count = Int.random(in: 1...9, using: &generator)
      let values = (0..<count).map { _ in UInt64.random(in: 0...6, using: &generator) }
      let naive = (0...6 as ClosedRange<UInt64>)
        .last { level in values.filter { $0 >= level }.count * 2 > count }
      var sorted = values
      #expect(Quorum.reached(&sorted) == naive)
    }
    var none: [UInt64] = []
    #expect(Quorum.reached(&none) == 0)
  }

  @Test func tallyEqualsTheNaiveModel() {
    for voters in 1...9 {
      for granted in 0...voters {
        for refused in 0...(voters - granted) {
          let expected: Quorum.Result =
            granted * 2 > voters ? .won : (voters - refused) * 2 > voters ? .pending : .lost
          #expect(Quorum.tally(voters: voters, granted: granted, refused: refused) == expected)
        }
      }
    }
    #expect(Quorum.tally(voters: 0, granted: 0, refused: 0) != .won)
  }

  /// Random appends, truncations and compactions against a plain array.
  @Test func logEqualsTheNaiveModel() {
    var generator = SeededGenerator(seed: 2)
    for _ in 0..<60 {
      var log = RaftLog(baseIndex: 0, baseTerm: 0)
      var model: [Entry] = []
      var base = 0
      var term: Term = 1
      for _ in 0..<120 {
        switch Int.random(in: 0..<10, using: &generator) {
        case 0 where model.count > base:
          let from = Int.random(in: base + 1...model.count, using: &generator)
          log.truncate(from: LogIndex(from))
          model.removeSubrange((from - 1)...)
          term += 1
        case 1:
          base = Int.random(in: base...model.count, using: &generator)
          log.dropPrefix(through: LogIndex(base))
        default:
          let isChange = Int.random(in: 0..<6, using: &generator) == 0
          let entry = Entry(
            term: term, index: LogIndex(model.count) + 1,
            kind: isChange ? .configurationChange : .normal,
            data: Bytes(repeating: 1, count: Int.random(in: 0..<50, using: &generator)))
          log.append(entry)
          model.append(entry)
        }
        compare(log, model, base: base, &generator)
      }
    }
  }

  private func compare(
    _ log: RaftLog, _ model: [Entry], base: Int, _ generator: inout SeededGenerator
  ) {
    #expect(log.lastIndex == LogIndex(model.count) && log.baseIndex == LogIndex(base))
    #expect(log.bytes == model[base...].reduce(0) { $0 + $1.data.count + 16 })
    #expect(log.term(at: LogIndex(model.count) + 1) == nil)
    guard model.count > base else { return }
    let from = Int.random(in: base + 1...model.count, using: &generator)
    let budget = Int.random(in: 0..<300, using: &generator)
    var expected: [Entry] = []
    var bytes = 0
    for entry in model[(from - 1)...] {
      bytes += entry.data.count + 16
      if bytes > budget && !expected.isEmpty { break }
      expected.append(entry)
    }
    #expect(log.entries(from: LogIndex(from), maxBytes: budget) == expected)
    let through = Int.random(in: from...model.count, using: &generator)
    #expect(
      log.hasConfiguration(after: LogIndex(from), through: LogIndex(through))
        == model[from..<through].contains { $0.kind == .configurationChange })
    let term = Term.random(in: 0...8, using: &generator)
    if let found = model[(base)..<from].last(where: { $0.term <= term }) {
      let position = log.lastPosition(atOrBelow: LogIndex(from), termAtMost: term)
      #expect(position == (found.index, found.term))
    }
  }
}
