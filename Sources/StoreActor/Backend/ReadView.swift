public import Base
import CLMDB
import Glibc
import Synchronization

/// The committed content of the store at one moment.
///
/// Belongs to the thread that uses it (it is not Sendable); any thread may make its own. Buffers it
/// hands out stay valid until `renew()` or the view's end. Pages it can see are not reused meanwhile,
/// so a long-lived view makes the file grow: renew after every commit.
public final class ReadView {
  private let backend: Backend
  private(set) var environment: Environment
  private(set) var txn: OpaquePointer

  init(_ backend: Backend) throws(BackendError) {
    self.backend = backend
    environment = backend.environment
    txn = try environment.beginRead()
    backend.views.add(1, ordering: .relaxed)
  }

  deinit {
    mdb_txn_abort(txn)
    backend.views.subtract(1, ordering: .relaxed)
  }

  /// True once a defragmentation or snapshot install has put another file in place. The view stays
  /// readable; it shows the old content until renewed.
  public var isStale: Bool { environment !== backend.environment }

  /// Moves to the newest commit, and to the newest file. Invalidates buffers handed out before.
  public func renew() throws(BackendError) {
    let current = backend.environment
    if current === environment {
      mdb_txn_reset(txn)
      try current.check(mdb_txn_renew(txn), "renew")
    } else {
      let begun = try current.beginRead()
      mdb_txn_abort(txn)
      txn = begun
      environment = current
    }
  }

  /// The value at `key`, or nil.
  public func get(
    _ bucket: BackendBucket, _ key: UnsafeRawBufferPointer
  ) throws(BackendError) -> UnsafeRawBufferPointer? {
    guard !key.isEmpty else { return nil }
    guard LongKey.needsLongForm(key) else { return try stored(bucket, key) }
    let storedKey = LongKey.storedKey(key)
    let found = try storedKey.withBuffer { (raw) throws(BackendError) in
      try stored(bucket, raw)
    }
    guard let found else { return nil }
    guard let (whole, value) = LongKey.split(found), whole.compare(key) == 0 else {
      throw .corrupted(file: environment.path, detail: "long key in \(bucket.name)")
    }
    return value
  }

  public func get(
    _ bucket: BackendBucket, _ key: Bytes
  ) throws(BackendError) -> UnsafeRawBufferPointer? {
    try key.withBuffer { (raw) throws(BackendError) in try get(bucket, raw) }
  }

  /// The record of the `key` table at `revision`, be it a tombstone or not.
  public func record(at revision: Revision) throws(BackendError) -> UnsafeRawBufferPointer? {
    try RevisionKey.withBytes(revision) { (key) throws(BackendError) in
      let ordinary = UnsafeRawBufferPointer(rebasing: key[..<RevisionKey.byteCount])
      if let found = try stored(.key, ordinary) { return found }
      return try stored(.key, key)
    }
  }

  private func stored(
    _ bucket: BackendBucket, _ key: UnsafeRawBufferPointer
  ) throws(BackendError) -> UnsafeRawBufferPointer? {
    var wanted = MDB_val(key)
    var value = MDB_val()
    let code = mdb_get(txn, environment.table(bucket), &wanted, &value)
    if code == MDB_NOTFOUND { return nil }
    try environment.check(code, "read")
    return value.buffer
  }

  /// Visits entries with `from <= key < to` in byte order until `body` returns false.
  ///
  /// - Parameter to: nil means to the end.
  public func scan(
    _ bucket: BackendBucket, from: Bytes = [], to: Bytes? = nil,
    _ body: (_ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) throws(BackendError) ->
      Bool
  ) throws(BackendError) {
    let cursor = try TableCursor(environment, txn, bucket)
    // Byte order of the stored form agrees with that of keys as far as the plain part goes.
    let start = Bytes(from.prefix(LongKey.plainBytesMax))
    var entry = try start.withBuffer { (raw) throws(BackendError) in try cursor.seek(raw) }
    var run: [TableCursor.Entry] = []
    while let (key, value) = entry {
      entry = try cursor.next()
      if LongKey.isLongForm(key) {
        guard let whole = LongKey.split(value) else {
          throw .corrupted(file: environment.path, detail: "long key in \(bucket.name)")
        }
        run.append(whole)
        if let following = entry, Self.sameRun(key, following.key) { continue }
        run.sort { $0.key.compare($1.key) < 0 }
        for (key, value) in run where try !Self.visit(key, value, from, to, body) { return }
        run.removeAll(keepingCapacity: true)
      } else if try !Self.visit(key, value, from, to, body) {
        return
      }
    }
  }

  private static func sameRun(
    _ key: UnsafeRawBufferPointer, _ next: UnsafeRawBufferPointer
  ) -> Bool {
    LongKey.isLongForm(next)
      && memcmp(key.baseAddress!, next.baseAddress!, LongKey.plainBytesMax) == 0
  }

  /// False when the scan is over.
  private static func visit(
    _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ from: Bytes, _ to: Bytes?,
    _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws(BackendError) -> Bool
  ) throws(BackendError) -> Bool {
    if !from.isEmpty, from.withUnsafeBytes({ key.compare($0) }) < 0 { return true }
    if let to, to.withUnsafeBytes({ key.compare($0) }) >= 0 { return false }
    return try body(key, value)
  }

  /// Visits records of the `key` table from `first` on, in order, until `body` returns false.
  ///
  /// - Parameter part: what `body` will read of a record.
  public func scanRecords(
    from first: Revision, reading part: RecordPart = .whole,
    _ body: (_ revision: Revision, _ isTombstone: Bool, _ record: UnsafeRawBufferPointer) -> Bool
  ) throws(BackendError) {
    let cursor = try TableCursor(environment, txn, .key)
    var readAhead = part == .edges ? try EdgeReadAhead(environment, txn) : nil
    let start = RevisionKey.bytes(first)
    var entry = try start.withBuffer { (raw) throws(BackendError) in try cursor.seek(raw) }
    while let (key, value) = entry {
      try readAhead?.visit((key, value))
      guard let (revision, isTombstone) = RevisionKey.parse(key) else {
        throw .corrupted(file: environment.path, detail: "a key of the key table")
      }
      guard body(revision, isTombstone, value) else { return }
      entry = try cursor.next()
    }
  }

  /// The newest record's revision, or nil when the `key` table is empty.
  public func lastRevision() throws(BackendError) -> Revision? {
    let cursor = try TableCursor(environment, txn, .key)
    guard let (key, _) = try cursor.last() else { return nil }
    guard let (revision, _) = RevisionKey.parse(key) else {
      throw .corrupted(file: environment.path, detail: "a key of the key table")
    }
    return revision
  }
}
