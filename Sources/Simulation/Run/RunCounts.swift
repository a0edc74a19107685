/// What a run did, to see that it did something.
package struct RunCounts: Equatable, Sendable {
  package var steps = 0
  package var commits = 0
  package var writes = 0
  package var reads = 0
  package var events = 0
  package var snapshots = 0
  package var crashes = 0
  package var elections = 0
  package var membershipChanges = 0
  package var expiries = 0
  package var compactions = 0
  package var keepAlives = 0

  private var values: [Int] {
    [
      steps, commits, writes, reads, events, snapshots, crashes, elections, membershipChanges,
      expiries, compactions, keepAlives,
    ]
  }

  package init() {}

  /// Numbers with commas between them, for another process.
  package var encoded: String { values.map(String.init).joined(separator: ",") }

  /// Adds what ``encoded`` gave.
  package mutating func add(_ encoded: some StringProtocol) {
    let added = encoded.split(separator: ",").map { Int($0) ?? 0 }
    guard added.count == values.count else { return }
    steps += added[0]
    commits += added[1]
    writes += added[2]
    reads += added[3]
    events += added[4]
    snapshots += added[5]
    crashes += added[6]
    elections += added[7]
    membershipChanges += added[8]
    expiries += added[9]
    compactions += added[10]
    keepAlives += added[11]
  }
}
