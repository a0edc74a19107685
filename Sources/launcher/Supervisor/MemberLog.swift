// The file that keeps a member's output.

import Glibc

/// Appends to `<data-dir>/<name>.log`. Writes block for a moment; the page cache takes them.
///
/// A file that has grown to its limit is renamed to `<name>.log.1`, in place of an older one.
struct MemberLog: ~Copyable {
  static let fileBytesMax = 64 << 20

  private let path: String
  private var descriptor: Int32
  private var bytes: Int

  init(path: String) throws(SystemError) {
    self.path = path
    descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    if descriptor < 0 { throw SystemError("open \(path)", errno: errno) }
    bytes = Int(lseek(descriptor, 0, SEEK_END))
  }

  deinit { close(descriptor) }

  /// Appends what fits; a full disk must not end the supervisor, so errors are dropped.
  mutating func append(_ chunk: UnsafeRawBufferPointer) {
    if bytes + chunk.count > Self.fileBytesMax { rotate() }
    let count = write(descriptor, chunk.baseAddress, chunk.count)
    bytes += max(0, count)
  }

  private mutating func rotate() {
    guard rename(path, path + ".1") == 0 else { return }
    let fresh = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard fresh >= 0 else { return }
    close(descriptor)
    descriptor = fresh
    bytes = 0
  }
}
