import Actors
import Base
import EtcdAPI
import HTTP
import RaftActor
import StoreActor
import SwiftProtobuf

extension ClientGateway {
  // MARK: - Events of calls

  func started(_ call: ServerCall, on connection: ClientConnection) {
    guard let method = GatewayMethod(rawValue: call.route) else {
      return call.finish(GatewayMethod.unknown(path: call.path))
    }
    let handle = CallHandle(
      call: call, connection: connection, method: method, startedAt: turnBegan)
    call.userData = CallBox(handle)
    metrics.grpc.methods[method.metricsIndex].started.increment()
    connection.countRequest(call, method, metrics.server.clientRequests)
    if let refusal = refusal(of: handle) { return finish(handle, refusal) }
    switch method {
    case .watch: openWatch(handle)
    case .leaseKeepAlive: openKeepAlive(handle)
    default: break
    }
  }

  func received(_ call: ServerCall, _ message: UnsafeRawBufferPointer) {
    guard let box = call.userData as? CallBox, !call.isFinished else { return }
    let handle = box.handle
    guard handle.method.isBidirectional || !box.hasRequest else {
      return fail(handle, EtcdError(.internal, "grpc: a unary call takes one message"))
    }
    box.hasRequest = true
    box.requestBytes += message.count
    metrics.grpc.methods[handle.method.metricsIndex].messagesReceived.increment()
    if box.isParked {
      box.behindParked.append(Bytes(message))
    } else {
      serve(handle, message)
    }
  }

  func serve(_ handle: CallHandle, _ message: UnsafeRawBufferPointer) {
    do {
      try dispatch(handle, message)
    } catch let pending as TokenPending {
      park(handle, message, pending)
    } catch let error as EtcdError {
      fail(handle, error)
    } catch let error as KVError {
      fail(handle, EtcdError(error))
    } catch {
      if let api = handle.method.streamName {
        metrics.network.serverStreamFailures.series("receive", api).increment()
      }
      fail(handle, EtcdError(.internal, "grpc: error unmarshalling request: \(error)"))
    }
  }

  func halfClosed(_ call: ServerCall) {
    guard let box = call.userData as? CallBox else { return }
    // A watch goes on until it is cancelled; keepalives end after the answers that are due.
    if box.handle.method == .leaseKeepAlive { return keepAliveHalfClosed(call) }
    if !box.handle.method.isBidirectional, !box.hasRequest {
      fail(box.handle, EtcdError(.internal, "grpc: the call has no request message"))
    }
  }

  func cancelled(_ call: ServerCall) {
    guard let box = call.userData as? CallBox else { return }
    count(box.handle, code: GRPCStatus.Code.cancelled.rawValue)
    if let stream = box.watchStream { closeWatch(stream) }
    if let stream = box.keepAlive { keepAlives[stream] = nil }
    if let transfer = box.snapshot { abandonSnapshot(transfer) }
    if let read = box.rangeStream ?? box.longRead {
      _ = waiters.take(read)
      outlets.store.send(.endRead(id: read))
    }
    if let id = box.concurrency { leaveConcurrency(id) }
    call.userData = nil
  }

  func writable(_ call: ServerCall) {
    guard let box = call.userData as? CallBox else { return }
    if let stream = box.watchStream { watchWritable(stream) }
    if let transfer = box.snapshot { snapshotWritable(transfer) }
    if let stream = box.rangeStream { outlets.store.send(.continueRangeStream(id: stream)) }
    if call.queuedBytes < sessionConfiguration.writableLowBytes { call.resumeReceiving() }
    if let id = box.concurrency { concurrencyWritable(id) }
  }

  // MARK: - Ends of calls

  /// Answers a unary call.
  ///
  /// - Parameter rest: further pieces of a long message.
  func reply(_ handle: CallHandle, _ message: Bytes, rest: ArraySlice<Bytes> = []) {
    guard !handle.call.isFinished, !handle.call.isCancelled else { return }
    let bytes = rest.reduce(message.count) { $0 + $1.count }
    metrics.network.clientSentBytes.increment(by: UInt64(bytes))
    metrics.grpc.methods[handle.method.metricsIndex].messagesSent.increment()
    handle.call.reply(message: message, rest: rest)
    ended(handle, code: 0, responseBytes: bytes)
  }

  func reply(_ handle: CallHandle, _ message: some SwiftProtobuf.Message) throws {
    reply(handle, try message.serializedBytes())
  }

  func fail(_ handle: CallHandle, _ error: EtcdError) { finish(handle, GRPCStatus(error)) }

  func finish(_ handle: CallHandle, _ status: GRPCStatus) {
    guard !handle.call.isFinished, !handle.call.isCancelled else { return }
    handle.call.finish(status)
    ended(handle, code: status.code.rawValue, failure: status.message)
  }

  private func ended(
    _ handle: CallHandle, code: Int, responseBytes: Int = 0, failure: String? = nil
  ) {
    count(handle, code: code)
    let box = handle.call.userData as? CallBox
    if let id = box?.concurrency { leaveConcurrency(id) }
    handle.call.userData = nil
    handle.connection.touch()
    let took = turnBegan - handle.startedAt
    metrics.grpc.methods[handle.method.metricsIndex].handlingTime?.observe(Double(took) / 1e9)
    requestTimes.observe(handle.method, succeeded: code == 0, nanoseconds: took)
    guard took > slowCallMin, !handle.method.mayLast else { return }
    noteSlow(
      handle, took: took, request: box, responseBytes: responseBytes,
      failure: code == 0 ? nil : failure)
  }

  private func count(_ handle: CallHandle, code: Int) {
    metrics.grpc.methods[handle.method.metricsIndex].handled(code: code)
    if handle.method == .snapshot { snapshotEnded(handle) }
  }

  // MARK: - Answers from the store

  func answer(_ reply: StoreReply) {
    guard let waiter = waiters.take(reply.id)?.waiter else { return }
    guard case .message(let first) = reply.outcome else { return answer(waiter, reply.outcome) }
    if case .call(let handle) = waiter {
      self.reply(handle, first, rest: reply.rest)
    } else {
      answer(waiter, .message(reply.rest.isEmpty ? first : first + reply.rest.joined()))
    }
  }

  func answer(_ waiter: Waiter, _ outcome: StoreOutcome) {
    switch waiter {
    case .call(let handle):
      switch outcome {
      case .message(let message): self.reply(handle, message)
      case .failure(let error): fail(handle, error)
      }
    case .parts(let handle):
      if case .failure(let error) = outcome { fail(handle, error) } else { finish(handle, .ok) }
    case .memberList(let handle):
      if case .failure(let error) = outcome { fail(handle, error) } else { replyMembers(handle) }
    case .page(let respond), .own(let respond): respond(outcome)
    case .keepAlive(let stream): keepAliveAnswered(stream, outcome)
    case .snapshot(let handle):
      if case .failure(let error) = outcome { fail(handle, error) }
    case .forwarded(let request): outlets.answerForwarded(request, outcome)
    case .memberChange(let handle, let change): memberChangeEnded(handle, change, outcome)
    }
  }

  /// From here on it is a long read: no time limit of the member, and an end with its client.
  func deferred(_ id: UInt64) {
    guard let handle = waiters[id]?.handle else { return }
    waiters.keepWithoutDeadline(id)
    (handle.call.userData as? CallBox)?.longRead = id
  }

  func fail(_ id: UInt64, _ error: EtcdError) {
    if let entry = waiters.take(id) { answer(entry.waiter, .failure(error)) }
  }

  func expire(_ entry: WaiterTable.Entry) {
    if entry.isWrite { metrics.server.proposalsFailed.increment() }
    answer(entry.waiter, .failure(timeoutCause.error(startedAt: entry.startedAt)))
  }

  var timeoutCause: TimeoutCause {
    let members = storeStatus.membership.members
    return TimeoutCause(
      member: settings.member, leader: softState.leader,
      voters: members.filter { !$0.isLearner }.map(\.id), links: reconfiguration.links,
      electedAt: electedAt, electionTimeout: UInt64(settings.electionTicks) * settings.tickInterval)
  }

  /// The client's own deadline has passed. The outcome of a write is unknown then: it must not be
  /// told so with a status that clients take as leave to send it again.
  func endOverdue(_ id: UInt64, _ entry: WaiterTable.Entry) {
    guard let handle = entry.waiter.handle else { return }
    switch entry.waiter {
    case .snapshot: outlets.streamer.send(.close(id: id))
    case .parts: outlets.store.send(.endRead(id: id))
    case .call(let handle) where handle.method == .range:
      outlets.store.send(.endRead(id: id))
    default: break
    }
    if entry.isWrite { fail(handle, .timeout) } else { fail(handle, .deadlineExceeded) }
  }

  /// Sends one part of a range; the store reads the next when the client has nearly taken this.
  func sendPart(_ id: UInt64, _ message: Bytes) {
    guard case .parts(let handle)? = waiters[id] else { return }
    handle.call.send(message: message)
    handle.connection.touch()
    if handle.call.queuedBytes < sessionConfiguration.writableLowBytes {
      outlets.store.send(.continueRangeStream(id: id))
    }
  }

  // MARK: - Checks before any handler

  /// What etcd's interceptors refuse, in their order.
  private func refusal(of handle: CallHandle) -> GRPCStatus? {
    let call = handle.call
    if isShuttingDown { return GRPCStatus(.stopped) }
    if let deadline = call.deadline, deadline <= executor.now {
      return GRPCStatus(.deadlineExceeded)
    }
    // A range must be serializable, which its message tells.
    if isLearner, ![.range, .status, .snapshot].contains(handle.method) {
      return GRPCStatus(.learnerUnsupported)
    }
    switch handle.method {
    case .healthCheck, .healthWatch, .healthList: return nil
    default: break
    }
    if let version = call.fields.firstBytes("client-api-version"),
      String(validating: version, as: UTF8.self) == nil
    {
      return GRPCStatus(.invalidClientAPIVersion)
    }
    if call.metadata("hasleader") == "true", softState.leader == 0 {
      return GRPCStatus(.noLeader)
    }
    return nil
  }
}

typealias StoreOutcome = StoreReply.Outcome

/// What a call carries through the session: its handle, and which stream it feeds.
final class CallBox {
  let handle: CallHandle
  /// The request of a call that takes one has arrived.
  var hasRequest = false
  var requestBytes = 0
  /// The message of a short request, for the log if it turns out to be slow.
  var request: Bytes?
  /// It is kept as the entry that it has become.
  var requestIsEntry = false
  /// Its request waits for its token; what arrives behind it waits as well.
  var isParked = false
  var behindParked: [Bytes] = []
  var watchStream: UInt64?
  var keepAlive: UInt64?
  var snapshot: UInt64?
  var rangeStream: UInt64?
  /// A read that may take long, and need not go on if nobody waits for it.
  var longRead: UInt64?
  var concurrency: UInt64?

  init(_ handle: CallHandle) { self.handle = handle }
}

extension GRPCStatus {
  /// The two sides name the same seventeen codes.
  init(_ error: EtcdError) {
    self.init(Code(rawValue: error.code.rawValue) ?? .unknown, error.message)
  }
}

extension GatewayMethod {
  /// Where the method's counters are.
  var metricsIndex: Int { Self.metricsIndexes[rawValue] }

  private static let metricsIndexes: [Int] = {
    let metrics = MemberMetrics()
    return allCases.map { method in
      guard
        let index = metrics.grpc.methods.firstIndex(where: {
          "/\($0.service)/\($0.name)" == method.path
        })
      else { preconditionFailure("no counters for \(method.path)") }
      return index
    }
  }()
}
