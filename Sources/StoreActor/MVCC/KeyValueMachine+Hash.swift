import Base

/// The checksum of a store's history, comparable between members with equal `compactRevision`.
public struct KeyValueHash: Equatable, Sendable {
  public let hash: UInt32
  public let revision: Int64
  public let compactRevision: Int64

  public init(hash: UInt32, revision: Int64, compactRevision: Int64) {
    self.hash = hash
    self.revision = revision
    self.compactRevision = compactRevision
  }
}

/// A hash that is under way, resumable between applies.
public struct HashCursor: Sendable {
  public let revision: Int64
  public fileprivate(set) var compactRevision: Int64
  fileprivate var crc: UInt32
  fileprivate var next: Revision?
  /// Records at or below the compact revision count if they are their key's newest as of this.
  fileprivate var keepRevision: Int64
  /// The hash that belongs to a compaction: of the history before it, which is still there.
  fileprivate var isOfCompaction = false

  /// The result, once complete.
  public var result: KeyValueHash? {
    guard next == nil else { return nil }
    return KeyValueHash(hash: crc, revision: revision, compactRevision: compactRevision)
  }
}

extension KeyValueMachine {
  /// The hash of all records up to `revision`, computed in one step. See ``beginHash(_:)``.
  public func hashKV(_ revision: Int64) throws(KVError) -> KeyValueHash {
    var cursor = try beginHash(revision)
    while true {
      if try advance(&cursor, records: .max), let result = cursor.result { return result }
    }
  }

  /// Begins the hash that etcd's HashKV gives: CRC-32C over the bucket's name and every record up to
  /// `revision` with its key, except what compaction drops and tombstones at the compact revision.
  ///
  /// How far physical compaction has got makes no difference.
  /// - Parameter revision: 0 means the current one.
  /// - Throws: `compacted` or `futureRevision`.
  public func beginHash(_ revision: Int64) throws(KVError) -> HashCursor {
    if revision > 0 && revision < compactRevision { throw .compacted }
    if revision > currentRevision { throw .futureRevision }
    let revision = revision <= 0 ? currentRevision : revision
    return startedHash(revision)
  }

  private func startedHash(_ revision: Int64) -> HashCursor {
    // etcd keeps what a compaction at the hashed revision would keep, but drops nothing if that is
    // nothing at all; then exactly the survivors of the real compaction are left.
    let keepsAny = index.scan(KeyBounds(.from([])), at: revision, visitsMax: .max) { _ in false }
    return HashCursor(
      revision: revision, compactRevision: compactRevision,
      crc: CRC32C.extend(0, Bytes("key".utf8)), next: Revision(main: 0),
      keepRevision: keepsAny == .done ? compactRevision : revision)
  }

  /// Begins the hash that etcd remembers for the newest compaction: of everything up to its limit, as
  /// the compaction before it had left it.
  ///
  /// Must be complete before the first ``compactionStep(keys:drops:)`` of that compaction.
  /// - Parameter previous: the limit before; its removals are complete.
  public func beginCompactionHash(after previous: Int64) -> HashCursor {
    var cursor = startedHash(compactRevision)
    cursor.compactRevision = previous
    cursor.isOfCompaction = true
    if cursor.keepRevision != cursor.revision {
      // A compaction keeps a tombstone at its own limit, which counts as something kept.
      let last = Revision(main: cursor.revision, sub: .max)
      var keepsTombstone = false
      store.forEachRecord(from: Revision(main: cursor.revision), through: last) {
        _, isTombstone, _ in
        keepsTombstone = keepsTombstone || isTombstone
        return !keepsTombstone
      }
      cursor.keepRevision = keepsTombstone ? cursor.revision : previous
    }
    return cursor
  }

  /// Hashes on for about `records` records. Starts over if the store was compacted meanwhile.
  ///
  /// - Returns: whether the hash is complete.
  /// - Throws: `compacted` when compaction has passed the revision.
  public func advance(_ cursor: inout HashCursor, records: Int) throws(KVError) -> Bool {
    if cursor.compactRevision != compactRevision, !cursor.isOfCompaction {
      if cursor.revision < compactRevision { throw .compacted }
      cursor = startedHash(cursor.revision)
    }
    guard let first = cursor.next else { return true }
    var crc = cursor.crc
    var left = records
    var next: Revision?
    let last = Revision(main: cursor.revision, sub: .max)
    store.forEachRecord(from: first, through: last) { revision, isTombstone, record in
      guard left > 0 else {
        next = revision
        return false
      }
      left -= 1
      if counts(revision, isTombstone, record, cursor) {
        crc = CRC32C.extend(Self.extend(crc, revision, isTombstone), record)
      }
      return true
    }
    cursor.crc = crc
    cursor.next = next
    return next == nil
  }

  private func counts(
    _ revision: Revision, _ isTombstone: Bool, _ record: UnsafeRawBufferPointer,
    _ cursor: HashCursor
  ) -> Bool {
    guard revision.main <= cursor.compactRevision else { return true }
    // A tombstone below the limit is dropped; one at the limit is kept by newer etcd only.
    if isTombstone { return false }
    let fields = StoredKeyValue(trusted: record)
    let key = UnsafeRawBufferPointer(rebasing: record[fields.key])
    return index.newestMark(of: key, at: cursor.keepRevision).revision == revision
  }

  /// Adds a record's key as etcd stores it: main and sub big-endian, `_` between, `t` if a tombstone.
  private static func extend(_ crc: UInt32, _ revision: Revision, _ isTombstone: Bool) -> UInt32 {
    withUnsafeTemporaryAllocation(byteCount: 18, alignment: 8) { key in
      key.storeBytes(of: revision.main.bigEndian, as: Int64.self)
      key[8] = UInt8(ascii: "_")
      key.storeBytes(of: revision.sub.bigEndian, toByteOffset: 9, as: Int64.self)
      key[17] = UInt8(ascii: "t")
      return CRC32C.extend(crc, UnsafeRawBufferPointer(rebasing: key[..<(isTombstone ? 18 : 17)]))
    }
  }
}
