import Base
import Glibc

/// Names inside a store's directory.
enum StoreFile {
  /// The LMDB data file, and beside it LMDB's own reader table.
  static let data = "store.lmdb"
  static let dataLock = "store.lmdb-lock"
  /// A data file under construction: first creation, defragmentation, snapshot install.
  static let temporary = "store.lmdb.tmp"
  static let temporaryLock = "store.lmdb.tmp-lock"
  /// Held by the process that owns the directory; contains its pid.
  static let owner = "store.lock"
}

/// An open file, closed when its owner goes.
struct OwnedFile: ~Copyable {
  let descriptor: Int32
  let path: String

  init(path: String, flags: Int32, mode: mode_t = 0o600) throws(BackendError) {
    let opened = open(path, flags | O_CLOEXEC, mode)
    guard opened >= 0 else {
      throw .system(path, "open", errno)
    }
    descriptor = opened
    self.path = path
  }

  deinit { close(descriptor) }

  func byteCount() throws(BackendError) -> Int {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .system(path, "fstat", errno) }
    return Int(status.st_size)
  }

  /// Reads until `buffer` is full or the file ends; returns the bytes read.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(BackendError) -> Int
  {
    try Self.read(descriptor, path, into: buffer, at: offset)
  }

  /// `read` for places that cannot borrow the file in a closure.
  static func read(
    _ descriptor: Int32, _ path: String, into buffer: UnsafeMutableRawBufferPointer, at offset: Int
  ) throws(BackendError) -> Int {
    var done = 0
    while done < buffer.count {
      let count = pread(
        descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw .system(path, "read", errno) }
      if count == 0 { break }
      done += count
    }
    return done
  }

  func write(_ buffer: UnsafeRawBufferPointer, at offset: Int) throws(BackendError) {
    var done = 0
    while done < buffer.count {
      let count = pwrite(
        descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
      if count < 0 && errno == EINTR { continue }
      guard count > 0 else { throw .system(path, "write", count < 0 ? errno : ENOSPC) }
      done += count
    }
  }

  func sync() throws(BackendError) {
    guard fsync(descriptor) == 0 else { throw .system(path, "fsync", errno) }
  }
}

extension BackendError {
  /// A failed system call, with "disk full" told apart.
  static func system(_ path: String, _ operation: String, _ code: Int32) -> BackendError {
    code == ENOSPC || code == EDQUOT
      ? .diskFull(file: path) : .ioFailure(file: path, operation: operation, errno: code)
  }
}

enum FileSystem {
  static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  /// Makes creations and renames inside `directory` durable.
  static func syncDirectory(_ directory: String) throws(BackendError) {
    let file = try OwnedFile(path: directory, flags: O_RDONLY | O_DIRECTORY)
    try file.sync()
  }

  /// Makes one directory and its name durable; one that exists is no error, but its name may still
  /// have been on its way to the disk when the process that made it ended.
  static func makeDirectory(_ path: String) throws(BackendError) {
    guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
      throw .system(path, "mkdir", errno)
    }
    guard let slash = path.lastIndex(of: "/") else { return try syncDirectory(".") }
    try syncDirectory(slash == path.startIndex ? "/" : String(path[..<slash]))
  }

  static func rename(_ from: String, to: String) throws(BackendError) {
    guard Glibc.rename(from, to) == 0 else { throw .system(to, "rename", errno) }
  }

  /// Absence is success.
  static func remove(_ path: String) throws(BackendError) {
    guard unlink(path) == 0 || errno == ENOENT else { throw .system(path, "unlink", errno) }
  }

  /// True when so little room is left that a short write must have come from a full disk.
  static func isNearlyFull(_ path: String) -> Bool {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return false }
    return UInt64(status.f_bavail) * UInt64(status.f_frsize) < 1 << 20
  }
}

/// Ownership of a store's directory by this process, as long as the object lives.
///
/// `flock` excludes other processes and a second handle in this one; LMDB needs both.
final class DirectoryLock: Sendable {
  private let descriptor: Int32

  init(directory: String) throws(BackendError) {
    let path = directory + "/" + StoreFile.owner
    let opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard opened >= 0 else { throw .system(path, "open", errno) }
    while flock(opened, LOCK_EX | LOCK_NB) != 0 {
      let code = errno
      if code == EINTR { continue }
      let pid = code == EWOULDBLOCK ? Self.ownerPID(opened) : nil
      close(opened)
      throw code == EWOULDBLOCK
        ? .directoryInUse(directory: directory, ownerPID: pid) : .system(path, "flock", code)
    }
    descriptor = opened
    let text = Bytes("\(getpid())\n".utf8)
    // Only informs a second process: the lock itself does not depend on this write.
    _ = ftruncate(opened, 0)
    _ = text.withUnsafeBytes { pwrite(opened, $0.baseAddress, $0.count, 0) }
  }

  deinit { close(descriptor) }

  private static func ownerPID(_ descriptor: Int32) -> Int32? {
    var text = Bytes(repeating: 0, count: 16)
    let count = text.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
    guard count > 0 else { return nil }
    return Int32(String(decoding: text[..<count].prefix { $0 != 10 }, as: UTF8.self))
  }
}
