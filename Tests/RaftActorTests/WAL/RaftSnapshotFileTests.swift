import Base
import RaftActor
import Testing

@Suite struct RaftSnapshotFileTests {
  private let snapshot = Snapshot(
    metadata: SnapshotMetadata(index: 0x1A, term: 3, confState: ConfState(voters: [7, 9])),
    data: Bytes("{\"Root\":{}}".utf8))

  private func file(_ snapshot: Snapshot) -> Bytes {
    let data = snapshot.encoded()
    let checksum = data.withUnsafeBytes { CRC32C.extend(0, $0) }
    var writer = ProtobufWriter(reserving: data.count + 16)
    writer.field(1, always: UInt64(checksum))
    writer.field(2, data)
    return writer.bytes
  }

  @Test func nameAndContent() throws {
    #expect(
      RaftSnapshotFile.name(snapshot.metadata) == "0000000000000003-000000000000001a.snap")
    #expect(try RaftSnapshotFile(file(snapshot)).snapshot == snapshot)
  }

  @Test func nothingBrokenPasses() {
    let whole = file(snapshot)
    for end in 0..<whole.count {
      #expect(throws: WireError.self) { try RaftSnapshotFile(Bytes(whole[..<end])) }
    }
    for position in whole.indices {
      var flipped = whole
      flipped[position] ^= 1
      #expect(throws: WireError.self) { try RaftSnapshotFile(flipped) }
    }
  }
}
