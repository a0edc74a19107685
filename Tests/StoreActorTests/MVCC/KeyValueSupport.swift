import Base
import EtcdAPI
import Foundation
import SwiftProtobuf

@testable import StoreActor

typealias Machine = KeyValueMachine<MemoryRecordStore>

extension KeyValueMachine where Store == MemoryRecordStore {
  static var fresh: Machine { Machine(store: MemoryRecordStore()) }

  /// Rebuilds the machine from its records, as after a restart.
  func restarted() throws -> Machine {
    try Machine(
      restoring: store, finishedCompactRevision: finishedCompactRevision,
      scheduledCompactRevision: compactRevision)
  }

  @discardableResult
  mutating func put(
    _ key: String, _ value: String = "", lease: Int64 = 0, prevKv: Bool = false
  ) throws -> PutResult {
    var effects = ApplyEffects()
    return try put(
      .with(key, value, lease: lease, prevKv: prevKv), leaseExists: { _ in true },
      effects: &effects)
  }

  @discardableResult
  mutating func delete(_ key: String, to end: String = "", prevKv: Bool = false)
    -> DeleteRangeResult
  {
    var effects = ApplyEffects()
    return deleteRange(.with(key, end, prevKv: prevKv), effects: &effects)
  }

  @discardableResult
  mutating func run(_ request: Etcdserverpb_TxnRequest) throws -> TxnResult {
    var effects = ApplyEffects()
    return try txn(request, leaseExists: { _ in true }, effects: &effects)
  }

  func read(
    _ key: String, to end: String = "",
    _ change: (inout Etcdserverpb_RangeRequest) -> Void = { _ in }
  ) throws -> RangeResult {
    try range(.with(key, end, change))
  }
}

extension Etcdserverpb_RangeRequest {
  static func with(
    _ key: String, _ end: String = "", _ change: (inout Self) -> Void = { _ in }
  ) -> Self {
    var request = Self()
    request.key = Data(key.utf8)
    request.rangeEnd = Data(end.utf8)
    change(&request)
    return request
  }
}

extension Etcdserverpb_PutRequest {
  static func with(
    _ key: String, _ value: String = "", lease: Int64 = 0, prevKv: Bool = false
  ) -> Self {
    var request = Self()
    request.key = Data(key.utf8)
    request.value = Data(value.utf8)
    request.lease = lease
    request.prevKv = prevKv
    return request
  }
}

extension Etcdserverpb_DeleteRangeRequest {
  static func with(_ key: String, _ end: String = "", prevKv: Bool = false) -> Self {
    var request = Self()
    request.key = Data(key.utf8)
    request.rangeEnd = Data(end.utf8)
    request.prevKv = prevKv
    return request
  }
}

extension Etcdserverpb_RequestOp {
  private static func with(_ request: OneOf_Request?) -> Self {
    var operation = Self()
    operation.request = request
    return operation
  }
  static func put(_ key: String, _ value: String = "", lease: Int64 = 0) -> Self {
    with(.requestPut(.with(key, value, lease: lease)))
  }
  static func delete(_ key: String, to end: String = "") -> Self {
    with(.requestDeleteRange(.with(key, end)))
  }
  static func range(
    _ key: String, to end: String = "",
    _ change: (inout Etcdserverpb_RangeRequest) -> Void = { _ in }
  ) -> Self {
    with(.requestRange(.with(key, end, change)))
  }
  static func txn(_ request: Etcdserverpb_TxnRequest) -> Self { with(.requestTxn(request)) }
  static var empty: Self { with(nil) }
}

extension Etcdserverpb_TxnRequest {
  static func when(
    _ compare: [Etcdserverpb_Compare] = [], then success: [Etcdserverpb_RequestOp] = [],
    else failure: [Etcdserverpb_RequestOp] = []
  ) -> Self {
    var request = Self()
    request.compare = compare
    request.success = success
    request.failure = failure
    return request
  }
}

extension Etcdserverpb_Compare {
  static func with(
    _ target: CompareTarget, _ key: String, _ result: CompareResult, _ given: OneOf_TargetUnion?,
    to end: String = ""
  ) -> Self {
    var compare = Self()
    compare.target = target
    compare.key = Data(key.utf8)
    compare.result = result
    compare.targetUnion = given
    compare.rangeEnd = Data(end.utf8)
    return compare
  }
}

/// A stored key-value as text: `key=value(create,mod,version)` and `@lease` if it has one.
func text(_ record: Bytes) -> String {
  guard let kv = try? Mvccpb_KeyValue(serializedBytes: record) else { return "unreadable" }
  let lease = kv.lease == 0 ? "" : "@\(kv.lease)"
  let key = String(decoding: kv.key, as: UTF8.self)
  let value = String(decoding: kv.value, as: UTF8.self)
  return "\(key)=\(value)(\(kv.createRevision),\(kv.modRevision),\(kv.version))\(lease)"
}

extension EncodedRows {
  init(_ records: [Bytes]) {
    self.init()
    for record in records { append(record) }
  }
}

extension RangeResult {
  var text: [String] { rows.records.map(StoreActorTests.text) }
  var keys: [String] {
    text.map { String($0.prefix { $0 != "=" }) }
  }
}

extension Change {
  var text: String {
    "\(kind == .put ? "PUT" : "DELETE") \(StoreActorTests.text(keyValue))@\(revision.main).\(revision.sub)"
  }
}

extension KeyValueMachine {
  mutating func put(
    _ request: Etcdserverpb_PutRequest, leaseExists: (LeaseID) -> Bool,
    effects: inout ApplyEffects
  ) throws(KVError) -> PutResult {
    try put(PutOperation(request), leaseExists: leaseExists, effects: &effects)
  }
}
