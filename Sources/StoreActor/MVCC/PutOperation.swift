public import Base
public import EtcdAPI
import FoundationEssentials

/// The fields of an encoded etcdserverpb.PutRequest, located inside its bytes.
///
/// Read by hand, since every put is read once by the member that takes it and once by every member that
/// applies it; swift-protobuf would allocate its contents each time.
public struct PutFields: Equatable, Sendable {
  public private(set) var key = 0..<0
  public private(set) var value = 0..<0
  public private(set) var lease: LeaseID = 0
  public private(set) var prevKv = false
  public private(set) var ignoreValue = false
  public private(set) var ignoreLease = false

  /// Reads the fields; unknown ones are skipped.
  public init(parsing request: UnsafeRawBufferPointer) throws(ProtobufError) {
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
  public func validate() throws(KVError) {
    if key.isEmpty { throw .keyNotProvided }
    if ignoreValue && !value.isEmpty { throw .valueProvided }
    if ignoreLease && lease != 0 { throw .leaseProvided }
  }
}

/// A put, as it is applied.
public struct PutOperation: Equatable, Sendable {
  public let key: Bytes
  /// Shares the memory of the request.
  public let value: ArraySlice<UInt8>
  public let lease: LeaseID
  public let prevKv: Bool
  public let ignoreValue: Bool
  public let ignoreLease: Bool

  /// Reads an encoded etcdserverpb.PutRequest.
  ///
  /// - Throws: `ProtobufError`. (Not as a type: a `Result` would have to carry the fields out of the
  ///   closure, and optimised builds took the last flag for false then.)
  public init(decoding request: ArraySlice<UInt8>) throws {
    let fields = try request.withUnsafeBytes { try PutFields(parsing: $0) }
    let start = request.startIndex
    key = Bytes(request[start + fields.key.lowerBound..<start + fields.key.upperBound])
    value = request[start + fields.value.lowerBound..<start + fields.value.upperBound]
    lease = fields.lease
    prevKv = fields.prevKv
    ignoreValue = fields.ignoreValue
    ignoreLease = fields.ignoreLease
  }

  public init(_ request: Etcdserverpb_PutRequest) {
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
