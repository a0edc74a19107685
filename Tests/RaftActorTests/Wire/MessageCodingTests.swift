import Base
import Testing

@testable import RaftActor

@Suite struct MessageCodingTests {
  static func randomMessage(_ random: inout SeededGenerator) -> Message {
    func id() -> UInt64 {
      UInt64.random(in: 0...UInt64.max, using: &random) >> UInt64.random(in: 0...63, using: &random)
    }
    func bytes(_ most: Int) -> Bytes {
      (0..<Int.random(in: 0...most, using: &random)).map { _ in
        UInt8.random(in: 0...255, using: &random)
      }
    }
    let kinds: [Message.Kind] = [
      .append, .appendResponse, .vote, .heartbeat, .snapshot, .readIndex,
    ]
    var message = Message(
      kind: kinds.randomElement(using: &random) ?? .append, to: id() | 1, from: id() | 1,
      term: id(), logTerm: id(), index: id() >> 1, commit: id(),
      reject: Bool.random(using: &random), rejectHint: id(), context: bytes(20))
    message.entries = (0..<UInt64.random(in: 0...4, using: &random)).map { step in
      Entry(
        term: id(), index: message.index + step + 1,
        kind: step == 1 ? .configurationChange : .normal, data: bytes(200))
    }
    if message.kind == .snapshot {
      let state = ConfState(
        voters: [id(), id()].sorted(), learners: [id()], autoLeave: Bool.random(using: &random))
      message.snapshot = Snapshot(
        metadata: SnapshotMetadata(index: id() | 1, term: id(), confState: state), data: bytes(50))
    }
    return message
  }

  @Test(arguments: 0..<20)
  func roundTrips(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    for _ in 0..<20 {
      let message = Self.randomMessage(&random)
      let bytes = message.encoded()
      #expect(bytes.count == message.encodedCount)
      #expect(try Message(decoding: bytes) == message)
    }
  }

  @Test func damagedMessagesThrowOrDecodeButNeverTrap() {
    var random = SeededGenerator(seed: 7)
    for _ in 0..<2000 {
      var bytes = Self.randomMessage(&random).encoded()
      bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(
        in: 0...255, using: &random)
      bytes.removeLast(Int.random(in: 0...min(4, bytes.count), using: &random))
      _ = try? Message(decoding: bytes)
    }
  }

  @Test func oldHeartbeatWithEverythingWrittenOut() throws {
    let tail = "2800 3000 4005 4a0a 12080a02280010001800 5000 5800"
    let message = try Message(decoding: hex("0808 1007 1803 2004" + tail))
    #expect(message == Message(kind: .heartbeat, to: 7, from: 3, term: 4, commit: 5))
  }

  @Test func linkHeartbeatsOfBothWriters() throws {
    let old = "0808 1000 1800 2000 2800 3000 4000 4a0a 1208 0a02 2800 1000 1800 5000 5800"
    #expect(try Message(decoding: hex("0808")).isLinkHeartbeat)
    #expect(try Message(decoding: hex(old)).isLinkHeartbeat)
    #expect(Message.linkHeartbeat.encoded() == hex("0808"))
    #expect(!Message(kind: .heartbeat, to: 1, from: 2).isLinkHeartbeat)
  }

  @Test func minimalFieldsAreWritten() {
    #expect(Entry(term: 2, index: 3).encoded() == hex("1002 1803"))
    #expect(Entry(term: 0, index: 0).encoded().isEmpty)
    let message = Message(kind: .append, to: 1, from: 2, term: 3, commit: 6)
    #expect(message.encoded() == hex("0803 1001 1802 2003 4006"))
    #expect(
      ConfChange(id: 5, kind: .removeNode, nodeID: 9).encoded() == hex("0805 1001 1809"))
  }

  @Test func unknownFieldsAndAnyOrderAreAccepted() throws {
    let entry = try Entry(decoding: hex("1803 7a0141 1002 790102030405060708"))
    #expect(entry == Entry(term: 2, index: 3))
  }

  @Test func configurationStatesPackedOrNot() throws {
    let expected = ConfState(voters: [3, 300], learners: [1])
    #expect(try ConfState(decoding: hex("08ac02 0803 1001 2800")) == expected)
    #expect(try ConfState(decoding: hex("0a03ac0203 1201 01")) == expected)
    #expect(expected.encoded() == hex("0803 08ac02 1001 2800"))
    #expect(throws: WireError.malformed("ConfState", .truncated)) {
      try ConfState(decoding: hex("0a02ac82"))
    }
  }

  @Test func errorsNameTheMessage() {
    #expect(throws: WireError.malformed("Entry", .truncated)) {
      try Message(decoding: hex("0803 3a03 2205 41"))
    }
    #expect(throws: WireError.unknownKind("Entry", 9)) { try Entry(decoding: hex("0809")) }
    #expect(throws: WireError.malformed("HardState", .wrongType(field: 1))) {
      try HardState(decoding: hex("0a00"))
    }
  }

  @Test func oldAndNewConfigurationChanges() throws {
    let old = Entry(
      term: 1, index: 1, kind: .configurationChange, data: hex("0800 1000 1807 220141"))
    #expect(
      try ConfChange(entry: old) == ConfChange(kind: .addNode, nodeID: 7, context: [0x41]))
    func second(_ text: String) -> Entry {
      Entry(term: 1, index: 1, kind: .configurationChangeV2, data: hex(text))
    }
    #expect(
      try ConfChange(entry: second("1204 0801 1007 1a0141"))
        == ConfChange(kind: .removeNode, nodeID: 7, context: [0x41]))
    for joint in ["", "1202 1007 1202 1008", "0801 1202 1007"] {
      #expect(throws: WireError.jointConfiguration) { try ConfChange(entry: second(joint)) }
    }
  }
}
