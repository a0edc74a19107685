import Testing

@testable import Member

@Suite struct ApplyLagTests {
  private let second: UInt64 = 1_000_000_000

  @Test func aLargeBatchIsNoReasonToRefuse() {
    var lag = ApplyLag()
    for number in 1...10 as ClosedRange<UInt64> {
      // 20,000 entries are committed and applied between two looks, and 10,000 are always on their way.
      let applied = number * 20_000
      lag.tick(now: number * second, commit: applied + 10_000, applied: applied)
      #expect(!lag.refuses(commit: applied + 10_000, applied: applied))
    }
  }

  @Test func aStoreThatDoesNotKeepUpIs() {
    var lag = ApplyLag()
    lag.tick(now: second, commit: 20_000, applied: 10_000)
    #expect(!lag.refuses(commit: 20_000, applied: 10_000), "it may just have happened")
    lag.tick(now: second + ApplyLag.patience / 2, commit: 20_000, applied: 11_000)
    #expect(!lag.refuses(commit: 20_000, applied: 11_000))
    lag.tick(now: second + ApplyLag.patience, commit: 20_000, applied: 12_000)
    #expect(lag.refuses(commit: 20_000, applied: 12_000))
    #expect(!lag.refuses(commit: 20_000, applied: 15_000), "at most 5,000 entries wait")
    lag.tick(now: 2 * second, commit: 21_000, applied: 20_000)
    #expect(!lag.refuses(commit: 30_000, applied: 20_000), "it has caught up")
  }
}
