public import Base
public import EtcdAPI

/// How far permissions are looked at when entries are applied, which has to be alike on all members.
public enum AuthRules: Sendable {
  /// Everything that a transaction does, at any depth.
  case complete
  /// As etcd did until the releases of 2026: a transaction's nested transactions, leases and previous
  /// values are not looked at, and permissions may be granted on ranges without keys.
  case shallow
}

extension Membership {
  /// By the oldest member that the cluster's version speaks of.
  public var authRules: AuthRules {
    guard let clusterVersion else { return .complete }
    let old = ["3.4.", "3.5.", "3.6."].contains { clusterVersion.hasPrefix($0) }
    return old ? .shallow : .complete
  }
}

/// Which rights requests need, in etcd's order of questions.
extension AuthState {
  public func checkRange(
    _ caller: AuthCaller, _ request: Etcdserverpb_RangeRequest
  ) throws(EtcdError) {
    guard isEnabled else { return }
    try check(caller, .read, KeyRange(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd)))
  }

  /// - Parameter lessor: whoever writes a key under a lease may end that lease, and with it all keys
  ///   that hang on it: he must have the right to write those. nil = leases are not looked at.
  public func checkPut(
    _ caller: AuthCaller, key: Bytes, lease: LeaseID, prevKv: Bool, _ lessor: Lessor?,
    rules: AuthRules = .complete
  ) throws(EtcdError) {
    guard isEnabled else { return }
    let key = KeyRange.single(key)
    try check(caller, .write, key)
    guard rules == .complete else { return }
    try checkLease(caller, .write, lease, lessor)
    if prevKv { try check(caller, .read, key) }
  }

  public func checkDelete(
    _ caller: AuthCaller, _ request: Etcdserverpb_DeleteRangeRequest
  ) throws(EtcdError) {
    guard isEnabled else { return }
    let range = KeyRange(key: Bytes(request.key), rangeEnd: Bytes(request.rangeEnd))
    try check(caller, .write, range)
    if request.prevKv { try check(caller, .read, range) }
  }

  /// Both branches, whichever is taken.
  public func checkTxn(
    _ caller: AuthCaller, _ request: Etcdserverpb_TxnRequest, _ lessor: Lessor?,
    rules: AuthRules = .complete
  ) throws(EtcdError) {
    guard isEnabled else { return }
    for compare in request.compare {
      try check(
        caller, .read, KeyRange(key: Bytes(compare.key), rangeEnd: Bytes(compare.rangeEnd)))
    }
    for operations in [request.success, request.failure] {
      for operation in operations {
        switch operation.request {
        case .requestRange(let range): try checkRange(caller, range)
        case .requestPut(let put):
          try checkPut(
            caller, key: Bytes(put.key), lease: put.lease, prevKv: put.prevKv, lessor,
            rules: rules)
        case .requestDeleteRange(let delete): try checkDelete(caller, delete)
        case .requestTxn(let nested):
          if rules == .complete { try checkTxn(caller, nested, lessor, rules: rules) }
        case nil: break
        }
      }
    }
  }

  /// Whether the caller has the right to all keys that hang on a lease.
  public func checkLease(
    _ caller: AuthCaller, _ access: Access, _ lease: LeaseID, _ lessor: Lessor?
  ) throws(EtcdError) {
    guard isEnabled, lease != 0, !isAdmin(caller), let keys = lessor?.keys(of: lease)
    else { return }
    for key in keys { try check(caller, access, .single(key)) }
  }
}
