public import Base
import Glibc

/// The fields of a stored mvccpb.KeyValue, located inside its encoded bytes.
public struct StoredKeyValue: Equatable, Sendable {
  public private(set) var key = 0..<0
  public private(set) var createRevision: Int64 = 0
  public private(set) var modRevision: Int64 = 0
  public private(set) var version: Int64 = 0
  public private(set) var value = 0..<0
  public private(set) var lease: LeaseID = 0

  /// Reads the fields; unknown ones are skipped.
  public init(parsing record: UnsafeRawBufferPointer) throws(ProtobufError) {
    var reader = ProtobufReader(record)
    while let field = try reader.next() {
      switch field.number {
      case 1: key = record.range(of: try field.buffer())
      case 2: createRevision = try field.int64()
      case 3: modRevision = try field.int64()
      case 4: version = try field.int64()
      case 5: value = record.range(of: try field.buffer())
      case 6: lease = try field.int64()
      default: break
      }
    }
  }

  /// Reads a record that this store wrote or has checked at start.
  init(_ record: Bytes) {
    self = record.withUnsafeBytes { Self(trusted: $0) }
  }

  /// Reads a record that this store wrote or has checked at start.
  init(trusted record: UnsafeRawBufferPointer) {
    do {
      try self.init(parsing: record)
    } catch {
      preconditionFailure("a stored key-value has become unreadable: \(error)")
    }
  }

  // MARK: - Encoding

  /// A mvccpb.KeyValue with fields ascending and zeros left out, as etcd stores it.
  public static func encode(
    key: UnsafeRawBufferPointer, createRevision: Int64 = 0, modRevision: Int64 = 0,
    version: Int64 = 0, value: UnsafeRawBufferPointer = .init(start: nil, count: 0),
    lease: LeaseID = 0
  ) -> Bytes {
    let most = key.count + value.count + 2 * 11 + 4 * 11
    return Bytes(unsafeUninitializedCapacity: most) { buffer, count in
      var output = FieldOutput(UnsafeMutableRawBufferPointer(buffer))
      output.bytes(1, key)
      output.integer(2, createRevision)
      output.integer(3, modRevision)
      output.integer(4, version)
      output.bytes(5, value)
      output.integer(6, lease)
      count = output.count
    }
  }

  public static func encode(
    key: Bytes, createRevision: Int64 = 0, modRevision: Int64 = 0, version: Int64 = 0,
    value: Bytes = [], lease: LeaseID = 0
  ) -> Bytes {
    key.withUnsafeBytes { key in
      value.withUnsafeBytes { value in
        encode(
          key: key, createRevision: createRevision, modRevision: modRevision, version: version,
          value: value, lease: lease)
      }
    }
  }

  /// A tombstone's record: the key alone.
  public static func encodeTombstone(key: Bytes) -> Bytes { encode(key: key) }

  /// What a watcher is told about a deletion: the key and the revision of the deletion.
  public static func encodeDeletion(key: Bytes, at main: Int64) -> Bytes {
    encode(key: key, modRevision: main)
  }
}

/// Writes protobuf fields into memory that is known to be large enough.
private struct FieldOutput {
  private let buffer: UnsafeMutableRawBufferPointer
  private(set) var count = 0

  init(_ buffer: UnsafeMutableRawBufferPointer) { self.buffer = buffer }

  mutating func integer(_ number: UInt8, _ value: Int64) {
    guard value != 0 else { return }
    byte(number << 3)
    varint(UInt64(bitPattern: value))
  }

  mutating func bytes(_ number: UInt8, _ value: UnsafeRawBufferPointer) {
    guard !value.isEmpty, let source = value.baseAddress, let base = buffer.baseAddress else {
      return
    }
    byte(number << 3 | 2)
    varint(UInt64(value.count))
    precondition(count + value.count <= buffer.count)
    memcpy(base + count, source, value.count)
    count += value.count
  }

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      byte(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    byte(UInt8(truncatingIfNeeded: rest))
  }

  private mutating func byte(_ value: UInt8) {
    buffer[count] = value
    count += 1
  }
}
