import Base
public import EtcdAPI
import FoundationEssentials

/// The checks of a request that need no state: done by the member that receives it.
public enum RequestValidation {
  /// - Throws: `keyNotProvided`, then `invalidSortOption`.
  public static func validate(_ request: Etcdserverpb_RangeRequest) throws(KVError) {
    if request.key.isEmpty { throw .keyNotProvided }
    if case .UNRECOGNIZED = request.sortOrder { throw .invalidSortOption }
    if case .UNRECOGNIZED = request.sortTarget { throw .invalidSortOption }
  }

  /// - Throws: `keyNotProvided`, `valueProvided`, `leaseProvided`, in this order.
  public static func validate(_ request: Etcdserverpb_PutRequest) throws(KVError) {
    if request.key.isEmpty { throw .keyNotProvided }
    if request.ignoreValue && !request.value.isEmpty { throw .valueProvided }
    if request.ignoreLease && request.lease != 0 { throw .leaseProvided }
  }

  /// - Throws: `keyNotProvided`.
  public static func validate(_ request: Etcdserverpb_DeleteRangeRequest) throws(KVError) {
    if request.key.isEmpty { throw .keyNotProvided }
  }

  /// - Parameter maxOps: operations (or comparisons) allowed; nesting levels add up along a path.
  /// - Throws: `tooManyOps`, the errors of the single operations, `keyNotFound` (an operation
  ///   without request), then `duplicateKey`.
  public static func validate(
    _ request: Etcdserverpb_TxnRequest, maxOps: Int
  ) throws(KVError) {
    try validateOperations(request, maxOps: maxOps)
    try validateKeys(request.success)
    try validateKeys(request.failure)
  }

  private static func validateKeys(_ operations: [Etcdserverpb_RequestOp]) throws(KVError) {
    if operations.count > 1 || operations.first.map(isTransaction) == true {
      _ = try WriteSet(of: operations)
    }
  }

  /// The only operation that may write a key twice on its own.
  private static func isTransaction(_ operation: Etcdserverpb_RequestOp) -> Bool {
    if case .requestTxn = operation.request { true } else { false }
  }

  private static func validateOperations(
    _ request: Etcdserverpb_TxnRequest, maxOps: Int
  ) throws(KVError) {
    let most = max(request.compare.count, request.success.count, request.failure.count)
    if most > maxOps { throw .tooManyOps }
    for compare in request.compare where compare.key.isEmpty { throw .keyNotProvided }
    try validate(request.success, maxOps: maxOps - most)
    try validate(request.failure, maxOps: maxOps - most)
  }

  private static func validate(
    _ operations: [Etcdserverpb_RequestOp], maxOps: Int
  ) throws(KVError) {
    for operation in operations {
      switch operation.request {
      case .requestRange(let range): try validate(range)
      case .requestPut(let put): try validate(put)
      case .requestDeleteRange(let delete): try validate(delete)
      case .requestTxn(let nested): try validateOperations(nested, maxOps: maxOps)
      case nil: throw .keyNotFound
      }
    }
  }
}

/// What a list of operations writes, built up to find keys written twice.
private struct WriteSet {
  private var puts: Set<Bytes> = []
  private var deletes: [KeyRange] = []

  /// - Throws: `duplicateKey`.
  init(of operations: [Etcdserverpb_RequestOp]) throws(KVError) {
    for operation in operations {
      guard case .requestDeleteRange(let delete) = operation.request else { continue }
      let (start, end) = (Bytes(delete.key), Bytes(delete.rangeEnd))
      // As in etcd, an end of one zero byte does not mean "unbounded" here: it selects nothing.
      deletes.append(end.isEmpty ? .single(start) : .span(start: start, end: end))
    }
    for operation in operations {
      guard case .requestTxn(let nested) = operation.request else { continue }
      try merge(WriteSet(of: nested.success), WriteSet(of: nested.failure))
    }
    for operation in operations {
      guard case .requestPut(let put) = operation.request else { continue }
      let key = Bytes(put.key)
      if puts.contains(key) || isDeleted(key) { throw .duplicateKey }
      puts.insert(key)
    }
  }

  /// Adds a nested transaction. Its two branches never both run, so they may share keys.
  private mutating func merge(_ success: WriteSet, _ failure: WriteSet) throws(KVError) {
    for key in success.puts where puts.contains(key) || isDeleted(key) { throw .duplicateKey }
    for key in failure.puts {
      if isDeleted(key) { throw .duplicateKey }
      if puts.contains(key) && !success.puts.contains(key) { throw .duplicateKey }
    }
    puts.formUnion(success.puts)
    puts.formUnion(failure.puts)
    deletes += success.deletes
    deletes += failure.deletes
  }

  private func isDeleted(_ key: Bytes) -> Bool { deletes.contains { $0.contains(key) } }
}

/// How a transaction is to be treated before it is applied.
public enum TxnRules {
  /// Every operation of both branches is a range at top level: the transaction needs no log entry.
  public static func isReadOnly(_ request: Etcdserverpb_TxnRequest) -> Bool {
    allRanges(request) { _ in true }
  }

  /// A read-only transaction that needs no quorum: all its ranges are serializable. True for one
  /// without operations, whatever it compares.
  public static func isSerializable(_ request: Etcdserverpb_TxnRequest) -> Bool {
    allRanges(request) { $0.serializable }
  }

  private static func allRanges(
    _ request: Etcdserverpb_TxnRequest, _ condition: (Etcdserverpb_RangeRequest) -> Bool
  ) -> Bool {
    func allRanges(_ operations: [Etcdserverpb_RequestOp]) -> Bool {
      operations.allSatisfy {
        if case .requestRange(let range) = $0.request { condition(range) } else { false }
      }
    }
    return allRanges(request.success) && allRanges(request.failure)
  }
}

/// Bytes a request is expected to add to the database. Requests not named here cost nothing.
public enum QuotaCost {
  public static let leaseGrantBytes = 64
  private static let putOverheadBytes = 256

  public static func bytes(_ request: Etcdserverpb_PutRequest) -> Int {
    putBytes(key: request.key.count, value: request.value.count)
  }

  public static func bytes(_ put: PutFields) -> Int {
    putBytes(key: put.key.count, value: put.value.count)
  }

  static func bytes(_ put: PutOperation) -> Int {
    putBytes(key: put.key.count, value: put.value.count)
  }

  private static func putBytes(key: Int, value: Int) -> Int { putOverheadBytes + key + value }

  /// The dearer of the two branches, nested transactions included.
  public static func bytes(_ request: Etcdserverpb_TxnRequest) -> Int {
    func sum(_ operations: [Etcdserverpb_RequestOp]) -> Int {
      operations.reduce(0) { total, operation in
        switch operation.request {
        case .requestPut(let put): total + bytes(put)
        case .requestTxn(let nested): total + bytes(nested)
        case .requestRange, .requestDeleteRange, nil: total
        }
      }
    }
    return max(sum(request.success), sum(request.failure))
  }
}
