import Base
import EtcdAPI

/// Who may read what. Asked in the same step that reads, so that nothing changes between the two.
extension KVStore {
  func authorize(_ read: StoreRead.Kind, _ caller: AuthCaller) throws(EtcdError) {
    let auth = machine.auth
    switch read {
    case .range(let request), .rangeStream(let request): try auth.checkRange(caller, request)
    case .txn(let request): try auth.checkTxn(caller, request, machine.lessor)
    case .leaseTimeToLive(let lease, let withKeys):
      if withKeys { try auth.checkLease(caller, .read, lease, machine.lessor) }
    case .leaseKeepAlive(let lease): try auth.checkLease(caller, .write, lease, machine.lessor)
    case .leaseAccess(let lease, let access):
      try auth.checkLease(caller, access, lease, machine.lessor)
    case .leases:
      guard !auth.isAdmin(caller) else { return }
      for lease in machine.lessor.leases {
        try auth.checkLease(caller, .read, lease, machine.lessor)
      }
    // Whether these are asked by root is seen to before they get here.
    case .hashKV, .nothing: break
    }
  }

  /// Why a watcher must not be created; nil if it may. In the form in which etcd tells it.
  func refusal(of request: WatchCreate, _ caller: WatchCaller) -> String? {
    let error: EtcdError
    switch caller {
    case .member: return nil
    case .refused(let reason): error = reason
    case .client(let caller):
      guard machine.auth.isEnabled else { return nil }
      let range = KeyRange(
        key: request.key.isEmpty ? [0] : request.key, rangeEnd: request.rangeEnd)
      do throws(EtcdError) {
        try machine.auth.check(caller, .read, range)
        return nil
      } catch {
        return Self.text(error)
      }
    }
    return Self.text(error)
  }

  private static func text(_ error: EtcdError) -> String {
    "rpc error: code = \(error.code.name) desc = \(error.message)"
  }
}
