public import Base

/// The file in which etcd keeps a snapshot of Raft's: where the log may begin, and the membership as of
/// there in the form of the v2 store. Apus reads those that etcd has left, and writes none.
///
///     snappb.Snapshot {crc 1: CRC-32C of data, data 2: raftpb.Snapshot}
public struct RaftSnapshotFile: Equatable, Sendable {
  public var snapshot: Snapshot

  /// The name of the file for a position: `<term>-<index>.snap`, 16 hexadecimal digits each.
  public static func name(_ position: SnapshotMetadata) -> String {
    "\(position.term.paddedHex)-\(position.index.paddedHex).snap"
  }

  /// - Throws: ``WireError`` if the file is not whole.
  public init(_ file: Bytes) throws(WireError) {
    let result = file.withUnsafeBytes { buffer -> Result<Snapshot, WireError> in
      do throws(WireError) { return .success(try Self.decode(buffer)) } catch {
        return .failure(error)
      }
    }
    snapshot = try result.get()
  }

  private static func decode(_ file: UnsafeRawBufferPointer) throws(WireError) -> Snapshot {
    var checksum: UInt64 = 0
    var data = UnsafeRawBufferPointer(start: nil, count: 0)
    var reader = WireReader(file, "snappb.Snapshot")
    while let field = try reader.next() {
      switch field.number {
      case 1: checksum = try field.uint64()
      case 2: data = try field.buffer()
      default: break
      }
    }
    guard !data.isEmpty, checksum == UInt64(CRC32C.extend(0, data)) else {
      throw .badChecksum("snappb.Snapshot")
    }
    return try Snapshot(decoding: data)
  }
}
