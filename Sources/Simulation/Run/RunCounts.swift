/// What a run did, to see that it did something.
public struct RunCounts: Equatable, Sendable {
  public var steps = 0
  public var commits = 0
  public var writes = 0
  public var reads = 0
  public var events = 0
  public var snapshots = 0
  public var crashes = 0
  public var elections = 0
  public var membershipChanges = 0
  public var expiries = 0
  public var compactions = 0
  public var keepAlives = 0

  private var values: [Int] {
    [
      steps, commits, writes, reads, events, snapshots, crashes, elections, membershipChanges,
      expiries, compactions, keepAlives,
    ]
  }

  public init() {}

  /// Numbers with commas between them, for another process.
  public var encoded: String { values.map(String.init).joined(separator: ",") }

  /// Adds what ``encoded`` gave.
  public mutating func add(_ encoded: some StringProtocol) {
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
