import Base
import EtcdAPI
import StoreActor
import Testing

@testable import Member

@Suite struct ReconfigurationRulesTests {
  private static let second: UInt64 = 1_000_000_000

  /// Rules of member 1. `connected` says for how many seconds each other member has been.
  private func rules(
    started: [MemberID], unstarted: [MemberID] = [], learners: [MemberID] = [],
    connected: [MemberID: UInt64] = [:], strict: Bool = true
  ) -> ReconfigurationRules {
    let now = 100 * Self.second
    var links = LinkTimes()
    for (id, seconds) in connected {
      links.changed(id, isActive: true, now: now - seconds * Self.second)
    }
    func record(_ id: MemberID, name: String, isLearner: Bool = false) -> MemberRecord {
      MemberRecord(id: id, peerURLs: ["http://m\(id):1"], name: name, isLearner: isLearner)
    }
    let members =
      started.map { record($0, name: "m\($0)") } + unstarted.map { record($0, name: "") }
      + learners.map { record($0, name: "m\($0)", isLearner: true) }
    return ReconfigurationRules(
      isStrict: strict, local: 1,
      membership: Membership(members: members, removed: [], clusterVersion: nil), links: links,
      now: now)
  }

  private func refusal(_ body: () throws(EtcdError) -> Void) -> EtcdError? {
    do throws(EtcdError) {
      try body()
      return nil
    } catch {
      return error
    }
  }

  @Test func aLoneMemberMayAlwaysGrow() {
    let rules = rules(started: [1])
    #expect(refusal { () throws(EtcdError) in try rules.checkAdd(isLearner: false) } == nil)
    #expect(refusal { () throws(EtcdError) in try rules.checkAdd(isLearner: true) } == nil)
  }

  @Test(
    arguments: [
      // Three of two plus one: both have to be there, one of them for long enough.
      ([1, 2], [], [2: 5], nil),
      ([1, 2], [], [2: 4], EtcdError.unhealthy),
      ([1, 2], [], [:], .unhealthy),
      ([1], [2], [2: 9], .notEnoughStartedMembers),
      ([1, 2, 3], [], [2: 9, 3: 9], nil),
      // Three of four.
      ([1, 2, 3], [], [2: 9], .unhealthy),
      ([1, 2], [3], [2: 9, 3: 9], .notEnoughStartedMembers),
      ([1, 2, 3], [4], [2: 9, 3: 9], nil),
      ([1, 2, 3], [4, 5], [2: 9, 3: 9], .notEnoughStartedMembers),
    ] as [([MemberID], [MemberID], [MemberID: UInt64], EtcdError?)])
  func aVoterIsAddedToAHealthyCluster(
    started: [MemberID], unstarted: [MemberID], connected: [MemberID: UInt64],
    expected: EtcdError?
  ) {
    let rules = rules(started: started, unstarted: unstarted, connected: connected)
    #expect(refusal { () throws(EtcdError) in try rules.checkAdd(isLearner: false) } == expected)
    let lax = self.rules(started: started, unstarted: unstarted, strict: false)
    #expect(refusal { () throws(EtcdError) in try lax.checkAdd(isLearner: false) } == nil)
  }

  @Test func aLearnerNeedsHealthButNoStartedMembers() {
    let unstarted = rules(started: [1, 2], unstarted: [3], connected: [2: 9, 3: 9])
    #expect(refusal { () throws(EtcdError) in try unstarted.checkAdd(isLearner: true) } == nil)
    let alone = rules(started: [1, 2, 3])
    #expect(
      refusal { () throws(EtcdError) in try alone.checkAdd(isLearner: true) } == .unhealthy)
  }

  @Test(
    arguments: [
      (2, [1, 2, 3], [], [2: 9, 3: 9], nil),
      (1, [1, 2, 3], [], [2: 9, 3: 9], nil),
      // What is down may go; what is needed may not.
      (3, [1, 2, 3], [], [2: 9], nil),
      (2, [1, 2, 3], [], [2: 9], EtcdError.unhealthy),
      (1, [1, 2, 3], [], [2: 9], .unhealthy),
      (2, [1, 2, 3], [], [2: 1, 3: 9], .unhealthy),
      (2, [1, 2], [], [2: 9], nil),
      (2, [1, 2], [], [:], nil),
      (2, [1], [2], [:], nil),
      (1, [1], [2], [:], .notEnoughStartedMembers),
      (2, [1, 2], [3], [2: 9], .notEnoughStartedMembers),
      // Unknown ids are refused when the change is applied.
      (9, [1, 2, 3], [], [2: 9, 3: 9], nil),
    ] as [(MemberID, [MemberID], [MemberID], [MemberID: UInt64], EtcdError?)])
  func aVoterIsRemovedIfTheRestCanGoOn(
    id: MemberID, started: [MemberID], unstarted: [MemberID], connected: [MemberID: UInt64],
    expected: EtcdError?
  ) {
    let rules = rules(started: started, unstarted: unstarted, connected: connected)
    #expect(refusal { () throws(EtcdError) in try rules.checkRemove(id) } == expected)
  }

  @Test func theLastVoterStays() {
    for strict in [true, false] {
      let rules = rules(started: [1], learners: [2], strict: strict)
      #expect(
        refusal { () throws(EtcdError) in try rules.checkRemove(1) } == .notEnoughStartedMembers)
      #expect(refusal { () throws(EtcdError) in try rules.checkRemove(2) } == nil)
    }
  }

  @Test func aPromotionNeedsAQuorumOfStartedMembers() {
    func check(_ rules: ReconfigurationRules) -> EtcdError? {
      refusal { () throws(EtcdError) in try rules.checkPromote() }
    }
    #expect(check(rules(started: [1], learners: [2])) == nil)
    #expect(check(rules(started: [1], unstarted: [3], learners: [2])) == nil)
    #expect(
      check(rules(started: [1], unstarted: [3, 4], learners: [2])) == .notEnoughStartedMembers)
    #expect(check(rules(started: [1], unstarted: [3, 4], learners: [2], strict: false)) == nil)
  }

  @Test func nineTenthsOfTheLogAreInSync() {
    #expect(ReconfigurationRules.isInSync(learner: 90, leader: 100))
    #expect(!ReconfigurationRules.isInSync(learner: 89, leader: 100))
    #expect(ReconfigurationRules.isInSync(learner: 0, leader: 0))
  }

  @Test func aConnectionCountsFromItsLastBeginning() {
    var links = LinkTimes()
    links.changed(2, isActive: true, now: 10)
    links.changed(2, isActive: true, now: 50)
    #expect(links.isConnected(2, for: 40, now: 50))
    links.changed(2, isActive: false, now: 60)
    #expect(!links.isConnected(2))
    links.changed(2, isActive: true, now: 70)
    #expect(links.isConnected(2))
    #expect(!links.isConnected(2, for: 40, now: 109))
    #expect(links.isConnected(2, for: 40, now: 110))
  }

  @Test(arguments: [
    [], ["abc"], ["http://127.0.0.1"], ["http://127.0.0.1:1/p"], ["ftp://127.0.0.1:1"],
    ["http://127.0.0.1:1", ""],
  ])
  func urlsThatCannotBePeersAreRefused(urls: [String]) {
    #expect(throws: EtcdError.memberURLsInvalid) { try PeerURLList.checked(urls) }
  }

  @Test func urlsAreSorted() throws {
    #expect(
      try PeerURLList.checked([" http://b:1", "https://a:2", "http://a:9"]) == [
        "http://a:9", "http://b:1", "https://a:2",
      ])
  }
}
