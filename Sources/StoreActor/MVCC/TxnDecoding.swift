public import Base
public import EtcdAPI
import FoundationEssentials
import SwiftProtobuf

extension Etcdserverpb_TxnRequest {
  /// Decodes a transaction, by hand where it consists of what nearly all consist of.
  ///
  /// swift-protobuf, which takes several times as long, sees to everything unusual: fields that are not
  /// known, of another type, or given more than once, and damage.
  public init(decoding bytes: UnsafeRawBufferPointer) throws {
    let copy = bytes.baseAddress.map { Data(bytes: $0, count: bytes.count) } ?? Data()
    let usual = copy.withUnsafeBytes { try? UsualTxn(contents: copy, bytes: $0).read() }
    self = try usual ?? Self(serializedBytes: copy)
  }

  public init(decoding bytes: Bytes) throws {
    self = try bytes.withUnsafeBytes { try Self(decoding: $0) }
  }
}

/// Reads transactions whose messages hold each field that is not repeated at most once.
private struct UsualTxn {
  /// For swift-protobuf.
  struct Unusual: Error {}

  /// Which fields a message has had.
  private struct Seen {
    private var bits: UInt64 = 0

    mutating func once(_ number: Int) throws {
      guard number < 64, bits & 1 << UInt64(number) == 0 else { throw Unusual() }
      bits |= 1 << UInt64(number)
    }
  }

  /// The encoded transaction. Keys and values are parts of it, which share its memory.
  let contents: Data
  /// The same memory; valid as long as it is being read.
  let bytes: UnsafeRawBufferPointer

  func read() throws -> Etcdserverpb_TxnRequest {
    var txn = Etcdserverpb_TxnRequest()
    var reader = ProtobufReader(bytes)
    while let field = try reader.next() {
      switch field.number {
      case 1: txn.compare.append(try readCompare(try field.buffer()))
      case 2: txn.success.append(try readOperation(try field.buffer()))
      case 3: txn.failure.append(try readOperation(try field.buffer()))
      default: throw Unusual()
      }
    }
    return txn
  }

  private func readCompare(
    _ buffer: UnsafeRawBufferPointer
  ) throws -> Etcdserverpb_Compare {
    var compare = Etcdserverpb_Compare()
    var seen = Seen()
    var reader = ProtobufReader(buffer)
    while let field = try reader.next() {
      switch field.number {
      case 1:
        guard let result = Etcdserverpb_Compare.CompareResult(rawValue: try enumeration(field))
        else { throw Unusual() }
        compare.result = result
      case 2:
        guard let target = Etcdserverpb_Compare.CompareTarget(rawValue: try enumeration(field))
        else { throw Unusual() }
        compare.target = target
      case 3: compare.key = try data(field)
      case 4: compare.version = try field.int64()
      case 5: compare.createRevision = try field.int64()
      case 6: compare.modRevision = try field.int64()
      case 7: compare.value = try data(field)
      case 8: compare.lease = try field.int64()
      default: throw Unusual()
      }
      // Of 4 to 8 a message has one.
      try seen.once((4...8).contains(field.number) ? 4 : field.number)
    }
    return compare
  }

  private func readOperation(
    _ buffer: UnsafeRawBufferPointer
  ) throws -> Etcdserverpb_RequestOp {
    var operation = Etcdserverpb_RequestOp()
    var reader = ProtobufReader(buffer)
    while let field = try reader.next() {
      guard operation.request == nil else { throw Unusual() }
      let content = try field.buffer()
      switch field.number {
      case 1:
        operation.requestRange = try Etcdserverpb_RangeRequest(serializedBytes: Bytes(content))
      case 2: operation.requestPut = try readPut(content)
      case 3:
        operation.requestDeleteRange =
          try Etcdserverpb_DeleteRangeRequest(serializedBytes: Bytes(content))
      default: throw Unusual()
      }
    }
    return operation
  }

  private func readPut(
    _ buffer: UnsafeRawBufferPointer
  ) throws -> Etcdserverpb_PutRequest {
    var put = Etcdserverpb_PutRequest()
    var seen = Seen()
    var reader = ProtobufReader(buffer)
    while let field = try reader.next() {
      try seen.once(field.number)
      switch field.number {
      case 1: put.key = try data(field)
      case 2: put.value = try data(field)
      case 3: put.lease = try field.int64()
      case 4: put.prevKv = try field.bool()
      case 5: put.ignoreValue = try field.bool()
      case 6: put.ignoreLease = try field.bool()
      default: throw Unusual()
      }
    }
    return put
  }

  private func data(_ field: ProtobufReader.Field) throws -> Data {
    let part = bytes.range(of: try field.buffer())
    return part.isEmpty ? Data() : contents[part]
  }

  /// Numbers of enumerations have 32 bits.
  private func enumeration(_ field: ProtobufReader.Field) throws -> Int {
    Int(Int32(truncatingIfNeeded: try field.uint64()))
  }
}
