import Glibc

/// Why the write-ahead log cannot be used.
public enum WALError: Error, Equatable, Sendable {
  /// A system call failed. After this the log refuses all use: what the disk holds is unknown.
  case io(operation: String, file: String, errno: Int32)
  /// Bytes that were acknowledged, or may have been, are not what was written.
  case corrupt(file: String, offset: Int, reason: String)
  /// Another process (its id, if known) works on the same files.
  case inUse(directory: String, process: Int32?)
  case notFound(directory: String)
  case alreadyExists(directory: String)
  /// Segments between the newest usable snapshot record and the end are not all there.
  case segmentMissing(directory: String, reason: String)
  /// No snapshot record lies at or below the commit index.
  case snapshotMissing(directory: String, commit: UInt64)
}

extension WALError {
  /// True if a full disk refused to take more, which harms nothing that is on it.
  ///
  /// A sync that fails is never that, whatever its reason: the kernel may have dropped what had been
  /// written before, and the next sync would not tell.
  public var isRefusalForSpace: Bool {
    guard case .io(let operation, _, let code) = self else { return false }
    return operation != "sync" && (code == ENOSPC || code == EDQUOT)
  }
}

extension WALError: CustomStringConvertible {
  private static let remedy =
    "keep a copy of the directory, then remove the member from the cluster and add it again empty"

  public var description: String {
    switch self {
    case .io(let operation, let file, let errno):
      "\(operation) of \(file) failed: \(SystemError(code: errno))"
    case .corrupt(let file, let offset, let reason):
      "log corrupt: \(file) at offset \(offset): \(reason); \(Self.remedy)"
    case .inUse(let directory, let process?):
      "data directory \(directory) is in use by process \(process)"
    case .inUse(let directory, nil):
      "data directory \(directory) is in use by another process"
    case .notFound(let directory): "no log in \(directory)"
    case .alreadyExists(let directory): "\(directory) holds a log already"
    case .segmentMissing(let directory, let reason):
      "log incomplete: \(directory): \(reason); restore the missing files, or \(Self.remedy)"
    case .snapshotMissing(let directory, let commit):
      "log incomplete: \(directory): no snapshot record at or below commit index \(commit); "
        + Self.remedy
    }
  }
}
