import Base
import Glibc

@testable import RaftActor

/// A disk in memory with a live and a durable image, scripted faults, and power cuts.
final class MemoryFileSystem: WALFileSystem {
  final class File {
    var live: Bytes = []
    var durable: Bytes = []
    var lockHolder: Int32?
  }

  enum Item {
    case file(File)
    case directory(Directory)
  }

  final class Directory {
    var live: [String: Item] = [:]
    var durable: [String: Item] = [:]
  }

  enum Operation: Hashable { case write, sync, read, rename, syncDirectory, truncate, lock }

  private var root = Directory()
  private var handles: [Int32: File] = [:]
  private var directHandles: Set<Int32> = []
  private var nextHandle: Int32 = 3

  private(set) var syncCount = 0
  private(set) var writeCount = 0
  /// Those past the page cache.
  private(set) var directWriteCount = 0
  /// Knows of no writes past the page cache.
  var refusesDirect = false
  /// Errors for the calls to come: the n-th call of an operation from now (1 = next) fails once.
  var faults: [Operation: (call: Int, code: Int32)] = [:]
  /// Longest write and read; larger ones are cut short.
  var transferBytesMax = Int.max
  /// Every second write and sync is interrupted.
  var interrupts = false
  private var interruptedLast = false

  // MARK: Power

  /// Drops what was not synced, except for a random subset of its sectors; ends all handles.
  func cutPower(_ random: inout SeededGenerator) {
    handles = [:]
    cut(root, &random)
  }

  private func cut(_ directory: Directory, _ random: inout SeededGenerator) {
    directory.live = directory.durable
    for name in directory.live.keys.sorted() {
      switch directory.live[name] {
      case .directory(let inner): cut(inner, &random)
      case .file(let file): cut(file, &random)
      case nil: break
      }
    }
  }

  private func cut(_ file: File, _ random: inout SeededGenerator) {
    file.lockHolder = nil
    var image = file.durable
    if file.live.count > image.count, Bool.random(using: &random) {
      image += Bytes(repeating: 0, count: file.live.count - image.count)
    }
    for start in stride(from: 0, to: min(image.count, file.live.count), by: 512) {
      let range = start..<min(start + 512, image.count, file.live.count)
      if image[range] != file.live[range], Bool.random(using: &random) {
        image.replaceSubrange(range, with: file.live[range])
      }
    }
    file.live = image
    file.durable = image
  }

  /// The process ends; the page cache lives on.
  func endProcess() {
    for file in handles.values { file.lockHolder = nil }
    handles = [:]
  }

  // MARK: Direct access for tests

  func content(_ path: String) -> Bytes { (try? file(path))?.live ?? [] }

  func setContent(_ path: String, _ bytes: Bytes) {
    guard let file = try? file(path) else { return }
    file.live = bytes
    file.durable = bytes
  }

  func edit(_ path: String, _ body: (inout Bytes) -> Void) {
    var bytes = content(path)
    body(&bytes)
    setContent(path, bytes)
  }

  func addFile(_ path: String, _ bytes: Bytes) {
    guard let (directory, name) = try? split(path) else { return }
    let file = File()
    file.live = bytes
    file.durable = bytes
    directory.live[name] = .file(file)
    directory.durable[name] = .file(file)
  }

  // MARK: WALFileSystem

  func open(_ path: String, create: Bool) throws(SystemError) -> Int32 {
    let (directory, name) = try split(path)
    if directory.live[name] == nil, create { directory.live[name] = .file(File()) }
    return handle(for: try file(path))
  }

  func openForReading(_ path: String) throws(SystemError) -> Int32 { handle(for: try file(path)) }

  func openDirect(_ path: String) -> Int32? {
    guard !refusesDirect, let file = try? file(path) else { return nil }
    let handle = handle(for: file)
    directHandles.insert(handle)
    return handle
  }

  func close(_ file: Int32) {
    directHandles.remove(file)
    guard let target = handles.removeValue(forKey: file) else { return }
    if target.lockHolder == file { target.lockHolder = nil }
  }

  func read(
    _ file: Int32, into buffer: UnsafeMutableRawBufferPointer, at offset: Int
  ) throws(SystemError) -> Int {
    try fault(.read)
    let bytes = try target(file).live
    let count = max(0, min(buffer.count, bytes.count - offset, transferBytesMax))
    buffer.copyBytes(from: bytes[min(offset, bytes.count)...].prefix(count))
    return count
  }

  func write(
    _ file: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int
  ) throws(SystemError) -> Int {
    try interrupt()
    try fault(.write)
    if directHandles.contains(file) {
      let alignments = [offset, bytes.count, Int(bitPattern: bytes.baseAddress)]
      guard alignments.allSatisfy({ $0 % 4096 == 0 }) else { throw SystemError(code: EINVAL) }
      directWriteCount += 1
    }
    writeCount += 1
    let file = try target(file)
    let count = min(bytes.count, transferBytesMax)
    if file.live.count < offset + count {
      file.live += Bytes(repeating: 0, count: offset + count - file.live.count)
    }
    file.live.withUnsafeMutableBytes { live in
      UnsafeMutableRawBufferPointer(rebasing: live[offset..<offset + count])
        .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<count]))
    }
    return count
  }

  func sync(_ file: Int32) throws(SystemError) {
    try interrupt()
    try fault(.sync)
    syncCount += 1
    let file = try target(file)
    file.durable = file.live
  }

  func truncate(_ file: Int32, to count: Int) throws(SystemError) {
    try fault(.truncate)
    let file = try target(file)
    file.live.removeLast(max(0, file.live.count - count))
  }

  func size(_ file: Int32) throws(SystemError) -> Int { try target(file).live.count }

  func lock(_ file: Int32) throws(SystemError) -> Bool {
    let target = try target(file)
    if let holder = target.lockHolder { return holder == file }
    target.lockHolder = file
    return true
  }

  func exists(_ path: String) -> Bool {
    guard let (directory, name) = try? split(path) else { return false }
    return directory.live[name] != nil
  }

  func list(_ directory: String) throws(SystemError) -> [String] {
    try self.directory(directory).live.keys.sorted()
  }

  func makeDirectory(_ path: String) throws(SystemError) {
    var current = root
    for part in path.split(separator: "/").map(String.init) {
      if case .directory(let inner) = current.live[part] {
        current = inner
      } else {
        let inner = Directory()
        current.live[part] = .directory(inner)
        current = inner
      }
    }
  }

  func rename(_ from: String, to: String) throws(SystemError) {
    try fault(.rename)
    let (source, oldName) = try split(from)
    let (target, newName) = try split(to)
    guard let item = source.live.removeValue(forKey: oldName) else {
      throw SystemError(code: ENOENT)
    }
    target.live[newName] = item
  }

  func remove(_ path: String) throws(SystemError) {
    let (directory, name) = try split(path)
    if directory.live.removeValue(forKey: name) == nil { throw SystemError(code: ENOENT) }
  }

  func syncDirectory(_ path: String) throws(SystemError) {
    try fault(.syncDirectory)
    let directory = try directory(path)
    directory.durable = directory.live
  }

  // MARK: Inside

  private func fault(_ operation: Operation) throws(SystemError) {
    guard let (call, code) = faults[operation] else { return }
    faults[operation] = call > 1 ? (call - 1, code) : nil
    if call <= 1 { throw SystemError(code: code) }
  }

  private func interrupt() throws(SystemError) {
    interruptedLast = interrupts && !interruptedLast
    if interruptedLast { throw SystemError(code: EINTR) }
  }

  private func handle(for file: File) -> Int32 {
    nextHandle += 1
    handles[nextHandle] = file
    return nextHandle
  }

  private func target(_ file: Int32) throws(SystemError) -> File {
    guard let target = handles[file] else { throw SystemError(code: EBADF) }
    return target
  }

  private func file(_ path: String) throws(SystemError) -> File {
    let (directory, name) = try split(path)
    guard case .file(let file) = directory.live[name] else { throw SystemError(code: ENOENT) }
    return file
  }

  private func directory(_ path: String) throws(SystemError) -> Directory {
    var current = root
    for part in path.split(separator: "/").map(String.init) {
      guard case .directory(let inner) = current.live[part] else {
        throw SystemError(code: ENOENT)
      }
      current = inner
    }
    return current
  }

  private func split(_ path: String) throws(SystemError) -> (Directory, String) {
    let parts = path.split(separator: "/").map(String.init)
    let parent = "/" + parts.dropLast().joined(separator: "/")
    return (try directory(parent), parts.last ?? "")
  }
}

/// Logs over a memory disk, with segments small enough for tests.
struct LogFixture {
  static let directory = "/data/wal"
  static let metadata = WALMetadata(nodeID: 0x63da_cd04_ba94_a951, clusterID: 0xffaa_fcf1)
  let disk = MemoryFileSystem()
  var options = WriteAheadLog.Options()

  init(segmentBytes: Int = 16_384, slackBytes: Int = 4096, unsyncedBytesMax: Int = 8192) throws {
    options.segmentBytes = segmentBytes
    options.slackBytes = slackBytes
    options.unsyncedBytesMax = unsyncedBytesMax
    try disk.makeDirectory("/data")
    try disk.syncDirectory("/")
  }

  func create() throws -> WriteAheadLog {
    try WriteAheadLog.create(
      directory: Self.directory, metadata: Self.metadata, options: options, fileSystem: disk)
  }

  func open() throws -> (log: WriteAheadLog, recovered: WALRecovered) {
    try WriteAheadLog.open(directory: Self.directory, options: options, fileSystem: disk)
  }

  func path(_ sequence: UInt64 = 0, _ firstIndex: LogIndex = 0) -> String {
    Self.directory + "/" + WALSegmentName(sequence: sequence, firstIndex: firstIndex).name
  }

  static func entry(_ index: LogIndex, term: Term = 1, bytes: Int = 40) -> Entry {
    Entry(
      term: term, index: index,
      data: (0..<bytes).map { UInt8(truncatingIfNeeded: $0 * 7 + Int(index)) | 1 })
  }

  static func entries(_ range: ClosedRange<LogIndex>, term: Term = 1, bytes: Int = 40) -> [Entry] {
    range.map { entry($0, term: term, bytes: bytes) }
  }
}

/// The error a body throws, or nil.
func walError(_ body: () throws -> Void) -> WALError? {
  do {
    try body()
    return nil
  } catch {
    return error as? WALError
  }
}
