import Base
import RaftActor
import StoreActor
import Testing

@testable import Member

@Suite struct ForcedClusterTests {
  private let three = Membership(
    members: [1, 2, 3].map { MemberRecord(id: $0, peerURLs: ["http://p\($0):1"], name: "n\($0)") },
    removed: [9], clusterVersion: "3.7.0")

  private func force(
    _ membership: Membership, commit: LogIndex, applied: LogIndex, entries: [Entry],
    base: SnapshotMetadata = SnapshotMetadata(index: 10, term: 2)
  ) throws -> ForcedCluster {
    try ForcedCluster(
      member: 2, name: "n2", advertised: ["http://p2:1"], membership: membership,
      applied: applied, hardState: HardState(term: 4, vote: 3, commit: commit), base: base,
      entries: entries)
  }

  private func entries(_ range: ClosedRange<LogIndex>, term: Term = 3) -> [Entry] {
    range.map { Entry(term: term, index: $0, data: [1]) }
  }

  @Test func othersAreRemovedBehindWhatIsCommitted() throws {
    let forced = try force(three, commit: 13, applied: 12, entries: entries(11...15))
    #expect(forced.kept.map(\.index) == [11, 12, 13])
    #expect(forced.appended.map(\.index) == [14, 15])
    #expect(forced.appended.allSatisfy { $0.term == 4 && $0.kind == .configurationChange })
    #expect(forced.removed == [1, 3])
    #expect(forced.hardState == HardState(term: 4, vote: 3, commit: 15))
    var after = three
    for entry in forced.appended {
      try after.apply(try ConfChange(decoding: entry.data), maxLearners: 1)
    }
    #expect(after.members.map(\.id) == [2])
  }

  @Test func whatTheStoreHoldsCountsAsCommitted() throws {
    let forced = try force(three, commit: 11, applied: 14, entries: entries(11...15))
    #expect(forced.kept.map(\.index) == [11, 12, 13, 14])
  }

  @Test func changesThatWaitAreCounted() throws {
    let joined = ConfChange(
      kind: .addLearnerNode, nodeID: 5,
      context: MemberContext(
        record: MemberRecord(id: 5, peerURLs: ["http://p5:1"], isLearner: true)
      ).encoded())
    var log = entries(11...12)
    log[1] = Entry(term: 3, index: 12, kind: .configurationChange, data: joined.encoded())
    #expect(try force(three, commit: 12, applied: 11, entries: log).removed == [1, 3, 5])
    #expect(try force(three, commit: 11, applied: 11, entries: log).removed == [1, 3])
  }

  @Test func aMemberAloneOnlyLosesWhatIsUncertain() throws {
    let alone = Membership(
      members: [MemberRecord(id: 2, peerURLs: ["http://p2:1"])], removed: [], clusterVersion: nil)
    let cut = try force(alone, commit: 11, applied: 11, entries: entries(11...13))
    #expect(cut.appended == [Entry(term: 4, index: 12)])
    #expect(try force(alone, commit: 13, applied: 11, entries: entries(11...13)).appended.isEmpty)
  }

  @Test func aLearnerBecomesAVoter() throws {
    let learner = Membership(
      members: [
        MemberRecord(id: 1, peerURLs: ["http://p1:1"]),
        MemberRecord(id: 2, peerURLs: ["http://p2:1"], isLearner: true),
      ], removed: [], clusterVersion: nil)
    let forced = try force(learner, commit: 10, applied: 10, entries: [])
    var after = learner
    for entry in forced.appended {
      try after.apply(try ConfChange(decoding: entry.data), maxLearners: 1)
    }
    #expect(after.confState == ConfState(voters: [2]))
  }

  @Test func aRemovedMemberStaysRemoved() {
    let gone = Membership(members: [], removed: [2], clusterVersion: nil)
    #expect(throws: StorageError.self) {
      try force(gone, commit: 10, applied: 10, entries: [])
    }
  }
}
