package import Base
package import EtcdAPI
import FoundationEssentials

/// The fields of an encoded etcdserverpb.PutRequest, located inside its bytes.
///
/// Read by hand, since every put is read once by the member that takes it and once by every member that
/// applies it; swift-protobuf would allocate its contents each time.
package struct PutFields: Equatable, Sendable {
  package private(set) var key = 0..<0
  package private(set) var value = 0..<0
  package private(set) var lease: LeaseID = 0
  package private(set) var prevKv = false
  package private(set) var ignoreValue = false
  package private(set) var ignoreLease = false

  /// Reads the fields; unknown ones are skipped.
  package init(parsing request: UnsafeRawBufferPointer) throws(ProtobufError) {
    var reader = ProtobufReader(request)
    while let field = try reader.next() {
      switch field.number {
      case 1: key = request.range(of: try field.buffer())
      case 2: value = request.range(of: try field.buffer())
      case 3: lease = try field.int64()
      case 4: prevKv = try field.bool()
      case 5: ignoreValue = try field.bool()
      case 6: ignoreLease = try field.bool()
      default: break
      }
    }
  }

  /// The same checks as of a decoded request.
  ///
  /// - Throws: `keyNotProvided`, `valueProvided`, `leaseProvided`, in this order.
  package func validate() throws(KVError) {
    if key.isEmpty { throw .keyNotProvided }
    if ignoreValue && !value.isEmpty { throw .valueProvided }
    if ignoreLease && lease != 0 { throw .leaseProvided }
  }
}

/// A put, as it is applied.
package struct PutOperation: Equatable, Sendable {
  package let key: Bytes
  /// Shares the memory of the request.
  package let value: ArraySlice<UInt8>
  package let lease: LeaseID
  package let prevKv: Bool
  package let ignoreValue: Bool
  package let ignoreLease: Bool

  /// Reads an encoded etcdserverpb.PutRequest.
  ///
  /// - Throws: `ProtobufError`. (Not as a type: a `Result` would have to carry the fields out of the
  ///   closure, and optimised builds took the last flag for false then.)
  package init(decoding request: ArraySlice<UInt8>) throws {
    let fields = try request.withUnsafeBytes { try PutFields(parsing: $0) }
    let start = request.startIndex
    key = Bytes(request[start + fields.key.lowerBound..<start + fields.key.upperBound])
    value = request[start + fields.value.lowerBound..<start + fields.value.upperBound]
    lease = fields.lease
    prevKv = fields.prevKv
    ignoreValue = fields.ignoreValue
    ignoreLease = fields.ignoreLease
  }

  package init(_ request: Etcdserverpb_PutRequest) {
    key = Bytes(request.key)
    value = Bytes(request.value)[...]
    lease = request.lease
    prevKv = request.prevKv
    ignoreValue = request.ignoreValue
    ignoreLease = request.ignoreLease
  }
}

extension UnsafeRawBufferPointer {
  /// Where `part`, which lies inside of this buffer, begins and ends.
  func range(of part: UnsafeRawBufferPointer) -> Range<Int> {
    guard let base = baseAddress, let start = part.baseAddress else { return 0..<0 }
    return (start - base)..<(start - base + part.count)
  }
}
