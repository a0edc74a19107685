import Base
import Testing

@testable import Simulation

@Suite struct CoreWorldTests {
  /// A seed determines everything, or a failure could not be replayed.
  @Test func equalSeedsGiveEqualRuns() {
    for seed in 1...3 as ClosedRange<UInt64> {
      let first = RunRequest(seed: seed).run()
      let second = RunRequest(seed: seed).run()
      #expect(first.traceHash == second.traceHash && first.counts == second.counts)
      #expect(first.violation == nil, "seed \(seed)")
    }
  }
}
