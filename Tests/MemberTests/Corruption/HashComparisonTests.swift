import Base
import StoreActor
import Testing

@testable import Member

struct HashComparisonTests {
  private func hash(_ hash: UInt32, revision: Int64 = 10, compacted: Int64 = 5) -> KeyValueHash {
    KeyValueHash(hash: hash, revision: revision, compactRevision: compacted)
  }

  private func comparison(
    members: Int = 3, own: UInt32, _ others: [(MemberID, UInt32, Int64)]
  ) -> HashComparison {
    var comparison = HashComparison(memberCount: members, own: 1, hash: hash(own))
    for (id, value, compacted) in others { comparison.add(id, hash(value, compacted: compacted)) }
    return comparison
  }

  @Test func equalData() {
    let all = comparison(own: 7, [(2, 7, 5), (3, 7, 5)])
    #expect(all.verdict == .equal(compared: 2) && all.isComplete)
    let some = comparison(own: 7, [(2, 7, 5)])
    #expect(some.verdict == .equal(compared: 1) && !some.isComplete)
    let none = comparison(own: 7, [])
    #expect(none.verdict == .equal(compared: 0) && !none.isComplete)
    #expect(comparison(members: 1, own: 7, []).isComplete)
  }

  @Test func otherCompactionsCannotBeCompared() {
    let one = comparison(own: 7, [(2, 7, 5), (3, 8, 4)])
    #expect(one.verdict == .equal(compared: 1) && !one.isComplete)
  }

  @Test func theMinorityIsToBlame() {
    #expect(comparison(own: 7, [(2, 8, 5), (3, 7, 5)]).verdict == .corrupt([2]))
    // The leader itself.
    #expect(comparison(own: 7, [(2, 8, 5), (3, 8, 5)]).verdict == .corrupt([1]))
    let five = comparison(members: 5, own: 7, [(5, 9, 5), (2, 8, 5), (3, 7, 5), (4, 7, 5)])
    #expect(five.verdict == .corrupt([2, 5]))
  }

  @Test func withoutAMajorityNobodyIsNamed() {
    #expect(comparison(own: 7, [(2, 8, 5)]).verdict == .corrupt([0]))
    #expect(comparison(members: 2, own: 7, [(2, 8, 5)]).verdict == .corrupt([0]))
    #expect(comparison(own: 7, [(2, 8, 5), (3, 9, 5)]).verdict == .corrupt([0]))
    // Two of five agree, which is no majority.
    #expect(comparison(members: 5, own: 7, [(2, 8, 5), (3, 7, 5)]).verdict == .corrupt([0]))
  }

  // MARK: - The leader's comparison

  private func answer(_ value: UInt32, current: Int64 = 10, compacted: Int64 = 5) -> MemberHash {
    MemberHash(hash: hash(value, compacted: compacted), current: current)
  }

  @Test func leaderFindsNothing() {
    var comparison = LeaderComparison(memberCount: 3, own: 1, first: hash(7))
    comparison.add(2, answer(7))
    comparison.add(3, answer(7, current: 12))
    // Writes and a compaction went on meanwhile.
    let second = MemberHash(hash: hash(99, revision: 12, compacted: 8), current: 12)
    #expect(comparison.verdict(second: second) == .equal(compared: 2))
  }

  @Test func nobodyIsAheadOfALeader() {
    var comparison = LeaderComparison(memberCount: 3, own: 1, first: hash(7))
    comparison.add(2, answer(7, current: 13))
    comparison.add(3, answer(7))
    let second = MemberHash(hash: hash(8, revision: 12), current: 12)
    #expect(comparison.verdict(second: second) == .corrupt([2]))
    var compacted = LeaderComparison(memberCount: 3, own: 1, first: hash(7))
    compacted.add(3, answer(4, compacted: 9))
    compacted.add(2, answer(7))
    #expect(compacted.verdict(second: second) == .corrupt([3]))
  }

  @Test func ownDataChangedWithoutAWrite() {
    let comparison = LeaderComparison(memberCount: 3, own: 1, first: hash(7))
    #expect(comparison.verdict(second: answer(8)) == .corrupt([1]))
    #expect(comparison.verdict(second: answer(7)) == .equal(compared: 0))
  }

  @Test func leaderFindsTheMinority() {
    var comparison = LeaderComparison(memberCount: 3, own: 1, first: hash(7))
    comparison.add(2, answer(7))
    comparison.add(3, answer(6))
    #expect(comparison.verdict(second: answer(7)) == .corrupt([3]))
  }

  // MARK: - When

  @Test func schedule() {
    var schedule = CorruptionSchedule(hashes: 10, compactions: 4, now: 100)
    let checks = (100...120).map { schedule.tick(now: $0, mayRun: true) }
    let expected: [UInt64: CorruptionSchedule.Check] = [
      104: .compactions, 108: .compactions, 110: .hashes, 112: .compactions, 116: .compactions,
      120: .hashes,
    ]
    #expect(checks == (100...120).map { expected[$0] })
    // Both are due: the other one follows.
    #expect(schedule.tick(now: 121, mayRun: true) == .compactions)
    #expect(schedule.tick(now: 200, mayRun: false) == nil)
    #expect(schedule.tick(now: 203, mayRun: true) == nil)
    #expect(schedule.tick(now: 204, mayRun: true) == .compactions)
    var off = CorruptionSchedule(hashes: 0, compactions: 0, now: 0)
    #expect(off.tick(now: .max, mayRun: true) == nil)
  }

  // MARK: - Pages

  @Test func pageOfEtcd() {
    let text =
      #"{"header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"#
      + #""revision":12,"raft_term":2},"hash":4082599214,"compact_revision":-1,"hash_revision":9}"#
    #expect(
      PeerHashAnswer(status: 200, body: Bytes(text.utf8))
        == .hash(
          MemberHash(
            hash: KeyValueHash(hash: 4_082_599_214, revision: 9, compactRevision: -1), current: 12)
        ))
    let future = Bytes("mvcc: required revision is a future revision\n".utf8)
    #expect(PeerHashAnswer(status: 400, body: future) == .behind)
    let compacted = Bytes("mvcc: required revision has been compacted\n".utf8)
    #expect(PeerHashAnswer(status: 400, body: compacted) == .compacted)
    #expect(
      PeerHashAnswer(status: 412, body: Bytes("no".utf8)) == .unreachable("status 412: no"))
    #expect(PeerHashAnswer(status: 200, body: [1]) == .unreachable("unreadable answer"))
  }
}
