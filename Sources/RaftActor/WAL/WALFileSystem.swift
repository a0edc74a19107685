import Glibc

/// An errno value.
public struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
  public var code: Int32

  public init(code: Int32) { self.code = code }

  public var description: String {
    guard let text = strerror(code) else { return "errno \(code)" }
    return "\(String(cString: text)) (errno \(code))"
  }
}

/// The file operations that the log needs: the seam for fault injection and simulated disks.
///
/// One witness call per system call costs nothing beside the call, so the log holds an existential
/// and stays free of generic parameters. Implementations may return short counts and `EINTR`; the
/// log retries both. Paths are absolute or relative to the working directory.
public protocol WALFileSystem {
  /// Opens for reading and writing; with `create`, makes the file (mode 0600) if it is not there.
  func open(_ path: String, create: Bool) throws(SystemError) -> Int32
  func openForReading(_ path: String) throws(SystemError) -> Int32
  /// Opens a file that is there for writes of whole blocks, from memory that is aligned to blocks,
  /// which go past the page cache; nil where that cannot be had.
  func openDirect(_ path: String) -> Int32?
  func close(_ file: Int32)
  func read(
    _ file: Int32, into buffer: UnsafeMutableRawBufferPointer, at offset: Int
  ) throws(SystemError) -> Int
  func write(
    _ file: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int
  ) throws(SystemError) -> Int
  /// Makes written bytes and the size durable (`fdatasync`).
  func sync(_ file: Int32) throws(SystemError)
  func truncate(_ file: Int32, to count: Int) throws(SystemError)
  func size(_ file: Int32) throws(SystemError) -> Int
  /// Takes an exclusive lock that lives as long as the open file; false if another has it.
  func lock(_ file: Int32) throws(SystemError) -> Bool

  func exists(_ path: String) -> Bool
  /// Names in a directory, in any order.
  func list(_ directory: String) throws(SystemError) -> [String]
  /// Makes one directory (mode 0700) and all above it, durably; one that exists is no error.
  func makeDirectory(_ path: String) throws(SystemError)
  func rename(_ from: String, to: String) throws(SystemError)
  func remove(_ path: String) throws(SystemError)
  /// Makes names created, renamed and removed in a directory durable.
  func syncDirectory(_ path: String) throws(SystemError)
}

/// The machine's own files.
public struct PosixFileSystem: WALFileSystem, Sendable {
  // F_OFD_SETLK: owned by the open file, so that it also excludes a second log in this process and
  // is not dropped when another descriptor of the file is closed. etcd uses the same.
  private static let setOpenFileLock: Int32 = 37
  /// O_DIRECT, which the C library only shows to programs that ask for GNU's extensions.
  #if arch(arm64)
    private static let direct: Int32 = 0o200000
  #else
    private static let direct: Int32 = 0o40000
  #endif

  public init() {}

  public func open(_ path: String, create: Bool) throws(SystemError) -> Int32 {
    try check(Glibc.open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0o600))
  }

  public func openForReading(_ path: String) throws(SystemError) -> Int32 {
    try check(Glibc.open(path, O_RDONLY | O_CLOEXEC))
  }

  public func openDirect(_ path: String) -> Int32? {
    let file = Glibc.open(path, O_RDWR | O_CLOEXEC | Self.direct)
    return file < 0 ? nil : file
  }

  public func close(_ file: Int32) { _ = Glibc.close(file) }

  public func read(
    _ file: Int32, into buffer: UnsafeMutableRawBufferPointer, at offset: Int
  ) throws(SystemError) -> Int {
    try check(pread(file, buffer.baseAddress, buffer.count, offset))
  }

  public func write(
    _ file: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int
  ) throws(SystemError) -> Int {
    try check(pwrite(file, bytes.baseAddress, bytes.count, offset))
  }

  public func sync(_ file: Int32) throws(SystemError) { _ = try check(fdatasync(file)) }

  public func truncate(_ file: Int32, to count: Int) throws(SystemError) {
    _ = try check(ftruncate(file, count))
  }

  public func size(_ file: Int32) throws(SystemError) -> Int {
    var information = stat()
    _ = try check(fstat(file, &information))
    return Int(information.st_size)
  }

  public func lock(_ file: Int32) throws(SystemError) -> Bool {
    var request = flock()
    request.l_type = Int16(F_WRLCK)
    request.l_whence = Int16(SEEK_SET)
    let result = withUnsafeMutablePointer(to: &request) {
      fcntl(file, Self.setOpenFileLock, UnsafeMutableRawPointer($0))
    }
    if result == 0 { return true }
    if errno == EAGAIN || errno == EACCES { return false }
    throw SystemError(code: errno)
  }

  public func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

  public func list(_ directory: String) throws(SystemError) -> [String] {
    guard let stream = opendir(directory) else { throw SystemError(code: errno) }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let capacity = MemoryLayout.size(ofValue: entry.pointee.d_name)
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: capacity) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }

  public func makeDirectory(_ path: String) throws(SystemError) {
    if mkdir(path, 0o700) == 0 { return try syncParent(of: path) }
    if errno == EEXIST { return }
    guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash > path.startIndex else {
      throw SystemError(code: errno)
    }
    try makeDirectory(String(path[..<slash]))
    if mkdir(path, 0o700) == 0 { return try syncParent(of: path) }
    if errno != EEXIST { throw SystemError(code: errno) }
  }

  private func syncParent(of path: String) throws(SystemError) {
    guard let slash = path.lastIndex(of: "/") else { return try syncDirectory(".") }
    try syncDirectory(slash == path.startIndex ? "/" : String(path[..<slash]))
  }

  public func rename(_ from: String, to: String) throws(SystemError) {
    _ = try check(Glibc.rename(from, to))
  }

  public func remove(_ path: String) throws(SystemError) {
    if unlink(path) == 0 { return }
    if errno == EISDIR || errno == EPERM, rmdir(path) == 0 { return }
    throw SystemError(code: errno)
  }

  public func syncDirectory(_ path: String) throws(SystemError) {
    let file = try check(Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC))
    defer { close(file) }
    _ = try check(fsync(file))
  }

  private func check<Value: SignedInteger>(_ result: Value) throws(SystemError) -> Value {
    if result < 0 { throw SystemError(code: errno) }
    return result
  }
}
