import Base
import Glibc

extension WriteAheadLog {
  private static let copySuffix = ".broken"

  /// Whether `directory` holds a log.
  public static func exists(
    directory: String, fileSystem: any WALFileSystem = PosixFileSystem()
  ) -> Bool {
    let names = (try? fileSystem.list(directory)) ?? []
    return names.contains { WALSegmentName($0) != nil }
  }

  /// Makes the log of a new member, durable when this returns.
  ///
  /// Everything is built in `<directory>.tmp` and renamed, so that a log is there entirely or not
  /// at all. Blocks for zero-filling the first segment.
  public static func create(
    directory: String, metadata: WALMetadata, options: Options = Options(),
    fileSystem: any WALFileSystem = PosixFileSystem()
  ) throws(WALError) -> WriteAheadLog {
    if exists(directory: directory, fileSystem: fileSystem) {
      throw .alreadyExists(directory: directory)
    }
    let storage = WALStorage(files: fileSystem)
    let building = directory + ".tmp"
    try storage.attempt("create", building) { () throws(SystemError) in
      try fileSystem.makeDirectory(building)
    }
    let owner = try WALOwnerFile.acquire(
      directory: building, storage: storage, process: getpid())
    let name = WALSegmentName(sequence: 0, firstIndex: 0)
    let path = building + "/" + name.name
    let file: Int32
    do throws(WALError) {
      for name in try storage.list(building) where name != WALOwnerFile.name {
        try storage.remove(building + "/" + name)
      }
      file = try lockedFile(path, storage, create: true, directory: directory)
    } catch {
      storage.files.close(owner.file)
      throw error
    }
    let log = WriteAheadLog(
      directory: directory, metadata: metadata, storage: storage, options: options,
      owner: owner.moved(to: directory), segments: [Segment(name, in: directory, file: file)],
      position: 0, tailFilled: 0, crc: 0, hardState: HardState(), lastIndex: 0)
    try log.guarded { () throws(WALError) in try log.build(in: building, path) }
    return log
  }

  private func build(in building: String, _ path: String) throws(WALError) {
    tailFilled = min(options.firstFillBytes, options.fileBytes)
    try storage.writeZeros(tail.file, path, 0..<tailFilled)
    position = try writeSegmentStart(to: tail.file, path)
    append(snapshot: SnapshotMetadata())
    try writePending()
    try syncTail()
    try writeDueMark()
    try owner.sync()
    try storage.syncDirectory(building)
    try storage.rename(building, to: directory)
    try storage.syncDirectory(Self.parent(of: directory))
  }

  /// Opens a log at its newest snapshot record that is committed, repairs a torn tail, and makes
  /// durable what an ended process may have left in the page cache.
  ///
  /// Whether the metadata is that of this member and cluster is for the caller to judge.
  /// - Throws: `inUse` at once if another log has the directory; `corrupt`, `segmentMissing` or
  ///   `snapshotMissing` if anything acknowledged may be lost; nothing on disk is changed then.
  public static func open(
    directory: String, options: Options = Options(),
    fileSystem: any WALFileSystem = PosixFileSystem()
  ) throws(WALError) -> (log: WriteAheadLog, recovered: WALRecovered) {
    let storage = WALStorage(files: fileSystem)
    guard exists(directory: directory, fileSystem: fileSystem) else {
      throw .notFound(directory: directory)
    }
    let owner = try WALOwnerFile.acquire(
      directory: directory, storage: storage, process: getpid())
    var segments: [Segment] = []
    let log: WriteAheadLog
    var recovered: WALRecovered
    do throws(WALError) {
      let reader = WALReader(
        directory: directory, fileSystem: fileSystem,
        unsyncedBytesMax: options.unsyncedBytesMax)
      for name in try reader.segments() {
        let file = try lockedFile(reader.path(name), storage, create: false, directory: directory)
        segments.append(Segment(name, in: directory, file: file))
      }
      let (found, tail, start) = try reader.recover(mark: owner.markAtOpen)
      recovered = found
      recovered.tornTail?.copy = try settle(tail, segments, reader, storage)
      try removeLeftovers(directory, storage)
      // Another writer's preallocated room is not zeroed on the disk, only reads so.
      let size = owner.markAtOpen == nil ? tail.offset : tail.fileBytes
      log = WriteAheadLog(
        directory: directory, metadata: recovered.metadata, storage: storage, options: options,
        owner: owner, segments: segments, position: tail.offset, tailFilled: size, crc: tail.crc,
        hardState: recovered.hardState,
        lastIndex: max(recovered.snapshot.index, recovered.entries.last?.index ?? 0))
      log.releaseSegments(before: start)
    } catch {
      for segment in segments { if let file = segment.file { storage.files.close(file) } }
      storage.files.close(owner.file)
      throw error
    }
    try log.guarded { () throws(WALError) in
      try log.carryTail()
      try log.syncTail()
      try log.writeDueMark()
      // The last process may have ended between giving a name and making it durable.
      try storage.syncDirectory(directory)
      try storage.syncDirectory(parent(of: directory))
    }
    return (log, recovered)
  }

  /// Keeps a copy of a torn tail and overwrites it with zeros.
  /// - Returns: the copy's path.
  private static func settle(
    _ tail: WALTail, _ segments: [Segment], _ reader: WALReader, _ storage: WALStorage
  ) throws(WALError) -> String? {
    guard tail.dirtyEnd > tail.offset else { return nil }
    guard let file = segments.last?.file else { return nil }
    let path = reader.path(tail.segment)
    let copy = path + copySuffix
    let target = try storage.open(copy, create: true)
    defer { storage.files.close(target) }
    try storage.attempt("truncate", copy) { () throws(SystemError) in
      try storage.files.truncate(target, to: 0)
    }
    try storage.withContent(of: path) { (bytes) throws(WALError) in
      let used = UnsafeRawBufferPointer(rebasing: bytes[..<tail.dirtyEnd])
      try storage.writeAll(target, copy, used, at: 0)
    }
    try storage.sync(target, copy)
    try storage.syncDirectory(reader.directory)
    try storage.writeZeros(file, path, tail.offset..<tail.dirtyEnd)
    try storage.sync(file, path)
    return copy
  }

  /// Segments that were being prepared when the last process ended.
  private static func removeLeftovers(
    _ directory: String, _ storage: WALStorage
  ) throws(WALError) {
    for name in ["0.tmp", "1.tmp"] where storage.files.exists(directory + "/" + name) {
      try storage.remove(directory + "/" + name)
    }
  }

  static func lockedFile(
    _ path: String, _ storage: WALStorage, create: Bool, directory: String
  ) throws(WALError) -> Int32 {
    let file = try storage.open(path, create: create)
    let locked: Bool
    do throws(WALError) {
      locked = try storage.attempt("lock", path) { () throws(SystemError) in
        try storage.files.lock(file)
      }
    } catch {
      storage.files.close(file)
      throw error
    }
    if locked { return file }
    storage.files.close(file)
    throw .inUse(directory: directory, process: nil)
  }

  private static func parent(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }
}
