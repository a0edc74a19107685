public import Base

/// Changes of the store's tables, in order, that are committed together.
///
/// One arena holds all keys and values, so a batch costs no allocation per operation, and a copy of
/// the value shares the storage.
public struct WriteBatch: Sendable {
  struct Operation: Sendable {
    enum Kind: UInt8, Sendable { case put, delete, putRecord, removeRecord }

    let kind: Kind
    let bucket: BackendBucket
    let keyCount: UInt32
    let valueCount: UInt32
    /// Where the key starts in the arena; the value follows it.
    let offset: Int
  }

  private(set) var operations: [Operation] = []
  private(set) var arena: Bytes = []

  public init() {}

  /// Reserves room for about as much as `other` holds: the next batch is often of that size.
  init(sizedLike other: WriteBatch) {
    operations.reserveCapacity(min(other.operations.count, 1 << 16))
    arena.reserveCapacity(min(other.arena.count, 4 << 20))
  }

  public var isEmpty: Bool { operations.isEmpty }
  public var count: Int { operations.count }
  /// Bytes of keys and values.
  public var byteCount: Int { arena.count }

  /// - Precondition: not for the `key` table, which has `putRecord`.
  public mutating func put(_ bucket: BackendBucket, _ key: Bytes, _ value: Bytes) {
    precondition(bucket != .key, "records of the key table are written with putRecord")
    add(.put, bucket, key, value)
  }

  public mutating func delete(_ bucket: BackendBucket, _ key: Bytes) {
    precondition(bucket != .key, "records of the key table are removed with removeRecord")
    add(.delete, bucket, key, [])
  }

  /// Writes a record of the `key` table. Fastest when revisions ascend.
  public mutating func putRecord(_ revision: Revision, isTombstone: Bool, _ record: Bytes) {
    let offset = arena.count
    RevisionKey.append(revision, isTombstone: isTombstone, to: &arena)
    let keyCount = arena.count - offset
    arena.append(contentsOf: record)
    operations.append(
      Operation(
        kind: .putRecord, bucket: .key, keyCount: UInt32(keyCount),
        valueCount: UInt32(record.count), offset: offset))
  }

  /// Removes the record at `revision`, ordinary or tombstone; absence is no error.
  public mutating func removeRecord(_ revision: Revision) {
    let offset = arena.count
    RevisionKey.append(revision, isTombstone: true, to: &arena)
    operations.append(
      Operation(
        kind: .removeRecord, bucket: .key, keyCount: UInt32(arena.count - offset), valueCount: 0,
        offset: offset))
  }

  private mutating func add(
    _ kind: Operation.Kind, _ bucket: BackendBucket, _ key: Bytes, _ value: Bytes
  ) {
    operations.append(
      Operation(
        kind: kind, bucket: bucket, keyCount: UInt32(key.count), valueCount: UInt32(value.count),
        offset: arena.count))
    arena.append(contentsOf: key)
    arena.append(contentsOf: value)
  }

  func withValue<Result>(
    of operation: Operation, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    let start = operation.offset + Int(operation.keyCount)
    return arena.withUnsafeBytes {
      body(UnsafeRawBufferPointer(rebasing: $0[start..<(start + Int(operation.valueCount))]))
    }
  }
}
