public import EtcdAPI

/// A transaction that only reads, under way: what it compares is decided, its ranges are pinned.
public struct ReadOnlyTxnCursor: Sendable {
  let revision: Int64
  let succeeded: Bool
  /// Ranges to be read, the last one first.
  var rest: [RangeCursor]
  var responses: [OperationResult] = []

  public var isDone: Bool { rest.isEmpty }

  /// The answer. Complete once ``isDone``.
  public var result: TxnResult {
    TxnResult(revision: revision, succeeded: succeeded, responses: responses)
  }
}

extension KeyValueMachine {
  /// Begins a transaction that only reads (``TxnRules/isReadOnly(_:)``, precondition).
  ///
  /// - Throws: `futureRevision` or `compacted`.
  public func openReadOnlyTxn(
    _ request: Etcdserverpb_TxnRequest
  ) throws(KVError) -> ReadOnlyTxnCursor {
    precondition(TxnRules.isReadOnly(request), "a transaction that writes goes through the log")
    let succeeded = holds(request.compare)
    let operations = succeeded ? request.success : request.failure
    for operation in operations { try checkRange(operation.requestRange) }
    var ranges: [RangeCursor] = []
    for operation in operations.reversed() {
      ranges.append(try openRange(operation.requestRange))
    }
    return ReadOnlyTxnCursor(revision: currentRevision, succeeded: succeeded, rest: ranges)
  }

  /// Reads on until about `visits` keys have been looked at or `bytes` of rows collected.
  ///
  /// - Returns: whether the transaction is complete.
  /// - Throws: `compacted` when compaction has passed the revision of a range that is not read yet.
  public func advance(
    _ cursor: inout ReadOnlyTxnCursor, visits: Int, bytes: Int = .max
  ) throws(KVError) -> Bool {
    var (visits, bytes) = (visits, bytes)
    while var range = cursor.rest.popLast() {
      let (countBefore, bytesBefore) = (range.rows.count, range.rows.byteCount)
      guard try advance(&range, visits: visits, bytes: bytes) else {
        cursor.rest.append(range)
        return false
      }
      cursor.responses.append(.range(range.result))
      // A count of history leaves no trace of how many keys it looked at.
      let looked = range.countIsKnown ? range.rows.count - countBefore + 1 : visits
      visits -= min(visits, looked)
      bytes -= min(bytes, range.rows.byteCount - bytesBefore)
      if visits == 0 || bytes == 0 { break }
    }
    return cursor.isDone
  }

  /// Answers a transaction that only reads, in one step.
  ///
  /// - Throws: `futureRevision` or `compacted`.
  public func readOnlyTxn(_ request: Etcdserverpb_TxnRequest) throws(KVError) -> TxnResult {
    var cursor = try openReadOnlyTxn(request)
    while try !advance(&cursor, visits: .max) {}
    return cursor.result
  }
}
