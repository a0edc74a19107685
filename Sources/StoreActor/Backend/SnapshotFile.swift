public import Base
import CLMDB
import Glibc
import Synchronization

/// What a snapshot file says about the cluster that wrote it.
public struct SnapshotContents: Sendable, Equatable {
  /// 0 when absent.
  public var consistentIndex: LogIndex = 0
  /// Nil in files of etcd 3.4.
  public var term: Term?
  public var confState: Bytes?
  public var storageVersion: Bytes?
  public var clusterVersion: Bytes?
  /// Hexadecimal id and JSON of each member. Stale in files written by etcd before 3.5.24.
  public var members: [Entry] = []
  /// Hexadecimal ids.
  public var removedMembers: [Bytes] = []
  /// Newest revision in the `key` table.
  public var lastRevision: Revision?
  /// Records in the `key` table.
  public var recordCount = 0
  /// Whether a SHA-256 followed the pages (it was checked).
  public var hadHash = false

  public struct Entry: Sendable, Equatable {
    public let key: Bytes
    public let value: Bytes
  }

  /// Takes in one entry; a problem if etcd would not have written it.
  mutating func note(
    _ bucket: BackendBucket, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) -> BoltProblem? {
    switch bucket {
    case .key:
      guard let (revision, _) = RevisionKey.parse(key) else {
        return .badEntry(bucket: "key", reason: "a key that is no revision")
      }
      lastRevision = revision
      recordCount += 1
    case .meta: return noteMeta(Bytes(key), value)
    case .cluster where Bytes(key) == BackendKey.clusterVersion: clusterVersion = Bytes(value)
    case .members: members.append(Entry(key: Bytes(key), value: Bytes(value)))
    case .membersRemoved: removedMembers.append(Bytes(key))
    default: break
    }
    return nil
  }

  private mutating func noteMeta(_ key: Bytes, _ value: UnsafeRawBufferPointer) -> BoltProblem? {
    switch key {
    case BackendKey.consistentIndex, BackendKey.term:
      guard let number = UInt64(bigEndianBytes: value) else {
        return .badEntry(bucket: "meta", reason: "a number that has not eight bytes")
      }
      if key == BackendKey.term { term = number } else { consistentIndex = number }
    case BackendKey.confState: confState = Bytes(value)
    case BackendKey.storageVersion: storageVersion = Bytes(value)
    default: break
    }
    return nil
  }
}

/// etcd's snapshot files: a bbolt file, followed by its SHA-256 when a client has saved it.
public enum SnapshotFile {
  private static let hashBytes = SHA256Stream.byteCount
  private static let readBytes = 1 << 20

  /// Writes what `view` shows, with `overrides`, as a bbolt file with all ten buckets.
  ///
  /// Durable on return, but its name is not (sync the directory). On an error no file is left.
  /// Takes seconds for gigabytes: on any thread with a view of its own.
  /// - Returns: the file's size, a multiple of 4096.
  public static func export(
    from view: ReadView, to path: String, overrides: SnapshotOverrides = SnapshotOverrides()
  ) throws(BackendError) -> Int {
    do throws(BackendError) {
      var writer = try BoltWriter(path: path)
      for bucket in BackendBucket.allCases {
        writer.beginBucket(bucket.nameBytes)
        var merger = overrides.merger(bucket)
        if merger.keepsSource {
          try view.scan(bucket) { (key, value) throws(BackendError) in
            try merger.pass(key, value) { (key, value) throws(BackendError) in
              try writer.put(key, value)
            }
            return true
          }
        }
        try merger.finish { (key, value) throws(BackendError) in try writer.put(key, value) }
        try writer.endBucket()
      }
      return try writer.finish()
    } catch {
      unlink(path)
      throw error
    }
  }

  /// Adds the SHA-256 of the whole file at its end, as clients do who save the stream.
  public static func appendHash(to path: String) throws(BackendError) {
    let file = try OwnedFile(path: path, flags: O_RDWR)
    let count = try file.byteCount()
    let digest = try hash(file, count)
    try digest.withBuffer { (raw) throws(BackendError) in try file.write(raw, at: count) }
    try file.sync()
  }

  /// Whether a SHA-256 follows the pages, by etcd's rule.
  public static func hasHash(byteCount: Int) -> Bool { byteCount % 512 == hashBytes }

  /// Checks the SHA-256 at the end of the file. False if there is none.
  public static func verifyHash(_ path: String) throws(BackendError) -> Bool {
    let file = try OwnedFile(path: path, flags: O_RDONLY)
    let count = try file.byteCount()
    guard hasHash(byteCount: count) else { return false }
    var stored = Bytes(repeating: 0, count: hashBytes)
    _ = try readInto(&stored, file, at: count - hashBytes)
    guard try hash(file, count - hashBytes) == stored else {
      throw .snapshotHashMismatch(file: path)
    }
    return true
  }

  private static func hash(_ file: borrowing OwnedFile, _ count: Int) throws(BackendError) -> Bytes
  {
    var digest = SHA256Stream()
    var offset = 0
    var piece = Bytes(repeating: 0, count: readBytes)
    while offset < count {
      let wanted = min(readBytes, count - offset)
      let read = min(try readInto(&piece, file, at: offset), wanted)
      guard read > 0 else { break }
      piece.withBuffer { digest.update(UnsafeRawBufferPointer(rebasing: $0[..<read])) }
      offset += read
    }
    return digest.finish()
  }

  private static func readInto(
    _ bytes: inout Bytes, _ file: borrowing OwnedFile, at offset: Int
  ) throws(BackendError) -> Int {
    let path = file.path
    let descriptor = file.descriptor
    return try bytes.withUnsafeMutableBufferPointer { (buffer) throws(BackendError) in
      try OwnedFile.read(descriptor, path, into: UnsafeMutableRawBufferPointer(buffer), at: offset)
    }
  }

  /// Reads the whole file without keeping its data: checks hash, structure and contents.
  public static func inspect(_ path: String) throws(BackendError) -> SnapshotContents {
    try read(path, overrides: SnapshotOverrides()) { (_, _, _) throws(BackendError) in }
  }

  /// Feeds every entry, with `overrides`, to `emit` in order of buckets and keys.
  static func read(
    _ path: String, overrides: SnapshotOverrides,
    emit: (BackendBucket, UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws(BackendError) ->
      Void
  ) throws(BackendError) -> SnapshotContents {
    var contents = SnapshotContents()
    contents.hadHash = try verifyHash(path)
    let reader = try BoltReader(path: path)
    let buckets = try reader.buckets(in: reader.root)
    for bucket in BackendBucket.allCases {
      let found = buckets.first { $0.name == bucket.nameBytes }?.bucket
      guard found != nil || (bucket != .key && bucket != .meta) else {
        throw .badSnapshot(file: path, problem: .missingBucket("\(bucket.name)"))
      }
      func take(
        _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
      ) throws(BackendError) {
        if let problem = contents.note(bucket, key, value) {
          throw .badSnapshot(file: path, problem: problem)
        }
        try emit(bucket, key, value)
      }
      var merger = overrides.merger(bucket)
      if merger.keepsSource, let found {
        var failure: BackendError?
        try reader.scan(found) { key, value in
          do throws(BackendError) {
            try merger.pass(key, value, take)
          } catch {
            failure = error
          }
          return failure == nil
        }
        if let failure { throw failure }
      }
      try merger.finish(take)
    }
    return contents
  }
}

extension Backend {
  /// Replaces the whole content with that of a snapshot file, while the process runs. BACKEND
  /// thread; blocks it. Read views keep the old content until renewed. On an error the old content
  /// stays. Cancels a defragmentation.
  ///
  /// - Throws: `snapshotTooOld` if its index is below that of the last commit.
  public func installSnapshot(
    path: String, overrides: SnapshotOverrides = SnapshotOverrides()
  ) throws(BackendError) -> SnapshotContents {
    try writer.withLock { (state) throws(BackendError) in
      guard !state.isUnusable else { throw .unusable(file: environment.path) }
      state.copy = nil
      state.refused = nil
      let target = try Self.makeTemporary(directory, options, owner)
      let contents: SnapshotContents
      do throws(BackendError) {
        contents = try target.load(snapshot: path, overrides: overrides)
        guard contents.consistentIndex >= state.consistentIndex else {
          throw .snapshotTooOld(
            file: path, index: contents.consistentIndex, current: state.consistentIndex)
        }
        try target.sealAfterBulkLoad(syncEachCommit: !options.noSync)
      } catch {
        try? Self.removeTemporaries(directory)
        throw error
      }
      try swapIn(target, &state)
      state.committedBuffer = lastBufferID
      state.consistentIndex = contents.consistentIndex
      state.term = contents.term ?? 0
      return contents
    }
  }

  /// Makes `directory` (created if absent) a store with the content of a snapshot file, replacing
  /// what is there in one atomic step. For a store that is not open: restore, import, start.
  public static func importSnapshot(
    path: String, into directory: String, options: BackendOptions = BackendOptions(),
    overrides: SnapshotOverrides = SnapshotOverrides()
  ) throws(BackendError) -> SnapshotContents {
    guard mkdir(directory, 0o700) == 0 || errno == EEXIST else {
      throw .system(directory, "mkdir", errno)
    }
    let owner = try DirectoryLock(directory: directory)
    let target = try makeTemporary(directory, options, owner)
    do throws(BackendError) {
      let contents = try target.load(snapshot: path, overrides: overrides)
      try target.sealAfterBulkLoad(syncEachCommit: true)
      try putInPlace(directory)
      return contents
    } catch {
      try? removeTemporaries(directory)
      throw error
    }
  }
}

extension Environment {
  /// Fills an empty environment. Commits every 32 MiB, which bounds the memory of dirty pages.
  fileprivate func load(
    snapshot path: String, overrides: SnapshotOverrides
  ) throws(BackendError) -> SnapshotContents {
    var loader = try BulkLoader(self)
    let contents = try SnapshotFile.read(path, overrides: overrides) {
      (bucket, key, value) throws(BackendError) in
      try loader.put(bucket, key, value)
    }
    try loader.finish()
    return contents
  }
}

/// Writes ascending entries in transactions of bounded size.
private struct BulkLoader: ~Copyable {
  private let environment: Environment
  private var txn: OpaquePointer?
  private var pendingBytes = 0

  init(_ environment: Environment) throws(BackendError) {
    self.environment = environment
    txn = try environment.beginWrite()
  }

  deinit { if let txn { mdb_txn_abort(txn) } }

  mutating func put(
    _ bucket: BackendBucket, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
  ) throws(BackendError) {
    guard let txn else { preconditionFailure("the loader is finished") }
    if bucket == .key {
      try environment.putStored(txn, bucket, key, value, append: true)
    } else {
      try environment.put(txn, bucket, key, value)
    }
    pendingBytes += key.count + value.count + 16
    guard pendingBytes >= Backend.copySliceBytes else { return }
    try finish()
    self.txn = try environment.beginWrite()
    pendingBytes = 0
  }

  /// Commits what is pending.
  mutating func finish() throws(BackendError) {
    guard let txn else { return }
    // A failed commit frees the transaction as well.
    self.txn = nil
    try environment.check(mdb_txn_commit(txn), "commit")
  }
}
