import Base
import Glibc

/// `WALFileSystem` with whole-or-nothing transfers, and errors that name operation and file.
struct WALStorage {
  let files: any WALFileSystem

  /// Zeros are written from one block of this size.
  private static let zeroBlockBytes = 1 << 20

  func attempt<Value>(
    _ operation: String, _ path: String, _ body: () throws(SystemError) -> Value
  ) throws(WALError) -> Value {
    while true {
      do throws(SystemError) { return try body() } catch {
        if error.code == EINTR { continue }
        throw .io(operation: operation, file: path, errno: error.code)
      }
    }
  }

  func writeAll(
    _ file: Int32, _ path: String, _ bytes: UnsafeRawBufferPointer, at offset: Int
  ) throws(WALError) {
    var done = 0
    while done < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
      let count = try attempt("write", path) { () throws(SystemError) in
        try files.write(file, rest, at: offset + done)
      }
      // A write of nothing would loop for ever; the kernel reports a full disk otherwise.
      if count <= 0 { throw .io(operation: "write", file: path, errno: EIO) }
      done += count
    }
  }

  /// Writes whole blocks past the page cache.
  /// - Returns: false if not all of them could be written that way.
  func writeBlocks(
    _ file: Int32, _ path: String, _ blocks: UnsafeRawBufferPointer, at offset: Int
  ) throws(WALError) -> Bool {
    let count = try attempt("write", path) { () throws(SystemError) in
      do throws(SystemError) { return try files.write(file, blocks, at: offset) } catch {
        // The file system does not accept it in this way.
        if error.code == EINVAL { return 0 }
        throw error
      }
    }
    return count == blocks.count
  }

  func writeZeros(
    _ file: Int32, _ path: String, _ range: Range<Int>
  ) throws(WALError) {
    guard !range.isEmpty else { return }
    let count = min(Self.zeroBlockBytes, range.count)
    // Pages that nobody has written to take no memory, and read as zeros.
    guard
      let pages = mmap(nil, count, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      pages != MAP_FAILED
    else { throw .io(operation: "allocate zeros for", file: path, errno: errno) }
    defer { munmap(pages, count) }
    let block = UnsafeRawBufferPointer(start: pages, count: count)
    var offset = range.lowerBound
    while offset < range.upperBound {
      let part = min(count, range.upperBound - offset)
      try writeAll(file, path, UnsafeRawBufferPointer(rebasing: block[..<part]), at: offset)
      offset += part
    }
  }

  /// Reads until `buffer` is full or the file ends; returns the count of bytes read.
  func readAll(
    _ file: Int32, _ path: String, into buffer: UnsafeMutableRawBufferPointer, at offset: Int = 0
  ) throws(WALError) -> Int {
    var done = 0
    while done < buffer.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let count = try attempt("read", path) { () throws(SystemError) in
        try files.read(file, into: rest, at: offset + done)
      }
      if count == 0 { break }
      done += count
    }
    return done
  }

  func sync(_ file: Int32, _ path: String) throws(WALError) {
    try attempt("sync", path) { () throws(SystemError) in try files.sync(file) }
  }

  func syncDirectory(_ path: String) throws(WALError) {
    try attempt("sync", path) { () throws(SystemError) in try files.syncDirectory(path) }
  }

  func rename(_ from: String, to: String) throws(WALError) {
    try attempt("rename", from) { () throws(SystemError) in try files.rename(from, to: to) }
  }

  func remove(_ path: String) throws(WALError) {
    try attempt("remove", path) { () throws(SystemError) in try files.remove(path) }
  }

  func open(_ path: String, create: Bool) throws(WALError) -> Int32 {
    try attempt("open", path) { () throws(SystemError) in try files.open(path, create: create) }
  }

  func list(_ directory: String) throws(WALError) -> [String] {
    try attempt("list", directory) { () throws(SystemError) in try files.list(directory) }
  }

  /// Reads a whole file; the bytes are valid inside `body`.
  ///
  /// Segments are read one at a time, so that at most one is in memory.
  func withContent<Value>(
    of path: String, _ body: (UnsafeRawBufferPointer) throws(WALError) -> Value
  ) throws(WALError) -> Value {
    let file = try attempt("open", path) { () throws(SystemError) in
      try files.openForReading(path)
    }
    defer { files.close(file) }
    let size = try attempt("stat", path) { () throws(SystemError) in try files.size(file) }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 4096)
    defer { buffer.deallocate() }
    let count = try readAll(file, path, into: buffer)
    if count != size { throw .io(operation: "read", file: path, errno: EIO) }
    return try body(UnsafeRawBufferPointer(buffer))
  }
}
