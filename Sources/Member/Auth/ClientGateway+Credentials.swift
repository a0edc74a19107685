import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

/// A request whose token this member does not know yet.
struct ParkedRequest {
  let handle: CallHandle
  let message: Bytes
  let index: LogIndex
  let giveUpAt: UInt64
}

extension GatewayMethod {
  enum RequiredRight {
    case none
    /// Anybody whose name is known.
    case user
    case root
  }

  /// What a caller must be before the request is looked at. Rights to keys are asked where they are
  /// read or written, and changes of users and roles where they are applied.
  var requiredRight: RequiredRight {
    switch self {
    case .compact, .memberRemove, .memberUpdate, .memberPromote, .defragment, .hash, .hashKV,
      .snapshot, .moveLeader, .downgrade:
      .root
    case .status, .memberList, .leaseRevoke, .leaseTimeToLive, .leaseLeases: .user
    default: .none
    }
  }
}

/// Who calls, and whether he may.
extension ClientGateway {
  /// Requests that may wait for their token.
  private static var parkedMax: Int { 1000 }
  /// A token of an entry that lies this far ahead is made up.
  private static var tokenLeadMax: LogIndex { 100_000 }

  func credentials(of handle: CallHandle) -> Credentials {
    let call = handle.call
    let token = call.metadata("token") ?? call.metadata("authorization")
    // What comes through the gateway for JSON bears the gateway's certificate, not the caller's.
    let isRelayed = call.metadata("grpcgateway-accept") != nil
    return Credentials(
      token: token,
      certificateName: isRelayed ? nil : handle.connection.certificateCommonName)
  }

  /// On whose behalf a call is made; nobody while authentication is off.
  func caller(of handle: CallHandle) throws -> AuthCaller {
    guard storeStatus.auth.isEnabled else { return .anonymous }
    return try caller(credentials(of: handle))
  }

  /// - Throws: ``TokenPending``, or ``EtcdError`` for a token that is not valid.
  func caller(_ credentials: Credentials) throws -> AuthCaller {
    guard storeStatus.auth.isEnabled else { return .anonymous }
    return try authenticator.caller(
      credentials, state: storeStatus.auth, applied: storeStatus.applied, now: executor.now)
  }

  /// Refuses callers who may not make this call, whatever it asks for.
  func admit(_ handle: CallHandle) throws {
    switch handle.method.requiredRight {
    case .none: break
    case .user: try requireUser(handle)
    case .root: try requireRoot(handle)
    }
  }

  func requireUser(_ handle: CallHandle) throws {
    guard storeStatus.auth.isEnabled else { return }
    if try caller(of: handle) == .anonymous { throw EtcdError.userEmpty }
  }

  func requireRoot(_ handle: CallHandle) throws {
    guard storeStatus.auth.isEnabled else { return }
    try storeStatus.auth.checkAdmin(try caller(of: handle))
  }

  // MARK: - Tokens on their way

  /// Keeps a request until the entry of its token is applied here, as etcd does.
  func park(_ handle: CallHandle, _ message: UnsafeRawBufferPointer, _ pending: TokenPending) {
    guard parked.count < Self.parkedMax,
      pending.index <= raftStatus.commit + Self.tokenLeadMax
    else { return fail(handle, .invalidAuthToken) }
    let box = handle.call.userData as? CallBox
    box?.isParked = true
    parked.append(
      ParkedRequest(
        handle: handle, message: Bytes(message), index: pending.index,
        giveUpAt: executor.now + parkingTime(pending)))
  }

  /// A token that names the last entry applied may come from a member that counts from there, and be
  /// about the next entry; or be an old one.
  private func parkingTime(_ pending: TokenPending) -> UInt64 {
    pending.index == storeStatus.applied + 1
      ? min(settings.requestTimeout, 500_000_000) : settings.requestTimeout
  }

  /// Looks at requests again whose token may be known by now.
  func retryParked(now: UInt64) {
    guard !parked.isEmpty else { return }
    let waiting = parked
    parked = []
    for request in waiting {
      let box = request.handle.call.userData as? CallBox
      guard let box, !request.handle.call.isCancelled else { continue }
      guard request.index <= storeStatus.applied || request.giveUpAt <= now else {
        parked.append(request)
        continue
      }
      box.isParked = false
      guard request.giveUpAt > now else {
        refuseParked(request)
        continue
      }
      request.message.withUnsafeBytes { serve(request.handle, $0) }
      serveBehind(box)
    }
  }

  /// Serves what has arrived on a stream behind a parked request.
  private func serveBehind(_ box: CallBox) {
    let behind = box.behindParked
    box.behindParked = []
    for (position, message) in behind.enumerated() {
      message.withUnsafeBytes { serve(box.handle, $0) }
      guard !box.isParked else {
        box.behindParked = Array(behind[(position + 1)...])
        return
      }
    }
  }

  private func refuseParked(_ request: ParkedRequest) {
    guard request.handle.method == .watch else { return fail(request.handle, .invalidAuthToken) }
    // The stream goes on without this watcher.
    if let create = try? Etcdserverpb_WatchRequest(serializedBytes: request.message) {
      refuseWatch(request.handle, create, .invalidAuthToken)
    }
    if let box = request.handle.call.userData as? CallBox { serveBehind(box) }
  }

  /// While members of older etcd releases are there, whose checks at apply are shallower than ours, a
  /// transaction is looked at in full before it gets into the log.
  func checkTxn(_ request: Etcdserverpb_TxnRequest, _ caller: AuthCaller) throws {
    guard storeStatus.auth.isEnabled, storeStatus.membership.authRules == .shallow else { return }
    try storeStatus.auth.checkTxn(caller, request, nil)
  }
}
