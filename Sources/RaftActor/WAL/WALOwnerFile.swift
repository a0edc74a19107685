import Base

/// A position up to which the log was synced.
struct SyncedMark: Equatable {
  var sequence: UInt64
  var offset: Int
}

/// `owner.tmp` beside the segments: who uses the log, and how far it was synced.
///
///     0    the owner's process id as text and a newline; the file is locked by that process
///     512  u64 sequence, u64 offset, u32 CRC-32C of the 16 bytes (little-endian)
///
/// The mark is written after a sync has succeeded and is not synced itself: it never runs ahead of
/// the disk. After the end of a process it is up to 100 ms old (a process that ends leaves no torn
/// tail), after a power cut some seconds. Below it no byte is ever cut off as a torn tail.
/// etcd overlooks names that end in `.tmp`.
struct WALOwnerFile {
  static let name = "owner.tmp"
  private static let markOffset = 512
  private static let fileBytes = 1024

  let file: Int32
  let path: String
  private let storage: WALStorage
  /// What an earlier owner left; nil if there is none that is whole.
  let markAtOpen: SyncedMark?

  /// Locks the directory for this process.
  /// - Throws: `WALError.inUse` at once if another log has it.
  static func acquire(
    directory: String, storage: WALStorage, process: Int32
  ) throws(WALError) -> WALOwnerFile {
    let path = directory + "/" + name
    let file = try storage.open(path, create: true)
    do throws(WALError) {
      let locked = try storage.attempt("lock", path) { () throws(SystemError) in
        try storage.files.lock(file)
      }
      let old = try content(of: file, path, storage)
      guard locked else { throw .inUse(directory: directory, process: processID(in: old)) }
      let owner = WALOwnerFile(file: file, path: path, storage: storage, markAtOpen: mark(in: old))
      try owner.writeFresh(process: process, keeping: old)
      return owner
    } catch {
      storage.files.close(file)
      throw error
    }
  }

  static func readMark(directory: String, storage: WALStorage) -> SyncedMark? {
    let path = directory + "/" + name
    return try? storage.withContent(of: path) { mark(in: Bytes($0)) }
  }

  func write(_ mark: SyncedMark) throws(WALError) {
    var fields = (mark.sequence.littleEndian, UInt64(mark.offset).littleEndian, UInt64(0))
    let result = withUnsafeMutableBytes(of: &fields) { bytes -> Result<Void, WALError> in
      let crc = CRC32C.extend(0, UnsafeRawBufferPointer(rebasing: bytes[..<16]))
      bytes.storeBytes(of: crc.littleEndian, toByteOffset: 16, as: UInt32.self)
      do throws(WALError) {
        try storage.writeAll(
          file, path, UnsafeRawBufferPointer(rebasing: bytes[..<20]), at: Self.markOffset)
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try result.get()
  }

  /// The same file after its directory got another name.
  func moved(to directory: String) -> WALOwnerFile {
    WALOwnerFile(
      file: file, path: directory + "/" + Self.name, storage: storage, markAtOpen: markAtOpen)
  }

  /// Makes the mark durable: at creation and at an orderly end.
  func sync() throws(WALError) { try storage.sync(file, path) }

  private func writeFresh(process: Int32, keeping old: Bytes) throws(WALError) {
    var bytes = Bytes(repeating: 0, count: Self.fileBytes)
    bytes.replaceSubrange(Self.markOffset..., with: old[Self.markOffset...])
    let text = "\(process)\n".utf8
    bytes.replaceSubrange(0..<text.count, with: text)
    let result = bytes.withUnsafeBytes { buffer -> Result<Void, WALError> in
      do throws(WALError) {
        try storage.writeAll(file, path, buffer, at: 0)
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try result.get()
    try storage.sync(file, path)
  }

  private static func content(
    of file: Int32, _ path: String, _ storage: WALStorage
  ) throws(WALError) -> Bytes {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: fileBytes, alignment: 8)
    defer { buffer.deallocate() }
    buffer.initializeMemory(as: UInt8.self, repeating: 0)
    _ = try storage.readAll(file, path, into: buffer)
    return Bytes(buffer)
  }

  private static func processID(in bytes: Bytes) -> Int32? {
    Int32(String(decoding: bytes.prefix { $0 >= 0x30 && $0 <= 0x39 }, as: UTF8.self))
  }

  private static func mark(in bytes: Bytes) -> SyncedMark? {
    guard bytes.count >= markOffset + 20 else { return nil }
    return bytes.withUnsafeBytes { buffer -> SyncedMark? in
      let fields = UnsafeRawBufferPointer(rebasing: buffer[markOffset..<markOffset + 16])
      let crc = buffer.loadUnaligned(fromByteOffset: markOffset + 16, as: UInt32.self)
      guard UInt32(littleEndian: crc) == CRC32C.extend(0, fields) else { return nil }
      let sequence = UInt64(littleEndian: fields.loadUnaligned(as: UInt64.self))
      let offset = UInt64(littleEndian: fields.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
      // Sixteen zero bytes have a checksum that is not zero, so an unwritten mark does not pass.
      guard let offset = Int(exactly: offset) else { return nil }
      return SyncedMark(sequence: sequence, offset: offset)
    }
  }
}
