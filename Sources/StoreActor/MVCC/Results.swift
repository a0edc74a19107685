public import Base

/// The answer to a range.
public struct RangeResult: Equatable, Sendable {
  /// The store's revision when the read was done: the header's.
  public var revision: Int64
  public var rows = EncodedRows()
  public var more = false
  public var count: Int64 = 0

  public init(revision: Int64) { self.revision = revision }
}

public struct PutResult: Equatable, Sendable {
  public let revision: Int64
  /// The replaced key-value, if asked for and there was one.
  public let previous: Bytes?
}

public struct DeleteRangeResult: Equatable, Sendable {
  public let revision: Int64
  public let deleted: Int64
  /// The deleted key-values in key order, if asked for.
  public let previous: [Bytes]
}

public struct TxnResult: Equatable, Sendable {
  /// The header's revision. Nested transactions have none: their header is empty.
  public var revision: Int64
  public let succeeded: Bool
  public var responses: [OperationResult]
}

/// The result of one operation of a transaction.
public enum OperationResult: Equatable, Sendable {
  case range(RangeResult)
  case put(PutResult)
  case deleteRange(DeleteRangeResult)
  case txn(TxnResult)
  /// An operation without a request: answered by an empty response. Validation refuses it, but a
  /// log written by another member may hold one.
  case empty
}

/// What a key-value change means for leases.
public enum LeaseBinding: Equatable, Sendable {
  case attach(LeaseID, key: Bytes)
  case detach(LeaseID, key: Bytes)
}

/// What applied requests leave for watchers and leases, in order of execution.
///
/// Callers keep one and empty it with ``removeAll()``, which keeps its memory.
public struct ApplyEffects: Equatable, Sendable {
  public var changes: [Change] = []
  public var leases: [LeaseBinding] = []

  public init() {}

  public mutating func removeAll() {
    changes.removeAll(keepingCapacity: true)
    leases.removeAll(keepingCapacity: true)
  }
}
