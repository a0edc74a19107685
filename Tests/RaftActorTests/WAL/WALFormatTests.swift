import Base
import Testing

@testable import RaftActor

/// Bytes of an etcd 3.7.1 log: a bootstrap of two members and the first election.
@Suite struct WALFormatTests {
  private static let node: MemberID = 0x63da_cd04_ba94_a951
  private static let metadata = WALMetadata(nodeID: node, clusterID: 0xffaa_fcf1_ae56_1fc9)

  private static func bootstrapEntry(_ index: LogIndex, _ id: MemberID, _ json: String) -> Entry {
    // etcd 3.7 writes the type although it is zero.
    var writer = ProtobufWriter()
    writer.field(2, always: 0)
    writer.field(3, always: id)
    writer.field(4, always: Bytes(json.utf8))
    return Entry(term: 1, index: index, kind: .configurationChange, data: writer.bytes)
  }

  private static let entries = [
    bootstrapEntry(
      1, 7_086_162_022_514_304_632,
      #"{"id":7086162022514304632,"peerURLs":["http://127.0.0.1:22803"],"name":"n2"}"#),
    bootstrapEntry(
      2, node, #"{"id":\#(node),"peerURLs":["http://127.0.0.1:22801"],"name":"n1"}"#),
  ]

  /// Frames as they lie in the file, with what is in them left out where the test builds it.
  private static let frames: [(offset: Int, bytes: String)] = [
    (0x000, "0400000000000084 08041000 00000000"),
    (
      0x010,
      "1f00000000000081 0801 10e9c0c4f003 1a15 08d1d2d2d4cba0b3ed63 10c9bfd8f29a9ebfd5ff01 00"
    ),
    (0x038, "0e00000000000082 0805 10e6fff0be08 1a04 08001000 0000"),
    (
      0x050,
      "6b00000000000085 0802 10e3c8b734 1a62 0801 1001 1801 225a 1000 18f8ccd0e68bdac6ab62 224c"
    ),
    (0x0c8, "6c00000000000084 0802"),
    (0x140, "1000000000000000 0803 1089bcb9960e 1a06 080110001802"),
    (0x158, "1800000000000000 0803 1090b1dea003 1a0e 0802 10d1d2d2d4cba0b3ed63 1802"),
    (0x178, "0e00000000000082 0802 10de86b3a909 1a04 1002 1803 0000"),
  ]

  private func write() throws -> (LogFixture, Bytes) {
    let fixture = try LogFixture()
    let log = try WriteAheadLog.create(
      directory: LogFixture.directory, metadata: Self.metadata, options: fixture.options,
      fileSystem: fixture.disk)
    log.append(hardState: HardState(term: 1, vote: 0, commit: 2), entries: Self.entries)
    log.append(hardState: HardState(term: 2, vote: Self.node, commit: 2), entries: [])
    log.append(hardState: nil, entries: [Entry(term: 2, index: 3)])
    try log.flush(sync: true)
    #expect(log.position == 0x190)
    try log.close()
    return (fixture, fixture.disk.content(fixture.path()))
  }

  @Test func writesWhatEtcdWrites() throws {
    let (_, bytes) = try write()
    for frame in Self.frames {
      let expected = hex(frame.bytes)
      #expect(Array(bytes[frame.offset..<frame.offset + expected.count]) == expected, "\(frame)")
    }
    #expect(bytes[0x190...].allSatisfy { $0 == 0 })
  }

  @Test func readsWhatEtcdWrites() throws {
    // The image is put together from the frames above, so that it does not depend on the writer.
    let (fixture, written) = try write()
    var image = written
    for frame in Self.frames {
      image.replaceSubrange(
        frame.offset..<frame.offset + hex(frame.bytes).count, with: hex(frame.bytes))
    }
    fixture.disk.setContent(fixture.path(), image)
    let recovered = try fixture.open().recovered
    #expect(recovered.metadata == Self.metadata)
    #expect(recovered.hardState == HardState(term: 2, vote: Self.node, commit: 2))
    #expect(recovered.entries == Self.entries + [Entry(term: 2, index: 3)])
    #expect(
      try recovered.entries.prefix(2).map { try ConfChange(entry: $0).nodeID }
        == [7_086_162_022_514_304_632, Self.node])
  }

  @Test func laterSegmentsCarryTheChecksumOver() throws {
    var frames = WALFrameBuffer(crc: 0xe88b_eb7d)
    frames.appendSegmentStart()
    #expect(Bytes(frames.bytes) == hex("0800000000000000 0804 10fdd6afc40e"))
  }

  @Test func aReceivedSnapshotsRecord() {
    let snapshot = SnapshotMetadata(
      index: 8, term: 2, confState: ConfState(voters: [Self.node, 7_086_162_022_514_304_632]))
    #expect(
      WALSnapshotRecord(snapshot).encoded()
        == hex("0808 1002 1a16 08d1d2d2d4cba0b3ed63 08f8ccd0e68bdac6ab62 2800"))
  }

  @Test func segmentNames() {
    let name = WALSegmentName(sequence: 10, firstIndex: 0x2_0001)
    #expect(name.name == "000000000000000a-0000000000020001.wal")
    #expect(WALSegmentName(name.name) == name)
    for other in ["0.tmp", "owner.tmp", "a-b.wal", "000000000000000a-0000000000020001.wal.broken"] {
      #expect(WALSegmentName(other) == nil)
    }
  }
}
