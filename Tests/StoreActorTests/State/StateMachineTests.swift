import Base
import EtcdAPI
import FoundationEssentials
import RaftActor
import SwiftProtobuf
import Testing

@testable import StoreActor

/// A state machine fed entry by entry, as the log would.
struct Applier {
  static let member: MemberID = 0xabcd_0000_0000_1234
  var machine = StateMachine(
    settings: .init(member: member, cluster: 7, maxLearners: 1),
    kv: KeyValueMachine(store: MemoryRecordStore()),
    lessor: Lessor(ttlMin: 2, retryPeriod: 7_000_000_000), alarms: AlarmSet(),
    membership: Membership(), applied: 0, appliedTerm: 0)
  var output = ApplyOutput()
  var hasSpace = true
  private var next: UInt64 = 0

  /// An id that a caller of this member would wait under.
  mutating func ownID() -> UInt64 {
    next += 1
    return Self.member << 48 | next
  }

  mutating func apply(_ data: Bytes, kind: Entry.Kind = .normal, term: Term = 2) throws {
    output.removeAll()
    let hasSpace = hasSpace
    try machine.apply(
      Entry(term: term, index: machine.applied + 1, kind: kind, data: data), now: 0,
      hasSpace: { _ in hasSpace }, output: &output)
  }

  mutating func apply(
    _ kind: InternalRequestEnvelope.Kind, _ message: some SwiftProtobuf.Message, id: UInt64? = nil,
    by caller: AuthCaller = .anonymous
  ) throws {
    let id = id ?? ownID()
    try apply(
      InternalRequestEnvelope.wrap(
        kind, payload: try message.serializedBytes(), requestID: id, username: caller.username,
        authRevision: caller.revision))
  }

  mutating func put(_ key: String, _ value: String = "", lease: Int64 = 0) throws {
    try apply(
      .put,
      Etcdserverpb_PutRequest.with {
        $0.key = Data(key.utf8)
        $0.value = Data(value.utf8)
        $0.lease = lease
      })
  }

  var failure: EtcdError? {
    if case .failure(let error) = output.replies.last?.outcome { error } else { nil }
  }

  func message<Message: SwiftProtobuf.Message>(_ type: Message.Type) throws -> Message {
    guard case .message(let bytes) = output.replies.last?.outcome else {
      throw EtcdError(.internal, "no message")
    }
    return try Message(serializedBytes: bytes)
  }
}

@Suite struct StateMachineTests {
  @Test func everyEntryMovesTheIndexAndOnlyWritesMoveTheRevision() throws {
    var applier = Applier()
    try applier.apply([])
    try applier.put("a")
    try applier.put("missing-lease", lease: 99)
    #expect(applier.failure == .leaseNotFound)
    #expect(applier.machine.applied == 3)
    #expect(applier.machine.appliedTerm == 2)
    #expect(applier.machine.kv.currentRevision == 2)
  }

  @Test func answersOnlyCallersOfThisMember() throws {
    var applier = Applier()
    let request = Etcdserverpb_PutRequest.with { $0.key = Data("k".utf8) }
    try applier.apply(.put, request, id: 0x9999_0000_0000_0001)
    #expect(applier.output.replies.isEmpty)
    try applier.apply(.put, request)
    let response = try applier.message(Etcdserverpb_PutResponse.self)
    #expect(response.header.memberID == Applier.member)
    #expect(response.header.clusterID == 7)
    #expect(response.header.revision == 3)
    #expect(response.header.raftTerm == 2)
  }

  @Test func noSpaceAlarmStopsWhatCostsSpaceAndNothingElse() throws {
    var applier = Applier()
    try applier.put("k", "v")
    try applier.apply(
      .alarm,
      Etcdserverpb_AlarmRequest.with {
        $0.action = .activate
        $0.memberID = 5
        $0.alarm = .nospace
      })
    try applier.put("k", "w")
    #expect(applier.failure == .noSpace)
    try applier.apply(.leaseGrant, Etcdserverpb_LeaseGrantRequest.with { $0.id = 1 })
    #expect(applier.failure == .noSpace)
    try applier.apply(
      .deleteRange, Etcdserverpb_DeleteRangeRequest.with { $0.key = Data("k".utf8) })
    #expect(try applier.message(Etcdserverpb_DeleteRangeResponse.self).deleted == 1)
    try applier.apply(
      .alarm,
      Etcdserverpb_AlarmRequest.with {
        $0.action = .deactivate
        $0.memberID = 5
        $0.alarm = .nospace
      })
    try applier.put("k", "x")
    #expect(applier.failure == nil)
    #expect(applier.machine.kv.currentRevision == 4)
  }

  @Test func exceedingTheOwnQuotaAppliesAllTheSame() throws {
    var applier = Applier()
    applier.hasSpace = false
    try applier.put("k", "v")
    #expect(applier.failure == .noSpace)
    #expect(applier.output.exceedsQuota)
    #expect(applier.machine.kv.currentRevision == 2)
    #expect(applier.output.effects.changes.count == 1)
  }

  @Test func corruptAlarmStopsAllData() throws {
    var applier = Applier()
    try applier.apply(
      .alarm,
      Etcdserverpb_AlarmRequest.with {
        $0.action = .activate
        $0.alarm = .corrupt
      })
    try applier.put("k")
    #expect(applier.failure == .corrupt)
    try applier.apply(.compaction, Etcdserverpb_CompactionRequest.with { $0.revision = 1 })
    #expect(applier.failure == .corrupt)
  }

  @Test func revokingALeaseDeletesItsKeysInOneRevision() throws {
    var applier = Applier()
    try applier.apply(
      .leaseGrant,
      Etcdserverpb_LeaseGrantRequest.with {
        $0.id = 42
        $0.ttl = 60
      })
    #expect(applier.output.writes.map(\.bucket) == [.lease])
    try applier.put("b", lease: 42)
    try applier.put("a", lease: 42)
    try applier.put("c", lease: 42)
    try applier.put("c")
    let before = applier.machine.kv.currentRevision
    try applier.apply(.leaseRevoke, Etcdserverpb_LeaseRevokeRequest.with { $0.id = 42 })
    #expect(applier.machine.kv.currentRevision == before + 1)
    let deleted = applier.output.effects.changes.map { String(decoding: $0.key, as: UTF8.self) }
    #expect(deleted == ["a", "b"])
    #expect(applier.output.revokedLease == 42)
    #expect(applier.output.writes.last?.value == nil)
  }

  @Test func unknownRequestsEndTheMember() throws {
    var applier = Applier()
    #expect(throws: (any Error).self) {
      try applier.apply(
        InternalRequestEnvelope.wrap(
          field: 777, payload: UnsafeRawBufferPointer(start: nil, count: 0), requestID: 1))
    }
    var joint = Applier()
    #expect(throws: (any Error).self) {
      try joint.apply([], kind: .configurationChangeV2)
    }
  }

  @Test func readsEtcdsOlderFormsOfPublishing() throws {
    var applier = Applier()
    let record = MemberRecord(id: 9, peerURLs: ["http://h:1"])
    let change = ConfChange(
      kind: .addNode, nodeID: 9, context: MemberContext(record: record).encoded())
    try applier.apply(change.encoded(), kind: .configurationChange)
    #expect(applier.output.configurationChange?.nodeID == 9)
    try applier.apply(
      LegacyRequest.memberAttributes(
        id: 1, member: 9, attributes: "{\"name\":\"n9\",\"clientURLs\":[\"http://h:2\"]}"
      ).encoded())
    try applier.apply(LegacyRequest.clusterVersion(id: 2, version: "3.5.0").encoded())
    #expect(applier.machine.membership[id: 9]?.name == "n9")
    #expect(applier.machine.membership[id: 9]?.clientURLs == ["http://h:2"])
    #expect(applier.machine.membership.clusterVersion == "3.5.0")
  }

  @Test func aDowngradeIsRecordedAsEtcdDoes() throws {
    var applier = Applier()
    let record = MemberRecord(id: 9, peerURLs: ["http://h:1"])
    let change = ConfChange(
      kind: .addNode, nodeID: 9, context: MemberContext(record: record).encoded())
    try applier.apply(change.encoded(), kind: .configurationChange)
    #expect(!applier.output.writes.contains { $0.key == BackendKey.downgrade })
    for isEnabled in [true, false] {
      try applier.apply(
        .downgradeInfoSet,
        Membershippb_DowngradeInfoSetRequest.with {
          $0.enabled = isEnabled
          $0.ver = "3.4.0"
        })
      let write = applier.output.writes.first { $0.key == BackendKey.downgrade }
      let target = isEnabled ? "3.4.0" : ""
      #expect(write?.bucket == .cluster)
      #expect(
        write?.value
          == Bytes("{\"target-version\":\"\(target)\",\"enabled\":\(isEnabled)}".utf8))
      #expect(applier.output.membershipChanged)
      let info = DowngradeInfo(isEnabled: isEnabled, targetVersion: target)
      #expect(applier.machine.membership.downgrade == info)
      #expect(try write?.value.map { try DowngradeInfo(decodingJSON: $0) } == info)
    }
  }

  /// What is read out of a log without a store is what applying it comes to.
  @Test func theLogAloneTellsTheMembers() throws {
    func change(_ kind: ConfChange.Kind, _ id: MemberID, _ record: MemberRecord?) -> Bytes {
      ConfChange(
        kind: kind, nodeID: id, context: record.map { MemberContext(record: $0).encoded() } ?? []
      ).encoded()
    }
    let version =
      try Membershippb_ClusterVersionSetRequest.with { $0.ver = "3.6.0" }
      .serializedBytes() as Bytes
    let attributes =
      try Membershippb_ClusterMemberAttrSetRequest.with {
        $0.memberID = 8
        $0.memberAttributes.name = "n8"
        $0.memberAttributes.clientUrls = ["http://h:8"]
      }.serializedBytes() as Bytes
    let downgrade =
      try Membershippb_DowngradeInfoSetRequest.with {
        $0.enabled = true
        $0.ver = "3.5.0"
      }.serializedBytes() as Bytes
    let log: [(Entry.Kind, Bytes)] = [
      (.configurationChange, change(.addNode, 9, MemberRecord(id: 9, peerURLs: ["http://h:1"]))),
      (.configurationChange, change(.addNode, 8, MemberRecord(id: 8, peerURLs: ["http://h:2"]))),
      (
        .normal,
        LegacyRequest.memberAttributes(
          id: 1, member: 9, attributes: "{\"name\":\"n9\",\"clientURLs\":[\"http://h:9\"]}"
        ).encoded()
      ),
      (.normal, LegacyRequest.clusterVersion(id: 2, version: "3.5.0").encoded()),
      (.normal, []),
      (
        .normal,
        InternalRequestEnvelope.wrap(
          .clusterMemberAttributesSet, payload: attributes, requestID: 3)
      ),
      (.normal, InternalRequestEnvelope.wrap(.clusterVersionSet, payload: version, requestID: 4)),
      (
        .normal,
        InternalRequestEnvelope.wrap(.downgradeInfoSet, payload: downgrade, requestID: 5)
      ),
      (.configurationChange, change(.removeNode, 9, nil)),
      (.configurationChange, change(.removeNode, 7, nil)),
    ]
    var applier = Applier()
    var followed = Membership()
    for (kind, data) in log {
      followed.follow(
        Entry(term: 2, index: applier.machine.applied + 1, kind: kind, data: data), maxLearners: 1)
      try applier.apply(data, kind: kind)
    }
    #expect(followed == applier.machine.membership)
    #expect(followed.members.map(\.name) == ["n8"])
    #expect(followed.removed == [9] && followed.clusterVersion == "3.6.0")
  }

  @Test func aVoidMembershipChangeIsPassedOnWithoutANode() throws {
    var applier = Applier()
    let change = ConfChange(id: applier.ownID(), kind: .removeNode, nodeID: 77)
    try applier.apply(change.encoded(), kind: .configurationChange)
    #expect(applier.output.configurationChange?.nodeID == 0)
    #expect(applier.failure == .memberNotFound)
  }
}
