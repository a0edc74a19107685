package import Base

/// The answer to a range.
package struct RangeResult: Equatable, Sendable {
  /// The store's revision when the read was done: the header's.
  package var revision: Int64
  package var rows = EncodedRows()
  package var more = false
  package var count: Int64 = 0

  package init(revision: Int64) { self.revision = revision }
}

package struct PutResult: Equatable, Sendable {
  package let revision: Int64
  /// The replaced key-value, if asked for and there was one.
  package let previous: Bytes?
}

package struct DeleteRangeResult: Equatable, Sendable {
  package let revision: Int64
  package let deleted: Int64
  /// The deleted key-values in key order, if asked for.
  package let previous: [Bytes]
}

package struct TxnResult: Equatable, Sendable {
  /// The header's revision. Nested transactions have none: their header is empty.
  package var revision: Int64
  package let succeeded: Bool
  package var responses: [OperationResult]
}

/// The result of one operation of a transaction.
package enum OperationResult: Equatable, Sendable {
  case range(RangeResult)
  case put(PutResult)
  case deleteRange(DeleteRangeResult)
  case txn(TxnResult)
  /// An operation without a request: answered by an empty response. Validation refuses it, but a
  /// log written by another member may hold one.
  case empty
}

/// What a key-value change means for leases.
package enum LeaseBinding: Equatable, Sendable {
  case attach(LeaseID, key: Bytes)
  case detach(LeaseID, key: Bytes)
}

/// What applied requests leave for watchers and leases, in order of execution.
///
/// Callers keep one and empty it with ``removeAll()``, which keeps its memory.
package struct ApplyEffects: Equatable, Sendable {
  package var changes: [Change] = []
  package var leases: [LeaseBinding] = []

  package init() {}

  package mutating func removeAll() {
    changes.removeAll(keepingCapacity: true)
    leases.removeAll(keepingCapacity: true)
  }
}
