import EtcdAPI

/// Operations applied, for the metrics. Those of transactions count one by one.
public struct ApplyCounts: Sendable {
  public var ranges: UInt64 = 0
  public var puts: UInt64 = 0
  /// Of keys and values that were put.
  public var putBytes = 0
  public var deletes: UInt64 = 0
  /// Transactions of more than one operation.
  public var txns: UInt64 = 0
  public var revokes: UInt64 = 0
  /// Renewed by this member as leader.
  public var renewals: UInt64 = 0
  /// Seconds to live of the leases that were granted.
  public var grantedTTLs: [Int64] = []

  mutating func countPut(key: Int, value: Int) {
    puts += 1
    putBytes += key + value
  }

  /// Counts what of a transaction was run.
  mutating func count(_ request: Etcdserverpb_TxnRequest, _ result: TxnResult) {
    let before = ranges + puts + deletes
    countOperations(request, result)
    if ranges + puts + deletes - before > 1 { txns += 1 }
  }

  private mutating func countOperations(
    _ request: Etcdserverpb_TxnRequest, _ result: TxnResult
  ) {
    let operations = result.succeeded ? request.success : request.failure
    for (number, operation) in operations.enumerated() {
      switch operation.request {
      case .requestRange: ranges += 1
      case .requestPut(let put): countPut(key: put.key.count, value: put.value.count)
      case .requestDeleteRange: deletes += 1
      case .requestTxn(let nested):
        if case .txn(let inner) = result.responses[number] { countOperations(nested, inner) }
      case nil: break
      }
    }
  }
}
