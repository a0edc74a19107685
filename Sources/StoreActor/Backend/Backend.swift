public import Base
import CLMDB
import Glibc
import Synchronization

public struct BackendOptions: Sendable {
  /// Address space for the file, an upper bound of its size. If the kernel refuses, halves are tried.
  public var mapBytes: Int
  /// Leave durability to the kernel (`--unsafe-no-fsync`). A power cut may then damage the file.
  public var noSync: Bool

  public init(mapBytes: Int = 1 << 40, noSync: Bool = false) {
    self.mapBytes = mapBytes
    self.noSync = noSync
  }
}

/// The store on disk: an LMDB file in a directory of its own.
///
/// Commits, defragmentation and snapshot installs exclude each other (they belong on the BACKEND
/// thread, and block it). Sizes and new read views are for any thread.
public final class Backend: Sendable {
  public let directory: String
  let options: BackendOptions
  let owner: DirectoryLock

  private let current: Mutex<Environment>
  let writer: Mutex<WriterState>
  private let generationCounter = Atomic<UInt64>(1)
  private let bufferCounter = Atomic<UInt64>(0)
  private let allocatedBytes = Atomic<Int>(0)
  private let inUseBytes = Atomic<Int>(0)
  let views = Atomic<Int>(0)

  struct WriterState {
    var consistentIndex: UInt64
    var term: Term
    /// Set by a write or sync whose outcome is unknown; ends all writing through this handle.
    var isUnusable = false
    var copy: DefragmentCopy?
    var replaced = ReplacedFiles()
    /// Id of the last sealed buffer that is in the file or overtaken by an installed snapshot.
    var committedBuffer: UInt64 = 0
    /// The sealed buffer that found no space, and why.
    var refused: (id: UInt64, error: BackendError)?
  }

  /// Opens the store in `directory` (created with mode 0700 if absent), or creates an empty one.
  ///
  /// Removes what a crash during defragmentation or a snapshot install left behind.
  public static func open(
    directory: String, options: BackendOptions = BackendOptions()
  ) throws(BackendError) -> Backend {
    try FileSystem.makeDirectory(directory)
    let owner = try DirectoryLock(directory: directory)
    try removeTemporaries(directory)
    let environment: Environment
    if FileSystem.exists(directory + "/" + StoreFile.data) {
      // The process that put it in place may have ended before its name was durable.
      try FileSystem.syncDirectory(directory)
      environment = try Environment(
        directory: directory, file: StoreFile.data, mapBytes: options.mapBytes,
        noSync: options.noSync, owner: owner)
    } else {
      environment = try makeTemporary(directory, options, owner)
      try environment.sealAfterBulkLoad(syncEachCommit: !options.noSync)
      try putInPlace(directory)
    }
    return try Backend(directory, options, owner, environment)
  }

  /// Whether `directory` holds a store that was put in place.
  public static func exists(directory: String) -> Bool {
    FileSystem.exists(directory + "/" + StoreFile.data)
  }

  private init(
    _ directory: String, _ options: BackendOptions, _ owner: DirectoryLock,
    _ environment: Environment
  ) throws(BackendError) {
    self.directory = directory
    self.options = options
    self.owner = owner
    current = Mutex(environment)
    let (index, term) = try Self.readProgress(environment)
    writer = Mutex(WriterState(consistentIndex: index, term: term))
    try refreshSizes(environment)
  }

  // MARK: State

  var environment: Environment { current.withLock { $0 } }

  /// Increases whenever another file takes the place of the live one.
  public var generation: UInt64 { generationCounter.load(ordering: .acquiring) }

  /// Bytes of the file handed out, free pages included: etcd's `dbSize`. Any thread, no I/O.
  public var sizeBytes: Int { allocatedBytes.load(ordering: .relaxed) }

  /// The part of `sizeBytes` that is not free: etcd's `dbSizeInUse`. Any thread, no I/O.
  public var sizeInUseBytes: Int { inUseBytes.load(ordering: .relaxed) }

  /// Read views that exist now. Any thread.
  public var openViews: Int { views.load(ordering: .relaxed) }

  /// Index and term of the last commit. Waits for a running commit or defragmentation step.
  public var progress: (consistentIndex: UInt64, term: Term) {
    writer.withLock { ($0.consistentIndex, $0.term) }
  }

  /// A view of the last commit, for the calling thread. At most about 1,000 at a time.
  public func makeReadView() throws(BackendError) -> ReadView { try ReadView(self) }

  /// A fresh id for a sealed buffer.
  func takeBufferID() -> UInt64 { bufferCounter.add(1, ordering: .relaxed).newValue }

  /// The last id that was given out.
  var lastBufferID: UInt64 { bufferCounter.load(ordering: .relaxed) }

  func refreshSizes(_ environment: Environment) throws(BackendError) {
    let (allocated, inUse) = try environment.measure()
    allocatedBytes.store(allocated, ordering: .relaxed)
    inUseBytes.store(inUse, ordering: .relaxed)
  }

  /// Makes `environment`, whose file is in place already, the one that everybody uses.
  func adopt(_ environment: Environment) throws(BackendError) {
    current.withLock { $0 = environment }
    generationCounter.add(1, ordering: .releasing)
    try refreshSizes(environment)
  }

  private static func readProgress(
    _ environment: Environment
  ) throws(BackendError) -> (UInt64, Term) {
    let txn = try environment.beginRead()
    defer { mdb_txn_abort(txn) }
    func number(_ key: Bytes) throws(BackendError) -> UInt64 {
      var value = MDB_val()
      let code = key.withUnsafeBytes { raw in
        withLMDBValue(raw) { mdb_get(txn, environment.table(.meta), &$0, &value) }
      }
      if code == MDB_NOTFOUND { return 0 }
      try environment.check(code, "read")
      guard let number = UInt64(bigEndianBytes: value.buffer) else {
        let name = String(decoding: key, as: UTF8.self)
        throw .corrupted(file: environment.path, detail: "meta \(name)")
      }
      return number
    }
    return (try number(BackendKey.consistentIndex), try number(BackendKey.term))
  }

  // MARK: Commit

  /// Writes `batch` with the index and term it brings the store to, in one transaction.
  ///
  /// Durable on return (unless `noSync`). Blocks for the write and one `fdatasync`: BACKEND thread.
  /// - Precondition: neither index nor term is lower than at the last commit.
  /// - Throws: `diskFull` or `mapFull` if nothing was written and a later try may succeed;
  ///   any other error ends writing through this handle.
  public func commit(
    _ batch: WriteBatch, consistentIndex: UInt64, term: Term
  ) throws(BackendError) {
    try writer.withLock { (state) throws(BackendError) in
      precondition(consistentIndex >= state.consistentIndex, "consistent index goes back")
      precondition(term >= state.term, "term goes back")
      let environment = self.environment
      guard !state.isUnusable else { throw .unusable(file: environment.path) }
      do throws(BackendError) {
        try environment.apply(batch, consistentIndex: consistentIndex, term: term)
      } catch {
        state.isUnusable = error.leavesDurabilityUnknown
        throw error
      }
      state.consistentIndex = consistentIndex
      state.term = term
      state.copy?.journal.append((batch, consistentIndex, term))
      state.copy?.journalBytes += batch.byteCount
      try refreshSizes(environment)
    }
  }

  // MARK: Files

  static func removeTemporaries(_ directory: String) throws(BackendError) {
    try FileSystem.remove(directory + "/" + StoreFile.temporary)
    try FileSystem.remove(directory + "/" + StoreFile.temporaryLock)
  }

  /// A new, empty file under the temporary name, written without a sync per commit.
  static func makeTemporary(
    _ directory: String, _ options: BackendOptions, _ owner: DirectoryLock
  ) throws(BackendError) -> Environment {
    try removeTemporaries(directory)
    return try Environment(
      directory: directory, file: StoreFile.temporary, mapBytes: options.mapBytes, noSync: true,
      owner: owner)
  }

  /// Renames the temporary file, which must be durable, over the live one.
  ///
  /// LMDB's lock file goes first: it has no content worth keeping, and each open environment holds
  /// its own, so the order matters only in that the data file's rename is the deciding step.
  static func putInPlace(_ directory: String) throws(BackendError) {
    try FileSystem.rename(
      directory + "/" + StoreFile.temporaryLock, to: directory + "/" + StoreFile.dataLock)
    try FileSystem.rename(
      directory + "/" + StoreFile.temporary, to: directory + "/" + StoreFile.data)
    try FileSystem.syncDirectory(directory)
  }
}

extension BackendError {
  /// A full disk or map is noticed before the deciding meta page is written; so is a bad key.
  var leavesDurabilityUnknown: Bool {
    switch self {
    case .diskFull, .mapFull, .badKey: false
    default: true
    }
  }
}

// MARK: - Applying a batch

extension Environment {
  func apply(
    _ batch: WriteBatch, consistentIndex: UInt64, term: Term
  ) throws(BackendError) {
    try write { (txn) throws(BackendError) in
      var last: Revision?
      if batch.operations.contains(where: { $0.kind == .putRecord }) {
        last = try lastRevision(txn)
      }
      try batch.arena.withBuffer { (arena) throws(BackendError) in
        for operation in batch.operations {
          try apply(operation, arena, txn, &last)
        }
      }
      try putNumber(txn, BackendKey.consistentIndex, consistentIndex)
      try putNumber(txn, BackendKey.term, term)
    }
  }

  private func apply(
    _ operation: WriteBatch.Operation, _ arena: UnsafeRawBufferPointer, _ txn: OpaquePointer,
    _ last: inout Revision?
  ) throws(BackendError) {
    let keyEnd = operation.offset + Int(operation.keyCount)
    let key = UnsafeRawBufferPointer(rebasing: arena[operation.offset..<keyEnd])
    let value = UnsafeRawBufferPointer(
      rebasing: arena[keyEnd..<(keyEnd + Int(operation.valueCount))])
    switch operation.kind {
    case .put:
      try put(txn, operation.bucket, key, value)
    case .delete:
      try delete(txn, operation.bucket, key)
    case .putRecord:
      guard let revision = RevisionKey.parse(key)?.revision else {
        throw .badKey(bucket: .key, byteCount: key.count)
      }
      let isNewest = last.map { $0 < revision } ?? true
      try putStored(txn, .key, key, value, append: isNewest)
      if isNewest { last = revision }
    case .removeRecord:
      let ordinary = UnsafeRawBufferPointer(rebasing: key[..<RevisionKey.byteCount])
      if try !deleteStored(txn, .key, ordinary) { _ = try deleteStored(txn, .key, key) }
    }
  }

  private func lastRevision(_ txn: OpaquePointer) throws(BackendError) -> Revision? {
    let cursor = try TableCursor(self, txn, .key)
    guard let (key, _) = try cursor.last() else { return nil }
    guard let (revision, _) = RevisionKey.parse(key) else {
      throw .corrupted(file: path, detail: "a key of the key table")
    }
    return revision
  }

  func put(
    _ txn: OpaquePointer, _ bucket: BackendBucket, _ key: UnsafeRawBufferPointer,
    _ value: UnsafeRawBufferPointer
  ) throws(BackendError) {
    guard !key.isEmpty, key.count <= LongKey.keyBytesMax else {
      throw .badKey(bucket: bucket, byteCount: key.count)
    }
    guard LongKey.needsLongForm(key) else { return try putStored(txn, bucket, key, value) }
    let storedKey = LongKey.storedKey(key)
    let storedValue = LongKey.storedValue(key, value)
    try storedKey.withBuffer { (key) throws(BackendError) in
      try storedValue.withBuffer { (value) throws(BackendError) in
        try putStored(txn, bucket, key, value)
      }
    }
  }

  private func delete(
    _ txn: OpaquePointer, _ bucket: BackendBucket, _ key: UnsafeRawBufferPointer
  ) throws(BackendError) {
    guard !key.isEmpty else { return }
    guard LongKey.needsLongForm(key) else {
      _ = try deleteStored(txn, bucket, key)
      return
    }
    let storedKey = LongKey.storedKey(key)
    _ = try storedKey.withBuffer { (raw) throws(BackendError) in
      try deleteStored(txn, bucket, raw)
    }
  }

  func putStored(
    _ txn: OpaquePointer, _ bucket: BackendBucket, _ key: UnsafeRawBufferPointer,
    _ value: UnsafeRawBufferPointer, append: Bool = false
  ) throws(BackendError) {
    var key = MDB_val(key)
    var value = MDB_val(value)
    try check(
      mdb_put(txn, table(bucket), &key, &value, append ? UInt32(MDB_APPEND) : 0), "write")
  }

  private func deleteStored(
    _ txn: OpaquePointer, _ bucket: BackendBucket, _ key: UnsafeRawBufferPointer
  ) throws(BackendError) -> Bool {
    var key = MDB_val(key)
    let code = mdb_del(txn, table(bucket), &key, nil)
    if code == MDB_NOTFOUND { return false }
    try check(code, "delete")
    return true
  }

  private func putNumber(
    _ txn: OpaquePointer, _ key: Bytes, _ number: UInt64
  ) throws(BackendError) {
    let value = number.bigEndianBytes
    try key.withBuffer { (key) throws(BackendError) in
      try value.withBuffer { (value) throws(BackendError) in
        try putStored(txn, .meta, key, value)
      }
    }
  }
}
