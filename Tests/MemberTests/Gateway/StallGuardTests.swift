import Testing

@testable import Member

@Suite struct StallGuardTests {
  private static let tick: UInt64 = 100

  private func running(until now: UInt64) -> StallGuard {
    var stall = StallGuard(tickInterval: Self.tick)
    for (number, time) in stride(from: Self.tick, through: now, by: Int(Self.tick)).enumerated() {
      stall.tick(now: time, id: UInt64(number))
    }
    return stall
  }

  @Test func noProofWhileTimePasses() {
    #expect(StallGuard(tickInterval: Self.tick).mustProve(now: 0), "before the first tick")
    let stall = running(until: 1000)
    #expect(!stall.mustProve(now: 1250) && stall.mustProve(now: 1301))
  }

  /// The tick that runs first after a pause does not end the doubt.
  @Test func aTickAfterAPauseProvesNothing() {
    var stall = running(until: 1000)
    stall.tick(now: 5000, id: 70)
    #expect(stall.mustProve(now: 5001))
    stall.tick(now: 5100, id: 80)
    #expect(stall.mustProve(now: 5101))
    stall.confirmed(id: 69)
    stall.confirmed(id: 70)
    #expect(stall.mustProve(now: 5101), "asked before the pause was noticed")
    stall.confirmed(id: 71)
    #expect(!stall.mustProve(now: 5101))
  }
}
