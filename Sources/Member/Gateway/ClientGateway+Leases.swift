import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

/// A queue that is cheap at both ends.
struct FirstInFirstOut<Element> {
  private var incoming: [Element] = []
  private var outgoing: [Element] = []

  var count: Int { incoming.count + outgoing.count }

  mutating func append(_ element: Element) { incoming.append(element) }

  mutating func popFirst() -> Element? {
    if outgoing.isEmpty {
      outgoing = incoming.reversed()
      incoming.removeAll(keepingCapacity: true)
    }
    return outgoing.popLast()
  }
}

/// A keepalive stream: requests are answered one after the other, in order.
struct KeepAliveStream {
  let handle: CallHandle
  let needsLeader: Bool
  var queue = FirstInFirstOut<LeaseID>()
  /// The request being answered, and since when.
  var current: (lease: LeaseID, since: UInt64, header: Etcdserverpb_ResponseHeader)?
  /// When to ask the leader again: there is none, or it did not answer.
  var retryAt: UInt64?
  var isHalfClosed = false
}

extension ClientGateway {
  func openKeepAlive(_ handle: CallHandle) {
    let id = ids.next()
    (handle.call.userData as? CallBox)?.keepAlive = id
    keepAlives[id] = KeepAliveStream(
      handle: handle, needsLeader: handle.call.metadata("hasleader") == "true")
  }

  func keepAlive(_ handle: CallHandle, _ lease: LeaseID) {
    guard let id = (handle.call.userData as? CallBox)?.keepAlive else { return }
    keepAlives[id]?.queue.append(lease)
    if let count = keepAlives[id]?.queue.count, count > Self.keepAlivesQueuedMax {
      handle.call.pauseReceiving()
    }
    nextKeepAlive(id)
  }

  func keepAliveHalfClosed(_ call: ServerCall) {
    guard let id = (call.userData as? CallBox)?.keepAlive else { return }
    keepAlives[id]?.isHalfClosed = true
    nextKeepAlive(id)
  }

  private func nextKeepAlive(_ id: UInt64) {
    guard let stream = keepAlives[id], stream.current == nil else { return }
    guard let lease = keepAlives[id]?.queue.popFirst() else {
      if stream.isHalfClosed {
        keepAlives[id] = nil
        finish(stream.handle, .ok)
      }
      return
    }
    // The header is that of the moment before the renewal, as in etcd.
    keepAlives[id]?.current = (lease, executor.now, header())
    if let count = keepAlives[id]?.queue.count, count < Self.keepAlivesQueuedMax / 2 {
      stream.handle.call.resumeReceiving()
    }
    askForKeepAlive(id)
  }

  /// The leader renews; a follower asks it, and asks again until the request has taken too long.
  private func askForKeepAlive(_ id: UInt64) {
    guard let stream = keepAlives[id], let current = stream.current else { return }
    keepAlives[id]?.retryAt = nil
    let caller: AuthCaller
    do {
      caller = try self.caller(of: stream.handle)
      if storeStatus.auth.isEnabled, caller == .anonymous { throw EtcdError.userEmpty }
    } catch let error as EtcdError {
      return endKeepAlive(id, error)
    } catch {
      // The token is on its way to this member.
      keepAlives[id]?.retryAt = executor.now + Self.leaderRetryInterval
      return
    }
    if softState.leader == settings.member {
      if isStalled {
        readLinearizable(
          .leaseKeepAlive(current.lease), .keepAlive(stream: id), caller: caller)
      } else {
        readLease(.leaseKeepAlive(current.lease), .keepAlive(stream: id), caller: caller)
      }
    } else if storeStatus.auth.isEnabled {
      checkLease(current.lease, .write, caller) { error in
        guard let error else { return self.askLeaderForKeepAlive(id) }
        self.endKeepAlive(id, error)
      }
    } else {
      askLeaderForKeepAlive(id)
    }
  }

  /// Looks at the rights to a lease's keys where the caller is known; the leader knows only members.
  private func checkLease(
    _ lease: LeaseID, _ access: AuthState.Access, _ caller: AuthCaller,
    _ done: @escaping (EtcdError?) -> Void
  ) {
    let waiter = Waiter.own { outcome in
      if case .failure(let error) = outcome { done(error) } else { done(nil) }
    }
    readLease(.leaseAccess(lease, access), waiter, caller: caller)
  }

  private func askLeaderForKeepAlive(_ id: UInt64) {
    guard let current = keepAlives[id]?.current else { return }
    let leader = softState.leader
    if leader == settings.member {
      keepAlives[id]?.retryAt = executor.now
    } else if leader != 0 {
      let request = ids.next()
      waiters.add(
        request, .keepAlive(stream: id), now: executor.now,
        deadline: executor.now + settings.requestTimeout)
      var writer = ProtobufWriter()
      writer.field(1, signed: current.lease)
      outlets.postToPeer(request, leader, "/leases", writer.bytes, [])
    } else {
      keepAlives[id]?.retryAt = executor.now + Self.leaderRetryInterval
    }
  }

  private static var leaderRetryInterval: UInt64 { 50_000_000 }

  /// This process stood still for so long that another member may lead by now: a leader proves
  /// itself before it tells a client that its lease lives on.
  private var isStalled: Bool { stall.mustProve(now: executor.now) }

  func retryKeepAlives(now: UInt64) {
    for id in keepAlives.keys.sorted() {
      guard let stream = keepAlives[id], let current = stream.current, let at = stream.retryAt,
        at <= now
      else { continue }
      if now - current.since > settings.requestTimeout {
        endKeepAlive(id, softState.leader == 0 ? .noLeader : .timeout)
      } else {
        askForKeepAlive(id)
      }
    }
  }

  func keepAliveAnswered(_ id: UInt64, _ outcome: StoreOutcome) {
    guard let stream = keepAlives[id], let current = stream.current else { return }
    switch outcome {
    case .failure(let error):
      if error == .notPrimaryLessor, executor.now - current.since < settings.requestTimeout {
        // The leader has changed under the request: ask the new one.
        keepAlives[id]?.retryAt = executor.now + Self.leaderRetryInterval
      } else {
        endKeepAlive(id, error)
      }
    case .message(let message):
      guard let renewed = try? Etcdserverpb_LeaseKeepAliveResponse(serializedBytes: message) else {
        return endKeepAlive(id, EtcdError(.internal, "unreadable answer of the leader"))
      }
      let response = Etcdserverpb_LeaseKeepAliveResponse.with {
        $0.header = current.header
        $0.id = current.lease
        $0.ttl = renewed.ttl
      }
      keepAlives[id]?.current = nil
      if let bytes: Bytes = try? response.serializedBytes() {
        stream.handle.call.send(message: bytes)
        stream.handle.connection.touch()
      }
      nextKeepAlive(id)
    }
  }

  func endKeepAlive(_ id: UInt64, _ error: EtcdError) {
    guard let stream = keepAlives.removeValue(forKey: id) else { return }
    fail(stream.handle, error)
  }

  // MARK: - Remaining time

  func leaseTimeToLive(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    let request = try Etcdserverpb_LeaseTimeToLiveRequest(copying: message)
    let caller = try caller(of: handle)
    if softState.leader == settings.member {
      return readLease(
        .leaseTimeToLive(request.id, keys: request.keys), .call(handle), caller: caller)
    }
    guard softState.leader != 0 else { throw EtcdError.noLeader }
    guard request.keys, storeStatus.auth.isEnabled else {
      return try askLeaderForTimeToLive(handle, request)
    }
    checkLease(request.id, .read, caller) { error in
      do {
        if let error { throw error }
        guard self.softState.leader != 0 else { throw EtcdError.noLeader }
        try self.askLeaderForTimeToLive(handle, request)
      } catch {
        self.fail(handle, error as? EtcdError ?? EtcdError(.internal, "\(error)"))
      }
    }
  }

  private func askLeaderForTimeToLive(
    _ handle: CallHandle, _ request: Etcdserverpb_LeaseTimeToLiveRequest
  ) throws {
    let id = ids.next()
    let forward = Etcdserverpb_LeaseInternalRequest.with { $0.leaseTimeToLiveRequest = request }
    let body: Bytes = try forward.serializedBytes()
    waiters.add(
      id, .own { outcome in self.timeToLiveAnswered(handle, request.id, outcome) },
      now: executor.now,
      deadline: executor.now + settings.requestTimeout)
    outlets.postToPeer(id, softState.leader, "/leases/internal", body, [])
  }

  private func timeToLiveAnswered(
    _ handle: CallHandle, _ lease: LeaseID, _ outcome: StoreOutcome
  ) {
    switch outcome {
    case .failure(.leaseNotFound):
      let response = Etcdserverpb_LeaseTimeToLiveResponse.with {
        $0.header = header()
        $0.id = lease
        $0.ttl = -1
      }
      if let message: Bytes = try? response.serializedBytes() { reply(handle, message) }
    case .failure(let error):
      fail(handle, error == .notPrimaryLessor ? .leaderChanged : error)
    case .message(let message):
      do {
        var response = try Etcdserverpb_LeaseInternalResponse(serializedBytes: message)
          .leaseTimeToLiveResponse
        response.header = header()
        try reply(handle, response)
      } catch {
        fail(handle, EtcdError(.internal, "unreadable answer of the leader: \(error)"))
      }
    }
  }

  // MARK: - Between members

  /// A peer has answered a request that was posted for `id`.
  func peerAnswered(_ id: UInt64, _ status: Int?, _ body: Bytes) {
    if promotionAnswered(id, status, body) { return }
    guard let entry = waiters.take(id) else { return }
    switch status {
    case 200: answer(entry.waiter, .message(body))
    case 404:
      // The leader does not know the lease.
      if case .keepAlive = entry.waiter {
        answer(entry.waiter, .message([]))
      } else {
        answer(entry.waiter, .failure(.leaseNotFound))
      }
    case 408: answer(entry.waiter, .failure(.timeoutWaitingForApply))
    default: answer(entry.waiter, .failure(.notPrimaryLessor))
    }
  }

  /// Answers what another member asks.
  func serveForwarded(_ request: ForwardedRead) {
    switch request.demand {
    case .leadership where softState.leader != settings.member:
      outlets.answerForwarded(request.request, .failure(.notPrimaryLessor))
    case .leadership where !isStalled: readLease(request.read, .forwarded(request.request))
    case .leadership, .linearizability:
      readLinearizable(request.read, .forwarded(request.request))
    case .nothing: readNow(request.read, .forwarded(request.request), neverExpires: true)
    }
  }
}
