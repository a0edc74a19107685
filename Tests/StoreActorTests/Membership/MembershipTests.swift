import Base
import RaftActor
import Testing

@testable import StoreActor

@Suite struct MembershipTests {
  private func add(_ id: MemberID, _ url: String, learner: Bool = false) -> ConfChange {
    let record = MemberRecord(id: id, peerURLs: [url], isLearner: learner)
    return ConfChange(
      kind: learner ? .addLearnerNode : .addNode, nodeID: id,
      context: MemberContext(record: record).encoded())
  }

  private func text(_ bytes: Bytes) -> String { String(decoding: bytes, as: UTF8.self) }

  @Test func writesMembersAsEtcdDoes() {
    let record = MemberRecord(
      id: 7_086_162_022_514_304_632, peerURLs: ["http://127.0.0.1:22803"], name: "n2")
    #expect(
      text(record.encodedJSON())
        == #"{"id":7086162022514304632,"peerURLs":["http://127.0.0.1:22803"],"name":"n2"}"#)
    let promote = MemberContext(record: MemberRecord(id: 5, peerURLs: []), isPromote: true)
    #expect(text(promote.encoded()) == #"{"id":5,"peerURLs":null,"isPromote":true}"#)
  }

  @Test func idsAboveTheSignedRangeSurvive() throws {
    let record = MemberRecord(id: .max - 1, peerURLs: ["http://h:1"], name: "\"quoted\" \u{1}")
    #expect(try MemberRecord(decodingJSON: record.encodedJSON()) == record)
  }

  @Test func refusesWhatEveryMemberRefuses() throws {
    var membership = Membership()
    try membership.apply(add(1, "http://h:1"), maxLearners: 1)
    #expect(throws: MembershipError.idExists) {
      try membership.apply(add(1, "http://h:9"), maxLearners: 1)
    }
    #expect(throws: MembershipError.peerURLExists) {
      try membership.apply(add(2, "http://h:1"), maxLearners: 1)
    }
    try membership.apply(add(2, "http://h:2", learner: true), maxLearners: 1)
    #expect(throws: MembershipError.tooManyLearners) {
      try membership.apply(add(3, "http://h:3", learner: true), maxLearners: 1)
    }
    #expect(membership.confState == ConfState(voters: [1], learners: [2]))
    let promotion = ConfChange(
      kind: .addNode, nodeID: 2,
      context: MemberContext(record: MemberRecord(id: 2, peerURLs: []), isPromote: true).encoded())
    try membership.apply(promotion, maxLearners: 1)
    #expect(membership.confState == ConfState(voters: [1, 2]))
    #expect(throws: MembershipError.notLearner) {
      try membership.apply(promotion, maxLearners: 1)
    }
    try membership.apply(ConfChange(kind: .removeNode, nodeID: 1), maxLearners: 1)
    #expect(throws: MembershipError.idRemoved) {
      try membership.apply(add(1, "http://h:1"), maxLearners: 1)
    }
  }

  @Test func theV2StoreRoundTrips() throws {
    let membership = Membership(
      members: [
        MemberRecord(id: 3, peerURLs: ["http://h:3"], name: "c", clientURLs: ["http://h:33"]),
        MemberRecord(id: .max, peerURLs: ["http://h:4"], isLearner: true),
      ], removed: [9, 8], clusterVersion: "3.5.0")
    #expect(try Membership(decodingV2Store: membership.v2StoreJSON()) == membership)
  }

  @Test func aConfigurationSaysWhoVotes() {
    var membership = Membership(
      members: [
        MemberRecord(id: 1, peerURLs: ["http://h:1"], isLearner: true),
        MemberRecord(id: 2, peerURLs: ["http://h:2"]),
        MemberRecord(id: 3, peerURLs: ["http://h:3"], isLearner: true),
      ], removed: [], clusterVersion: nil)
    membership.reconcile(ConfState(voters: [1, 7], learners: [2]))
    #expect(membership.members.map(\.isLearner) == [false, true, true])
  }

  @Test func unreadableContextsAreErrors() {
    var membership = Membership()
    #expect(throws: MembershipError.self) {
      try membership.apply(
        ConfChange(kind: .addNode, nodeID: 1, context: Bytes("{".utf8)), maxLearners: 1)
    }
    #expect(throws: MembershipError.self) {
      try membership.apply(
        ConfChange(
          kind: .addNode, nodeID: 1,
          context: MemberContext(record: MemberRecord(id: 2, peerURLs: [])).encoded()),
        maxLearners: 1)
    }
  }
}
