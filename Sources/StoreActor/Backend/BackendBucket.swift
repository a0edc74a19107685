public import Base

/// The ten tables of the store. Names and contents are etcd's, so that a snapshot is a plain copy.
///
/// Declared in the byte order of their names, which is the order of snapshots and hashes.
public enum BackendBucket: UInt8, CaseIterable, Sendable {
  case alarm
  case auth
  case authRoles
  case authUsers
  case cluster
  case key
  case lease
  case members
  case membersRemoved
  case meta

  public var name: StaticString {
    switch self {
    case .alarm: "alarm"
    case .auth: "auth"
    case .authRoles: "authRoles"
    case .authUsers: "authUsers"
    case .cluster: "cluster"
    case .key: "key"
    case .lease: "lease"
    case .members: "members"
    case .membersRemoved: "members_removed"
    case .meta: "meta"
    }
  }

  public var nameBytes: Bytes { name.withUTF8Buffer { Bytes($0) } }
}

/// Keys inside `meta` and `cluster` that the backend itself reads or writes.
public enum BackendKey {
  /// Index of the last Raft entry whose effects are in the file: u64, big-endian.
  public static let consistentIndex = Bytes("consistent_index".utf8)
  /// Term of that entry: u64, big-endian.
  public static let term = Bytes("term".utf8)
  /// Raft's voters and learners, as JSON.
  public static let confState = Bytes("confState".utf8)
  /// Schema version as text, such as `3.7.0`.
  public static let storageVersion = Bytes("storageVersion".utf8)
  public static let scheduledCompactRevision = Bytes("scheduledCompactRev".utf8)
  public static let finishedCompactRevision = Bytes("finishedCompactRev".utf8)
  /// In `cluster`: the cluster's version as text.
  public static let clusterVersion = Bytes("clusterVersion".utf8)
  /// In `cluster`: what was last said about a downgrade, as JSON.
  public static let downgrade = Bytes("downgrade".utf8)
}

extension UInt64 {
  /// Nil unless there are exactly eight bytes.
  public init?(bigEndianBytes bytes: UnsafeRawBufferPointer) {
    guard bytes.count == 8 else { return nil }
    self = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
  }
}

/// Keys of the `key` table: main, `_`, sub; a tombstone's key has a trailing `t`.
public enum RevisionKey {
  public static let byteCount = 17
  public static let tombstoneByteCount = 18

  public static func append(_ revision: Revision, isTombstone: Bool, to bytes: inout Bytes) {
    Swift.withUnsafeBytes(of: revision.main.bigEndian) { bytes.append(contentsOf: $0) }
    bytes.append(UInt8(ascii: "_"))
    Swift.withUnsafeBytes(of: revision.sub.bigEndian) { bytes.append(contentsOf: $0) }
    if isTombstone { bytes.append(UInt8(ascii: "t")) }
  }

  public static func bytes(_ revision: Revision, isTombstone: Bool = false) -> Bytes {
    var bytes: Bytes = []
    bytes.reserveCapacity(tombstoneByteCount)
    append(revision, isTombstone: isTombstone, to: &bytes)
    return bytes
  }

  /// Calls `body` with the 18-byte form; its first 17 bytes are the key of an ordinary record.
  static func withBytes<Result, Failure: Error>(
    _ revision: Revision, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var words: (UInt64, UInt64, UInt64) = (0, 0, 0)
    return try withUnsafeMutableBytes(of: &words) { (raw) throws(Failure) -> Result in
      raw.storeBytes(of: revision.main.bigEndian, as: Int64.self)
      raw[8] = UInt8(ascii: "_")
      raw.storeBytes(of: revision.sub.bigEndian, toByteOffset: 9, as: Int64.self)
      raw[17] = UInt8(ascii: "t")
      return try body(UnsafeRawBufferPointer(rebasing: raw[..<tombstoneByteCount]))
    }
  }

  /// Nil for bytes that are not a key of this table.
  public static func parse(
    _ key: UnsafeRawBufferPointer
  ) -> (revision: Revision, isTombstone: Bool)? {
    guard key.count == byteCount || key.count == tombstoneByteCount,
      key[8] == UInt8(ascii: "_"), key.count == byteCount || key[17] == UInt8(ascii: "t")
    else { return nil }
    let main = Int64(bigEndian: key.loadUnaligned(as: Int64.self))
    let sub = Int64(bigEndian: key.loadUnaligned(fromByteOffset: 9, as: Int64.self))
    guard main >= 0, sub >= 0 else { return nil }
    return (Revision(main: main, sub: sub), key.count == tombstoneByteCount)
  }
}
