import Base
import Glibc
import Testing

@testable import RaftActor

@Suite struct SimulationTests {
  /// `RAFT_SEEDS=5000` runs that many; a failing seed is named in the report.
  private static let seedCount: UInt64 =
    getenv("RAFT_SEEDS").flatMap { UInt64(String(cString: $0)) } ?? 200

  /// Faults of all kinds, then healing.
  @Test(arguments: 0..<8) func randomFaults(block: UInt64) {
    var reads = 0
    var commits = 0
    let size = Self.seedCount / 8
    for seed in block * size..<(block + 1) * size {
      var cluster = SimulatedCluster(seed: seed)
      do {
        try cluster.runWithFaults(units: 300)
        try cluster.heal()
      } catch {
        Issue.record("seed \(seed): \(error)\n\(cluster.options)")
      }
      reads += cluster.oracle.readsDone
      commits += cluster.oracle.committed.count
    }
    #expect(reads > 200 && commits > 1000, "the load hardly ran: \(reads), \(commits)")
  }

  /// A seed determines everything, or a failure could not be replayed.
  @Test func equalSeedsGiveEqualRuns() throws {
    func run() throws -> String {
      var cluster = SimulatedCluster(seed: 7)
      try cluster.runWithFaults(units: 300)
      return "\(cluster.describe()) \(cluster.oracle.readsDone) \(cluster.generator.next())"
    }
    #expect(try run() == run())
  }
}
