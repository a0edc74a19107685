import Glibc

/// What can go wrong with the store's files. `description` says which file and what to do.
public enum BackendError: Error, Equatable, Sendable {
  /// Another process (or another handle in this one) has the directory. Pid nil: unknown.
  case directoryInUse(directory: String, ownerPID: Int32?)
  /// The file system has no room. Nothing of the batch was kept; it may be tried again.
  case diskFull(file: String)
  /// The file has grown to the configured map. Nothing of the batch was kept.
  case mapFull(file: String, mapBytes: Int)
  /// A system call failed. After a failed write or sync the backend refuses further commits.
  case ioFailure(file: String, operation: String, errno: Int32)
  /// The content is not what a store wrote.
  case corrupted(file: String, detail: String)
  /// An earlier write failed in a way that leaves durability unknown; open the store anew.
  case unusable(file: String)
  /// Empty, or longer than the 32,768 bytes that a snapshot file can hold.
  case badKey(bucket: BackendBucket, byteCount: Int)
  /// A snapshot file that cannot be read.
  case badSnapshot(file: String, problem: BoltProblem)
  /// The SHA-256 at a snapshot's end does not fit its content.
  case snapshotHashMismatch(file: String)
  /// A snapshot older than what the running store holds.
  case snapshotTooOld(file: String, index: UInt64, current: UInt64)
}

/// What is wrong with the bytes of a bbolt file.
public enum BoltProblem: Error, Equatable, Sendable {
  /// Neither meta page has the magic number, version and checksum of a bbolt file.
  case noValidMeta
  /// The file ends before its own high-water mark.
  case truncated(expectedBytes: UInt64, actualBytes: UInt64)
  /// A page or an element of it points outside, has the wrong kind, or breaks key order.
  case badPage(id: UInt64, reason: String)
  /// Deeper than any real file, or more pages than the file has: pages refer to each other.
  case cycle(id: UInt64)
  /// A bucket name the caller asked for is missing.
  case missingBucket(String)
  /// A key or value that etcd would not have written there.
  case badEntry(bucket: String, reason: String)
  case io(errno: Int32)
}

extension BackendError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .directoryInUse(let directory, let pid):
      "store directory \(directory) is in use by "
        + (pid.map { "process \($0)" } ?? "another process")
        + "; stop it, or choose another data directory"
    case .diskFull(let file):
      "no space left on the file system of \(file); free space there, then compact and defragment"
    case .mapFull(let file, let mapBytes):
      "\(file) has reached its map of \(mapBytes) bytes; compact and defragment, "
        + "or start with a larger map"
    case .ioFailure(let file, let operation, let code):
      "\(operation) failed on \(file): \(String(cString: strerror(code))) (errno \(code)); "
        + "check the device, then restart this member"
    case .corrupted(let file, let detail):
      "\(file) is damaged (\(detail)); replace this member's data from a snapshot or rejoin it"
    case .unusable(let file):
      "\(file) accepts no more writes since an earlier write failed; restart this member"
    case .badKey(let bucket, let byteCount):
      "a key of \(byteCount) bytes in table \(bucket.name); allowed are 1 to 32768"
    case .badSnapshot(let file, let problem):
      "\(file) is not a usable snapshot: \(problem)"
    case .snapshotHashMismatch(let file):
      "the SHA-256 at the end of \(file) does not fit its content; fetch the snapshot again"
    case .snapshotTooOld(let file, let index, let current):
      "\(file) ends at index \(index), but the store is already at \(current)"
    }
  }
}

extension BoltProblem: CustomStringConvertible {
  public var description: String {
    switch self {
    case .noValidMeta: "no valid meta page (not a bbolt file, or damaged)"
    case .truncated(let expected, let actual):
      "the file has \(actual) bytes where its header says \(expected)"
    case .badPage(let id, let reason): "page \(id): \(reason)"
    case .cycle(let id): "page \(id) is reached more than once"
    case .missingBucket(let name): "bucket \(name) is missing"
    case .badEntry(let bucket, let reason): "bucket \(bucket): \(reason)"
    case .io(let code): String(cString: strerror(code))
    }
  }
}
