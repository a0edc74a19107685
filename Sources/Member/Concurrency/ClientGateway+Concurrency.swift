import Actors
import Base
import EtcdAPI
import FoundationEssentials
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

/// A call of the Election or Lock service, and what is under way for it.
struct ConcurrencyCall {
  let handle: CallHandle
  var machine: ConcurrencyMachine
  /// The watch stream that feeds it, known to the store only.
  var watch: UInt64?
  /// The client reads too slowly: its watch has to wait.
  var isBlocked = false
  /// Since when nobody waits for the answer; what the call did is being taken back.
  var leftAt: UInt64?
}

/// All calls of the Election and Lock services.
struct ConcurrencyTable {
  fileprivate(set) var calls: [UInt64: ConcurrencyCall] = [:]
  /// Whose watch a stream is.
  fileprivate var callsByWatch: [UInt64: UInt64] = [:]
  /// Calls whose request found no space, until the alarm is raised.
  fileprivate var withoutSpace: [UInt64] = []
  fileprivate var retries: [UInt64] = []
}

/// Runs the machines of the Election and Lock services with the requests of the gateway itself.
extension ClientGateway {
  /// Life of the leases that the server grants for calls that name none, in seconds.
  private static var grantedSeconds: Int64 { 60 }

  // MARK: - Calls

  func startConcurrency(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) throws {
    guard let box = handle.call.userData as? CallBox, box.concurrency == nil else { return }
    // A token that is not known yet parks the call before it has done anything.
    _ = try caller(of: handle)
    let machine = try Self.machine(for: handle.method, message)
    let id = ids.next()
    box.concurrency = id
    if case .acquire(let acquire) = machine, let key = acquire.contestedKey { forgetRetries(key) }
    concurrency.calls[id] = ConcurrencyCall(handle: handle, machine: machine)
    advance(id, .started)
  }

  private static func machine(
    for method: GatewayMethod, _ message: UnsafeRawBufferPointer
  ) throws -> ConcurrencyMachine {
    switch method {
    case .lock:
      let request = try V3lockpb_LockRequest(copying: message)
      return .acquire(AcquireMachine(name: request.name, lease: request.lease, purpose: .lock))
    case .campaign:
      let request = try V3electionpb_CampaignRequest(copying: message)
      return .acquire(
        AcquireMachine(
          name: request.name, lease: request.lease, purpose: .candidacy(value: request.value)))
    case .observe:
      return .observe(ObserveMachine(name: try V3electionpb_LeaderRequest(copying: message).name))
    case .proclaim:
      return .brief(BriefMachine(.proclaim(try V3electionpb_ProclaimRequest(copying: message))))
    case .resign:
      return .brief(BriefMachine(.resign(try V3electionpb_ResignRequest(copying: message))))
    case .leader:
      let request = try V3electionpb_LeaderRequest(copying: message)
      return .brief(BriefMachine(.leader(name: request.name)))
    case .unlock:
      return .brief(BriefMachine(.unlock(key: try V3lockpb_UnlockRequest(copying: message).key)))
    default: preconditionFailure("\(method) is no method of these services")
    }
  }

  /// The client has gone, or was told the end. Called at every end of a call.
  func leaveConcurrency(_ id: UInt64) {
    guard concurrency.calls[id]?.leftAt == nil else { return }
    concurrency.calls[id]?.leftAt = executor.now
    advance(id, .cancelled)
  }

  func concurrencyWritable(_ id: UInt64) {
    guard let call = concurrency.calls[id], call.isBlocked else { return }
    concurrency.calls[id]?.isBlocked = false
    if let watch = call.watch { watchCommands.append(.ready(watch)) }
  }

  // MARK: - Events

  private func advance(_ id: UInt64, _ event: ConcurrencyEvent) {
    guard let actions = concurrency.calls[id]?.machine.handle(event) else { return }
    for action in actions { perform(action, id) }
    if concurrency.calls[id]?.machine.isFinished == true { remove(id) }
  }

  private func remove(_ id: UInt64) {
    guard let call = concurrency.calls.removeValue(forKey: id) else { return }
    if let watch = call.watch { closeConcurrencyWatch(watch) }
  }

  /// Watch responses of a stream that is no client's.
  func deliverConcurrency(_ messages: FramedMessages, to stream: UInt64) {
    for message in messages {
      // A response may have ended this watch.
      guard let id = concurrency.callsByWatch[stream] else { return }
      guard let response = try? Etcdserverpb_WatchResponse(serializedBytes: message) else {
        preconditionFailure("unreadable watch response of the member's own store")
      }
      if response.canceled {
        advance(id, .historyLost)
      } else if !response.events.isEmpty {
        advance(id, .changed(response))
      }
    }
  }

  private func answered(
    _ id: UInt64, _ outcome: StoreOutcome, _ read: (Bytes) throws -> ConcurrencyEvent
  ) {
    switch outcome {
    case .failure(let error): advance(id, .failed(error))
    case .message(let message):
      do {
        advance(id, try read(message))
      } catch {
        advance(id, .failed(.unexpectedAnswer))
      }
    }
  }

  // MARK: - Actions

  private func perform(_ action: ConcurrencyAction, _ id: UInt64) {
    guard let call = concurrency.calls[id] else { return }
    switch action {
    case .grantLease: grantLease(id)
    case .revoke(let lease):
      let request = Etcdserverpb_LeaseRevokeRequest.with { $0.id = lease }
      proposeFor(id, .leaseRevoke, request) { _ in .revoked }
    case .write(let transaction):
      submit(id, transaction) {
        guard hasSpace(for: Int64(QuotaCost.bytes(transaction))) else { return awaitAlarm(id) }
        proposeFor(id, .txn, transaction) {
          .answered(try Etcdserverpb_TxnResponse(serializedBytes: $0))
        }
      }
    case .read(let transaction):
      submit(id, transaction) {
        let waiter = Waiter.own { outcome in
          self.answered(id, outcome) {
            .answered(try Etcdserverpb_TxnResponse(serializedBytes: $0))
          }
        }
        guard let caller = concurrencyCaller(id) else { return }
        readLinearizable(.txn(transaction), waiter, caller: caller)
      }
    case .watch(let requests): openConcurrencyWatch(id, requests)
    case .unwatch:
      concurrency.calls[id]?.watch = nil
      if let watch = call.watch { closeConcurrencyWatch(watch) }
    case .send(let message): send(message, id, call)
    case .reply(let message):
      do {
        try reply(call.handle, message)
      } catch {
        fail(call.handle, EtcdError(.internal, "\(error)"))
      }
    case .fail(let error):
      // These services are clients of the store: what they fail with has lost its code.
      finish(call.handle, GRPCStatus(.unknown, error.message))
    case .retryLater: concurrency.retries.append(id)
    }
  }

  /// Checks a transaction as if a client had sent it: its keys are clients' words.
  private func submit(_ id: UInt64, _ transaction: Etcdserverpb_TxnRequest, _ body: () -> Void) {
    do throws(KVError) {
      try RequestValidation.validate(transaction, maxOps: settings.maxTxnOps)
    } catch {
      return advance(id, .failed(EtcdError(error)))
    }
    body()
  }

  private func proposeFor(
    _ id: UInt64, _ kind: InternalRequestEnvelope.Kind, _ request: some SwiftProtobuf.Message,
    _ read: @escaping (Bytes) throws -> ConcurrencyEvent
  ) {
    guard let caller = concurrencyCaller(id) else { return }
    do {
      let waiter = Waiter.own { outcome in self.answered(id, outcome, read) }
      try propose(kind, try request.serializedBytes(), waiter, caller: caller)
    } catch let error as EtcdError {
      advance(id, .failed(error))
    } catch {
      advance(id, .failed(EtcdError(.internal, "\(error)")))
    }
  }

  /// Each request is made in the name of the call's client; nil if that failed, and the call with it.
  private func concurrencyCaller(_ id: UInt64) -> AuthCaller? {
    guard let call = concurrency.calls[id] else { return nil }
    do {
      return try caller(of: call.handle)
    } catch {
      advance(id, .failed(error as? EtcdError ?? .invalidAuthToken))
      return nil
    }
  }

  private func grantLease(_ id: UInt64) {
    guard hasSpace(for: Int64(QuotaCost.leaseGrantBytes)) else { return awaitAlarm(id) }
    let request = Etcdserverpb_LeaseGrantRequest.with {
      $0.ttl = Self.grantedSeconds
      $0.id = ids.nextLeaseID()
    }
    proposeFor(id, .leaseGrant, request) { _ in .granted(request.id) }
  }

  private func awaitAlarm(_ id: UInt64) {
    concurrency.withoutSpace.append(id)
    outlets.quotaExceeded()
  }

  func concurrencyAlarmSettled() {
    let waiting = concurrency.withoutSpace
    concurrency.withoutSpace = []
    for id in waiting { advance(id, .failed(.noSpace)) }
  }

  private func send(
    _ message: V3electionpb_LeaderResponse, _ id: UInt64, _ call: ConcurrencyCall
  ) {
    guard call.leftAt == nil, let bytes: Bytes = try? message.serializedBytes() else { return }
    let handle = call.handle
    handle.call.send(message: bytes)
    metrics.network.clientSentBytes.increment(by: UInt64(bytes.count))
    metrics.grpc.methods[handle.method.metricsIndex].messagesSent.increment()
    handle.connection.touch()
    if !call.isBlocked, handle.call.queuedBytes > Self.watchQueueBytesMax {
      concurrency.calls[id]?.isBlocked = true
      if let watch = call.watch { watchCommands.append(.blocked(watch)) }
    }
  }

  // MARK: - Watches

  /// The read that the watch continues was answered by this member's store, so that nothing between
  /// the two can be missed.
  private func openConcurrencyWatch(_ id: UInt64, _ requests: [WatchCreate]) {
    let stream = ids.next()
    concurrency.calls[id]?.watch = stream
    concurrency.callsByWatch[stream] = id
    watchCommands.append(.open(stream))
    for request in requests { watchCommands.append(.create(stream, request)) }
    if concurrency.calls[id]?.isBlocked == true { watchCommands.append(.blocked(stream)) }
  }

  private func closeConcurrencyWatch(_ stream: UInt64) {
    concurrency.callsByWatch[stream] = nil
    watchCommands.append(.close(stream))
  }

  // MARK: - Time

  func tickConcurrency(now: UInt64) {
    guard !concurrency.calls.isEmpty else { return }
    let overdue = concurrency.calls.compactMap { id, call in
      call.leftAt == nil && (call.handle.call.deadline ?? .max) <= now ? id : nil
    }
    for id in overdue.sorted() { endConcurrency(id, GRPCStatus(.deadlineExceeded)) }
    let retries = concurrency.retries
    concurrency.retries = []
    for id in retries {
      guard let leftAt = concurrency.calls[id]?.leftAt else { continue }
      // Not later than one request might have been under way: by then the key may be in use again.
      if now - leftAt < settings.requestTimeout { advance(id, .retry) } else { remove(id) }
    }
  }

  /// A new call uses the key: what an earlier one left behind must not be taken from it.
  private func forgetRetries(_ key: Data) {
    for id in concurrency.retries {
      guard case .acquire(let machine)? = concurrency.calls[id]?.machine else { continue }
      if machine.isLeaving(key) { remove(id) }
    }
  }

  private func endConcurrency(_ id: UInt64, _ status: GRPCStatus) {
    guard let call = concurrency.calls[id] else { return }
    finish(call.handle, status)
    // As `finish` does, unless the call was over already.
    leaveConcurrency(id)
  }

  func endLeaderlessObservers() {
    for id in concurrency.calls.keys.sorted() {
      guard let call = concurrency.calls[id], call.handle.method == .observe,
        call.handle.call.metadata("hasleader") == "true"
      else { continue }
      endConcurrency(id, GRPCStatus(.noLeader))
    }
  }

  /// Ends what waits for others. Keys stay in line: their clients may go on waiting elsewhere.
  func shutDownConcurrency() {
    for id in concurrency.calls.keys.sorted() {
      guard let call = concurrency.calls[id], call.machine.isWaiting else { continue }
      remove(id)
      finish(call.handle, GRPCStatus(.stopped))
    }
  }
}
