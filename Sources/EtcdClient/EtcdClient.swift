// The client: construction, life, and the way of a call from a task to the loop.

public import Actors
import EtcdAPI
import HTTP
import SwiftProtobuf
import Synchronization

/// A client of an etcd cluster: async calls over HTTP/2 connections on one event loop.
///
/// Any thread. Calls go round robin over the endpoints that are connected and wait while none is.
/// Reads are repeated elsewhere when a member is unavailable; changes only if they were certainly
/// not looked at. Cancelling a task ends its call. Close the client when it is not needed any more;
/// dropping it does the same.
public final class EtcdClient: Sendable {
  public let endpoints: [Endpoint]
  public let options: EtcdClientOptions
  let core: ClientCore

  /// Makes a client; connections are opened by the first call.
  ///
  /// - Parameter loop: shared with others and run by somebody else; nil starts a thread.
  /// - Throws: ``EtcdClientError`` without endpoints, or if the thread cannot be started.
  public init(
    endpoints: [Endpoint], options: EtcdClientOptions = EtcdClientOptions(),
    loop: EventLoop? = nil
  ) throws(EtcdClientError) {
    guard !endpoints.isEmpty else { throw EtcdClientError.noEndpoints }
    self.endpoints = endpoints
    self.options = options
    do {
      let own = try loop ?? EventLoop()
      if loop == nil { try own.start(name: "etcd-client") }
      core = ClientCore(
        pool: ChannelPool(endpoints: endpoints, options: options, loop: own),
        ownsLoop: loop == nil)
    } catch {
      throw EtcdClientError(.internal, "start the client: \(error)")
    }
  }

  deinit { core.close() }

  /// Ends all calls and connections. Idempotent; returns at once.
  public func close() { core.close() }

  // MARK: Calls

  func deadline(_ timeout: CallOptions.Timeout) -> UInt64? {
    guard let limit = limit(timeout) else { return nil }
    let (sum, overflow) = monotonicNanoseconds().addingReportingOverflow(limit.clampedNanoseconds)
    return overflow ? nil : sum
  }

  func limit(_ timeout: CallOptions.Timeout) -> Duration? {
    switch timeout {
    case .standard: options.requestTimeout
    case .never: nil
    case .after(let duration): duration
    }
  }

  func metadata(_ call: CallOptions) -> [HTTPField] {
    options.requireLeader || call.requireLeader ? [HTTPField("hasleader", "true")] : []
  }

  func encode(_ request: some Message) throws(EtcdClientError) -> [UInt8] {
    let bytes: [UInt8]
    do {
      bytes = try request.serializedBytes()
    } catch {
      throw EtcdClientError(.internal, "the request cannot be encoded: \(error)")
    }
    guard bytes.count <= options.sendMessageBytesMax else {
      throw EtcdClientError(
        .resourceExhausted,
        "trying to send message larger than max (\(bytes.count) vs. "
          + "\(options.sendMessageBytesMax))")
    }
    return bytes
  }

  func unary<Response: Message>(
    _ method: EtcdMethod, _ request: some Message, _ call: CallOptions,
    as: Response.Type = Response.self
  ) async throws(EtcdClientError) -> Response {
    let payload = try encode(request)
    let deadline = deadline(call.timeout)
    let bytes = try await core.unary(
      method, payload, endpoint: call.endpoint, metadata: metadata(call), deadline: deadline)
    do {
      return try Response(serializedBytes: bytes)
    } catch {
      throw EtcdClientError(.internal, "the answer cannot be decoded: \(error)")
    }
  }
}

/// What calls share: the pool, and whether it still takes any. Any thread.
final class ClientCore: Sendable {
  let pool: ChannelPool
  private let ownsLoop: Bool
  private let isClosed = Mutex(false)

  init(pool: ChannelPool, ownsLoop: Bool) {
    self.pool = pool
    self.ownsLoop = ownsLoop
  }

  /// Runs `body` on the loop; false if the client is closed.
  func submit(_ body: @escaping @Sendable () -> Void) -> Bool {
    // Under the lock, so that the end of the pool is queued after every accepted body.
    isClosed.withLock { isClosed in
      guard !isClosed else { return false }
      pool.loop.execute(body)
      return true
    }
  }

  func close() {
    let wasClosed = isClosed.withLock { isClosed in
      defer { isClosed = true }
      if !isClosed { pool.loop.execute { [pool] in pool.close() } }
      return isClosed
    }
    // Work that is queued before the stop is still done.
    if !wasClosed && ownsLoop { pool.loop.stop() }
  }

  func unary(
    _ method: EtcdMethod, _ payload: [UInt8], endpoint: Endpoint?, metadata: [HTTPField],
    deadline: UInt64?
  ) async throws(EtcdClientError) -> [UInt8] {
    let handle = CancellationHandle()
    let outcome = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let operation = UnaryOperation(
          pool: pool, method: method, payload: payload, endpoint: endpoint, metadata: metadata,
          deadline: deadline
        ) { continuation.resume(returning: $0) }
        let isAccepted = submit {
          operation.begin()
        }
        if isAccepted {
          handle.set { [self] in _ = submit { operation.cancel(.cancelled) } }
        } else {
          continuation.resume(returning: UnaryOperation.Outcome.failure(.closed))
        }
      }
    } onCancel: {
      handle.cancel()
    }
    return try outcome.get()
  }
}

/// Joins a task's cancellation with an operation, whichever comes first. Any thread.
final class CancellationHandle: Sendable {
  private enum State {
    case empty
    case set(@Sendable () -> Void)
    case cancelled
  }

  private let state = Mutex(State.empty)

  func set(_ action: @escaping @Sendable () -> Void) {
    let isCancelled = state.withLock { state in
      if case .cancelled = state { return true }
      state = .set(action)
      return false
    }
    if isCancelled { action() }
  }

  func cancel() {
    let action = state.withLock { state -> (@Sendable () -> Void)? in
      defer { state = .cancelled }
      if case .set(let action) = state { return action }
      return nil
    }
    action?()
  }
}
