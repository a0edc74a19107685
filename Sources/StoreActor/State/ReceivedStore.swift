public import Base
import Glibc
public import RaftActor

/// A store file that a leader has sent, on its way to take the place of this member's store.
///
/// It is examined before Raft hears of it: once the log names a received snapshot as its base, there is
/// no way back to the old store.
public enum ReceivedStore {
  private static let membersSuffix = ".members"

  /// Checks that the file is whole and is what its message says, and puts beside it what the message
  /// knows better than the file.
  ///
  /// Members before 3.6 keep the truth about the membership in the message. Reads the whole file: not
  /// on the loop.
  /// - Throws: what is wrong with it, as text for the log.
  public static func examine(_ path: String, _ snapshot: Snapshot) throws {
    try check(path, endsAt: snapshot.metadata.index)
    guard let told = try? Membership(decodingV2Store: snapshot.data), told.isLegacy else { return }
    let file = try OwnedFile(path: path + membersSuffix, flags: O_RDWR | O_CREAT | O_TRUNC)
    try snapshot.data.withUnsafeBytes { try file.write($0, at: 0) }
    try file.sync()
    let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    try FileSystem.syncDirectory(parent)
  }

  /// Checks that the file is whole and holds the store as of that entry.
  public static func check(_ path: String, endsAt index: LogIndex) throws {
    let held = try SnapshotFile.inspect(path).consistentIndex
    guard held == index else { throw Mismatch(path: path, holds: held, says: index) }
  }

  struct Mismatch: Error, CustomStringConvertible {
    let path: String
    let holds: LogIndex
    let says: LogIndex

    var description: String {
      "the received store \(path) ends at entry \(holds), its message says \(says)"
    }
  }

  /// What is to be written over the file's own tables, in the same step that installs it.
  static func overrides(_ path: String) throws(BackendError) -> SnapshotOverrides {
    var overrides = SnapshotOverrides()
    guard access(path + membersSuffix, F_OK) == 0 else { return overrides }
    let file = try OwnedFile(path: path + membersSuffix, flags: O_RDONLY)
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: try file.byteCount(), alignment: 16)
    defer { buffer.deallocate() }
    _ = try file.read(into: buffer, at: 0)
    guard let membership = try? Membership(decodingV2Store: Bytes(buffer)) else {
      return overrides
    }
    overrides.replaceMembership(membership)
    return overrides
  }

  /// Installs the file. BACKEND thread, or before the member has threads.
  public static func install(
    _ path: String, into backend: Backend
  ) throws(BackendError) -> SnapshotContents {
    try backend.installSnapshot(path: path, overrides: try overrides(path))
  }

  public static func remove(_ path: String) {
    unlink(path)
    unlink(path + membersSuffix)
  }
}

extension SnapshotOverrides {
  /// Puts a membership in the place of the one that the tables hold. A version that the membership does
  /// not know stays.
  public mutating func replaceMembership(_ membership: Membership) {
    clear(.members)
    clear(.membersRemoved)
    for write in membership.tableWrites {
      if let value = write.value { set(write.bucket, write.key, value) }
    }
  }
}

extension Membership {
  /// It was written by a cluster whose store tables may be stale.
  public var isLegacy: Bool {
    clusterVersion.map { $0.hasPrefix("3.4") || $0.hasPrefix("3.5") } ?? false
  }
}
