import Actors
import Base
import Glibc

/// A received store file on its way to the disk, written on a thread of its own: neither a full
/// page cache nor the final sync may hold up the loop.
///
/// Everything private is touched on `executor` only, which each operation checks; hence the
/// unchecked conformance.
final class SnapshotFile: @unchecked Sendable {
  enum Event: Sendable {
    /// So many bytes have left the queue.
    case wrote(Int)
    /// Durable under this path.
    case stored(String)
    case failed(String)
  }

  /// The kernel is made to write early, so that the final sync is short.
  private static let syncBytes = 32 << 20

  private let directory: String
  private let executor: ThreadExecutor
  private let report: @Sendable (Event) -> Void
  private let synced: @Sendable (Double) -> Void
  private var descriptor: Int32 = -1
  private var temporaryPath = ""
  private var unsyncedBytes = 0
  private var isOver = false
  private var checksum: UInt32 = 0

  /// - Parameters:
  ///   - synced: called on the file's thread with the seconds of the final sync.
  ///   - report: called on the file's thread; ``Event/stored(_:)`` or ``Event/failed(_:)`` is the
  ///     last.
  init(
    directory: String, executor: ThreadExecutor, synced: @escaping @Sendable (Double) -> Void,
    report: @escaping @Sendable (Event) -> Void
  ) {
    self.synced = synced
    self.directory = directory
    self.executor = executor
    self.report = report
  }

  // MARK: Any thread

  func append(_ bytes: Bytes) { executor.execute { self.doAppend(bytes) } }

  /// Makes the file durable as the snapshot at `index`, unless it is not what was sent.
  func finish(index: UInt64, checksum: UInt32?) {
    executor.execute { self.doFinish(index, checksum) }
  }

  /// Removes the file, unless it is finished.
  func abandon() { executor.execute { self.discard() } }

  // MARK: The file's thread

  private func doAppend(_ bytes: Bytes) {
    executor.checkIsolated()
    guard !isOver, openIfNeeded() else { return }
    let written = bytes.withUnsafeBytes { writeAll($0) }
    guard written else { return fail("write \(temporaryPath)") }
    checksum = CRC32C.extend(checksum, bytes)
    unsyncedBytes += bytes.count
    if unsyncedBytes >= Self.syncBytes {
      unsyncedBytes = 0
      if fdatasync(descriptor) != 0 { return fail("sync \(temporaryPath)") }
    }
    report(.wrote(bytes.count))
  }

  private func openIfNeeded() -> Bool {
    if descriptor >= 0 { return true }
    var template = Array("\(directory)/tmpXXXXXX".utf8CString)
    descriptor = mkstemp(&template)
    guard descriptor >= 0 else {
      fail("create a file in \(directory)")
      return false
    }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    temporaryPath = template.withUnsafeBufferPointer { buffer in
      buffer.baseAddress.map { String(cString: $0) } ?? ""
    }
    return true
  }

  private func writeAll(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
      let count = write(descriptor, rest.baseAddress, rest.count)
      if count > 0 {
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      } else if count == 0 || errno != EINTR {
        return false
      }
    }
    return true
  }

  private func doFinish(_ index: UInt64, _ expected: UInt32?) {
    executor.checkIsolated()
    guard !isOver, openIfNeeded() else { return }
    if let expected, expected != checksum {
      discard()
      return report(.failed("the file was changed on its way: its checksum is not the sender's"))
    }
    let start = monotonicNanoseconds()
    guard fsync(descriptor) == 0 else { return fail("sync \(temporaryPath)") }
    synced(Double(monotonicNanoseconds() - start) / 1e9)
    let path = "\(directory)/\(index.paddedHex).snap.db"
    // The same snapshot may have come before; what is there is complete.
    if access(path, F_OK) == 0 {
      unlink(temporaryPath)
    } else if rename(temporaryPath, path) != 0 {
      return fail("rename \(temporaryPath)")
    }
    guard syncDirectory() else { return fail("sync \(directory)") }
    isOver = true
    closeDescriptor()
    report(.stored(path))
  }

  private func syncDirectory() -> Bool {
    let folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard folder >= 0 else { return false }
    defer { close(folder) }
    return fsync(folder) == 0
  }

  /// CRC-32C of a whole file, nil if it cannot be read. Any thread; blocks for the disk.
  static func checksum(_ path: String) -> UInt32? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var checksum: UInt32 = 0
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { buffer.deallocate() }
    while true {
      let count = read(descriptor, buffer.baseAddress, buffer.count)
      guard count >= 0 else { return nil }
      if count == 0 { return checksum }
      checksum = CRC32C.extend(checksum, UnsafeRawBufferPointer(rebasing: buffer[..<count]))
    }
  }

  private func fail(_ operation: String) {
    let text = "\(operation): \(systemErrorText(errno))"
    discard()
    report(.failed(text))
  }

  private func discard() {
    executor.checkIsolated()
    guard !isOver else { return }
    isOver = true
    closeDescriptor()
    if !temporaryPath.isEmpty { unlink(temporaryPath) }
  }

  private func closeDescriptor() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }
}
