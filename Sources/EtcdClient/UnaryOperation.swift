// One unary call with its attempts.

import Actors
import EtcdAPI
import HTTP

/// What happens after a failed attempt.
///
/// etcd's rules, with one difference: a change whose outcome is unknown is never sent again, not
/// even if the server answered `DeadlineExceeded` or `Canceled`.
enum RetryRule {
  static let attemptsMax = 100
  static let pauseMilliseconds = 25

  /// - Parameters:
  ///   - isSafe: repeating the call cannot change anything twice.
  ///   - hasOthers: another attempt may reach another member.
  static func retries(_ status: GRPCStatus, isSafe: Bool, hasOthers: Bool) -> Bool {
    // The server has stated that it has not looked at the call.
    if status == refused { return true }
    guard isSafe else { return false }
    switch status.code {
    case .unavailable, .deadlineExceeded, .cancelled: return true
    case .failedPrecondition:
      return hasOthers && status.message == EtcdError.learnerUnsupported.message
    default: return false
    }
  }

  private static let refused = GRPCStatus(
    GRPCStatus.code(forHTTP2Error: 7), "stream terminated by RST_STREAM with error code: 7")

  /// Endpoints are tried one after the other; after each quorum of them there is a pause.
  static func pauses(afterAttempt attempt: Int, endpoints: Int) -> Bool {
    attempt % (endpoints / 2 + 1) == 0
  }
}

/// A unary call: picks connections, repeats attempts, keeps the deadline. Loop thread only,
/// checked; hence the unchecked conformance.
final class UnaryOperation: ClientOperation, @unchecked Sendable {
  typealias Outcome = Result<[UInt8], EtcdClientError>

  private let pool: ChannelPool
  private let method: EtcdMethod
  private let payload: [UInt8]
  private let endpoint: Endpoint?
  private let metadata: [HTTPField]
  /// Absolute, on the loop's clock.
  private let deadline: UInt64?
  private var completion: ((Outcome) -> Void)?
  private var operationID: UInt64 = 0
  private var attempts = 0
  private var refreshes = 0
  private var pick: Pick?
  private var call: ClientCall?
  private var transport: Transport?
  private var response: [UInt8]?
  private var timer: LoopTimer?
  private var pause: LoopTimer?

  init(
    pool: ChannelPool, method: EtcdMethod, payload: [UInt8], endpoint: Endpoint?,
    metadata: [HTTPField], deadline: UInt64?, completion: @escaping (Outcome) -> Void
  ) {
    self.pool = pool
    self.method = method
    self.payload = payload
    self.endpoint = endpoint
    self.metadata = metadata
    self.deadline = deadline
    self.completion = completion
  }

  func begin() {
    operationID = pool.add(self)
    if let deadline {
      let now = pool.loop.now
      guard deadline > now else { return cancel(.deadlineExceeded()) }
      let timer = LoopTimer(loop: pool.loop) {
        self.cancel(
          .deadlineExceeded(self.call == nil ? self.pool.connectionError(self.endpoint) : nil))
      }
      let milliseconds = (deadline - now) / 1_000_000 + 1
      timer.schedule(afterMilliseconds: Int(clamping: min(milliseconds, UInt64(Int32.max))))
      self.timer = timer
    }
    attempt()
  }

  func cancel(_ error: EtcdClientError) {
    pool.loop.preconditionOnLoop()
    finish(.failure(error))
  }

  private func attempt() {
    attempts += 1
    pick = pool.pick(endpoint) { self.start(on: $0) }
  }

  private func start(on transport: Transport) {
    let now = pool.loop.now
    if let deadline, deadline <= now { return cancel(.deadlineExceeded()) }
    let call = transport.startCall(
      path: method.path, metadata: metadata + ownFields,
      timeoutNanoseconds: deadline.map { $0 - now })
    self.call = call
    self.transport = transport
    response = nil
    call.onMessage = { self.response = Array($0) }
    call.onEnd = { status, _ in self.attemptEnded(status) }
    call.send(message: payload)
    call.halfClose()
    transport.scheduleFlush()
  }

  private var ownFields: [HTTPField] { method == .authenticate ? [] : pool.tokens.fields }

  /// Gets a new token after this refusal, and tries again.
  /// - Returns: whether that is under way.
  private func refreshes(after status: GRPCStatus) -> Bool {
    guard method != .authenticate, refreshes < TokenSource.refreshesMax,
      pool.tokens.helps(against: status.message)
    else { return false }
    refreshes += 1
    // Never from within the session that has just reported the end.
    let pause = LoopTimer(loop: pool.loop) {
      self.pool.tokens.logIn(with: self.pool, deadline: self.deadline) { failure in
        guard self.completion != nil else { return }
        if failure == nil { self.attempt() } else { self.finish(.failure(EtcdClientError(status))) }
      }
    }
    pause.schedule(afterMilliseconds: 0)
    self.pause = pause
    return true
  }

  private func attemptEnded(_ status: GRPCStatus) {
    call = nil
    guard completion != nil else { return }
    if status.isOK {
      if let response { return finish(.success(response)) }
      return finish(.failure(EtcdClientError(.internal, "the answer has no message")))
    }
    if refreshes(after: status) { return }
    let hasOthers = endpoint == nil && pool.endpointCount > 1
    guard attempts < RetryRule.attemptsMax,
      RetryRule.retries(status, isSafe: method.isSafe, hasOthers: hasOthers)
    else { return finish(.failure(EtcdClientError(status))) }
    let endpoints = endpoint == nil ? pool.endpointCount : 1
    let mustPause = RetryRule.pauses(afterAttempt: attempts, endpoints: endpoints)
    // Never from within the session that has just reported the end.
    let pause = LoopTimer(loop: pool.loop) { self.attempt() }
    let jitter = RetryRule.pauseMilliseconds / 10
    pause.schedule(
      afterMilliseconds: mustPause
        ? RetryRule.pauseMilliseconds + Int.random(in: -jitter...jitter) : 0)
    self.pause = pause
  }

  private func finish(_ outcome: Outcome) {
    guard let completion else { return }
    self.completion = nil
    pick?.cancel()
    timer?.cancel()
    pause?.cancel()
    pick = nil
    timer = nil
    pause = nil
    pool.remove(operationID)
    if let call {
      call.cancel()
      transport?.scheduleFlush()
    }
    call = nil
    transport = nil
    completion(outcome)
  }
}
