import Base
import CIntrinsics
import CLMDB
import Glibc

/// One open LMDB file with its ten tables.
///
/// LMDB allows the handle on all threads; a transaction belongs to whoever began it. The file is
/// closed when the last holder (backend or read view) lets go.
final class Environment: Sendable {
  // LMDB synchronises the environment itself; the pointer never changes.
  nonisolated(unsafe) let handle: OpaquePointer
  /// Indexed by `BackendBucket.rawValue`.
  let tables: [MDB_dbi]
  /// The name the file has, or will have once installed: for error texts.
  let path: String
  let mapBytes: Int
  let pageBytes: Int
  /// Keeps the directory ours as long as any file of it is open.
  private let owner: DirectoryLock

  static let mapBytesMin = 16 << 20
  static let readersMax: UInt32 = 1_024
  /// LMDB takes 64 bytes per reader and a header; a larger file only admits more readers.
  private static let lockFileBytes = 64 * Int(readersMax) + 4_096

  /// Opens or creates `directory/file`. If the kernel refuses a map of `mapBytes`, tries halves.
  init(
    directory: String, file: String, mapBytes: Int, noSync: Bool, owner: DirectoryLock
  ) throws(BackendError) {
    let path = directory + "/" + StoreFile.data
    var room = max(mapBytes, Self.mapBytesMin)
    while true {
      do {
        handle = try Self.openHandle(directory + "/" + file, path, room, noSync)
        break
      } catch .ioFailure(_, _, let code)
        where (code == ENOMEM || code == EINVAL || code == EFBIG) && room / 2 >= Self.mapBytesMin
      {
        room /= 2
      }
    }
    self.path = path
    self.owner = owner
    do {
      tables = try Self.openTables(handle, path)
    } catch {
      mdb_env_close(handle)
      throw error
    }
    var info = MDB_envinfo()
    var statistics = MDB_stat()
    mdb_env_info(handle, &info)
    mdb_env_stat(handle, &statistics)
    self.mapBytes = Int(info.me_mapsize)
    pageBytes = Int(statistics.ms_psize)
  }

  deinit { mdb_env_close(handle) }

  private static func openHandle(
    _ file: String, _ path: String, _ mapBytes: Int, _ noSync: Bool
  ) throws(BackendError) -> OpaquePointer {
    var created: OpaquePointer?
    try check(mdb_env_create(&created), "create environment", path)
    guard let handle = created else {
      throw .ioFailure(file: path, operation: "open", errno: ENOMEM)
    }
    do {
      try check(mdb_env_set_mapsize(handle, mapBytes), "set map size", path)
      try check(mdb_env_set_maxdbs(handle, UInt32(BackendBucket.allCases.count)), "tables", path)
      try check(mdb_env_set_maxreaders(handle, readersMax), "set readers", path)
      try reserveLockFile(file + "-lock")
      let flags = MDB_NOSUBDIR | MDB_NOTLS | (noSync ? MDB_NOSYNC : 0)
      try check(mdb_env_open(handle, file, UInt32(flags), 0o600), "open", path)
    } catch {
      mdb_env_close(handle)
      throw error
    }
    return handle
  }

  /// LMDB extends its lock file without allocating it and then writes through a map: on a full disk
  /// that is a bus error. With the blocks allocated beforehand a full disk is an error code.
  private static func reserveLockFile(_ path: String) throws(BackendError) {
    let file = try OwnedFile(path: path, flags: O_RDWR | O_CREAT)
    let code = posix_fallocate(file.descriptor, 0, off_t(lockFileBytes))
    guard code == 0 else { throw .system(path, "allocate", code) }
  }

  private static func openTables(
    _ handle: OpaquePointer, _ path: String
  ) throws(BackendError) -> [MDB_dbi] {
    var begun: OpaquePointer?
    try check(mdb_txn_begin(handle, nil, 0, &begun), "begin", path)
    guard let txn = begun else { throw .corrupted(file: path, detail: "no transaction") }
    var tables: [MDB_dbi] = []
    for bucket in BackendBucket.allCases {
      var table: MDB_dbi = 0
      let code = bucket.name.withUTF8Buffer {
        mdb_dbi_open(
          txn, UnsafeRawPointer($0.baseAddress!).assumingMemoryBound(to: CChar.self),
          UInt32(MDB_CREATE), &table)
      }
      guard code == 0 else {
        mdb_txn_abort(txn)
        throw failure(code, "open table", path)
      }
      tables.append(table)
    }
    try check(mdb_txn_commit(txn), "commit", path)
    return tables
  }

  func table(_ bucket: BackendBucket) -> MDB_dbi { tables[Int(bucket.rawValue)] }

  /// Tells the kernel how the whole file will be read (`MADV_NORMAL`, `MADV_RANDOM`).
  func advise(_ advice: Int32) {
    var info = MDB_envinfo()
    guard mdb_env_info(handle, &info) == 0, let map = info.me_mapaddr else { return }
    madvise(map, info.me_mapsize, advice)
  }

  // MARK: Transactions

  func beginRead() throws(BackendError) -> OpaquePointer {
    var txn: OpaquePointer?
    try check(mdb_txn_begin(handle, nil, UInt32(MDB_RDONLY), &txn), "begin read")
    guard let txn else { throw .corrupted(file: path, detail: "no transaction") }
    return txn
  }

  func beginWrite() throws(BackendError) -> OpaquePointer {
    var txn: OpaquePointer?
    try check(mdb_txn_begin(handle, nil, 0, &txn), "begin")
    guard let txn else { throw .corrupted(file: path, detail: "no transaction") }
    return txn
  }

  /// Runs `body` in a write transaction: committed on return, aborted on an error.
  func write<Result>(
    _ body: (OpaquePointer) throws(BackendError) -> Result
  ) throws(BackendError) -> Result {
    let txn = try beginWrite()
    let result: Result
    do {
      result = try body(txn)
    } catch {
      mdb_txn_abort(txn)
      throw error
    }
    try check(mdb_txn_commit(txn), "commit")
    return result
  }

  /// Makes everything durable and returns to syncing each commit (if `syncEachCommit`).
  func sealAfterBulkLoad(syncEachCommit: Bool) throws(BackendError) {
    try check(mdb_env_sync(handle, 1), "sync")
    if syncEachCommit { try check(mdb_env_set_flags(handle, UInt32(MDB_NOSYNC), 0), "set flags") }
  }

  private var descriptor: Int32? {
    var file = mdb_filehandle_t()
    return mdb_env_get_fd(handle, &file) == 0 ? file : nil
  }

  /// Has what was written go to the disk now, and waits for it. Makes nothing durable, but leaves
  /// later syncs, also those of other files, little to wait for.
  func writeBack() {
    if let descriptor { apus_write_back(descriptor) }
  }

  /// A second descriptor of the file, which outlives the environment. The caller closes it.
  func duplicateDescriptor() -> Int32? {
    descriptor.map { fcntl($0, F_DUPFD_CLOEXEC, 0) }.flatMap { $0 >= 0 ? $0 : nil }
  }

  // MARK: Size

  /// Bytes of the file that LMDB has handed out, and of those the ones that hold live pages.
  func measure() throws(BackendError) -> (allocated: Int, inUse: Int) {
    let txn = try beginRead()
    defer { mdb_txn_abort(txn) }
    var info = MDB_envinfo()
    try check(mdb_env_info(handle, &info), "info")
    // Tables 0 and 1 are LMDB's own: the free list and the directory of tables.
    var pages = 2
    for table in [0, 1] + tables {
      var statistics = MDB_stat()
      try check(mdb_stat(txn, table, &statistics), "statistics")
      pages += Int(
        statistics.ms_branch_pages + statistics.ms_leaf_pages + statistics.ms_overflow_pages)
    }
    let allocated = (Int(info.me_last_pgno) + 1) * pageBytes
    return (allocated, min(pages * pageBytes, allocated))
  }

  // MARK: Errors

  func check(_ code: Int32, _ operation: String) throws(BackendError) {
    if code != 0 { throw failure(code, operation) }
  }

  func failure(_ code: Int32, _ operation: String) -> BackendError {
    code == MDB_MAP_FULL
      ? .mapFull(file: path, mapBytes: mapBytes) : Self.failure(code, operation, path)
  }

  private static func check(
    _ code: Int32, _ operation: String, _ path: String
  ) throws(BackendError) {
    if code != 0 { throw failure(code, operation, path) }
  }

  private static func failure(_ code: Int32, _ operation: String, _ path: String) -> BackendError {
    switch code {
    // LMDB turns a short write into EIO; on a full disk that is what a short write means.
    case EIO where FileSystem.isNearlyFull(path): .diskFull(file: path)
    case 1...: .system(path, operation, code)
    default: .corrupted(file: path, detail: "\(operation): \(String(cString: mdb_strerror(code)))")
    }
  }
}

/// Calls `body` with an LMDB value that borrows `bytes`.
func withLMDBValue<Result>(_ bytes: UnsafeRawBufferPointer, _ body: (inout MDB_val) -> Result)
  -> Result
{
  var value = MDB_val(
    mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
  return body(&value)
}

extension MDB_val {
  init(_ bytes: UnsafeRawBufferPointer) {
    self.init(
      mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
  }

  var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: mv_data, count: mv_size) }
}

/// A position in one table, in stored keys.
struct TableCursor: ~Copyable {
  private let cursor: OpaquePointer
  private let environment: Environment

  init(_ environment: Environment, _ txn: OpaquePointer, _ bucket: BackendBucket)
    throws(BackendError)
  {
    var opened: OpaquePointer?
    try environment.check(
      mdb_cursor_open(txn, environment.table(bucket), &opened), "open cursor")
    guard let opened else { throw .corrupted(file: environment.path, detail: "no cursor") }
    cursor = opened
    self.environment = environment
  }

  deinit { mdb_cursor_close(cursor) }

  typealias Entry = (key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer)

  func last() throws(BackendError) -> Entry? { try move(MDB_LAST, MDB_val()) }

  func next() throws(BackendError) -> Entry? { try move(MDB_NEXT, MDB_val()) }

  /// The first entry at or after `key`; an empty `key` is the table's beginning.
  func seek(_ key: UnsafeRawBufferPointer) throws(BackendError) -> Entry? {
    key.isEmpty ? try move(MDB_FIRST, MDB_val()) : try move(MDB_SET_RANGE, MDB_val(key))
  }

  private func move(_ operation: MDB_cursor_op, _ from: MDB_val) throws(BackendError) -> Entry? {
    var key = from
    var value = MDB_val()
    let code = mdb_cursor_get(cursor, &key, &value, operation)
    if code == MDB_NOTFOUND { return nil }
    try environment.check(code, "read")
    return (key.buffer, value.buffer)
  }
}
