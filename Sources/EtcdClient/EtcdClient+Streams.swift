// The streaming calls.

public import EtcdAPI

/// A running watch: its responses, and requests for progress.
public final class WatchStream: AsyncSequence, Sendable {
  public typealias Element = Etcdserverpb_WatchResponse
  public typealias Failure = EtcdClientError
  public typealias Iterator = ResponseStream<Etcdserverpb_WatchResponse>.Iterator

  private let responses: ResponseStream<Etcdserverpb_WatchResponse>
  private let askProgress: @Sendable () -> Void

  init(
    responses: ResponseStream<Etcdserverpb_WatchResponse>,
    askProgress: @escaping @Sendable () -> Void
  ) {
    self.responses = responses
    self.askProgress = askProgress
  }

  /// As ``ResponseStream/next()``: responses with events, progress (neither events nor flags), and
  /// last, if the server ends the watch, one with `canceled`.
  public func next() async throws(EtcdClientError) -> Etcdserverpb_WatchResponse? {
    try await responses.next()
  }

  public func makeAsyncIterator() -> Iterator { responses.makeAsyncIterator() }

  /// Asks the server for a progress response, which it sends only if the watch is caught up.
  public func requestProgress() { askProgress() }

  public func cancel() { responses.cancel() }
}

extension EtcdClient {
  /// Starts a watch that survives lost connections: it goes on, at another member if need be,
  /// after the last revision delivered. Creation answers are not passed on.
  public func watch(
    _ request: Etcdserverpb_WatchCreateRequest, endpoint: Endpoint? = nil,
    requireLeader: Bool = false
  ) throws(EtcdClientError) -> WatchStream {
    let buffer = ResponseBuffer<Etcdserverpb_WatchResponse>(capacity: options.streamBufferMax)
    let operation = WatchOperation(
      pool: core.pool, request: request, endpoint: endpoint,
      metadata: metadata(CallOptions(requireLeader: requireLeader)), buffer: buffer)
    guard core.submit({ operation.begin() }) else { throw EtcdClientError.closed }
    let core = self.core
    let responses = ResponseStream(
      buffer: buffer, resume: { _ = core.submit { operation.resume() } },
      stop: { _ = core.submit { operation.cancel(.cancelled) } })
    return WatchStream(responses: responses) {
      _ = core.submit { operation.requestProgress() }
    }
  }

  /// Renews a lease every third of its TTL. The stream ends regularly when the lease is gone, or
  /// when its time has passed without a confirmed renewal. Never waits for the reader.
  public func leaseKeepAlive(
    id: Int64
  ) throws(EtcdClientError) -> ResponseStream<Etcdserverpb_LeaseKeepAliveResponse> {
    try keepAlive(id: id, isOnce: false)
  }

  /// Renews a lease once.
  ///
  /// - Throws: `etcdserver: requested lease not found` if it is gone.
  public func leaseKeepAliveOnce(
    id: Int64
  ) async throws(EtcdClientError) -> Etcdserverpb_LeaseKeepAliveResponse {
    let stream = try keepAlive(id: id, isOnce: true)
    guard let response = try await stream.next() else {
      throw EtcdClientError(.internal, "the keep-alive stream ended without an answer")
    }
    return response
  }

  private func keepAlive(
    id: Int64, isOnce: Bool
  ) throws(EtcdClientError) -> ResponseStream<Etcdserverpb_LeaseKeepAliveResponse> {
    var request = Etcdserverpb_LeaseKeepAliveRequest()
    request.id = id
    let payload = try encode(request)
    let buffer = ResponseBuffer<Etcdserverpb_LeaseKeepAliveResponse>(
      capacity: options.streamBufferMax)
    let operation = KeepAliveOperation(
      pool: core.pool, payload: payload, metadata: metadata(CallOptions()), isOnce: isOnce,
      buffer: buffer)
    guard core.submit({ operation.begin() }) else { throw EtcdClientError.closed }
    let core = self.core
    return ResponseStream(
      buffer: buffer, resume: { _ = core.submit { operation.resume() } },
      stop: { _ = core.submit { operation.cancel(.cancelled) } })
  }

  /// Streams a database image: chunks, then a last one with the SHA-256 of all before it.
  ///
  /// - Parameter timeout: of the whole stream; `standard` means none here.
  public func snapshot(
    endpoint: Endpoint? = nil, timeout: CallOptions.Timeout = .never
  ) throws(EtcdClientError) -> ResponseStream<Etcdserverpb_SnapshotResponse> {
    let payload = try encode(Etcdserverpb_SnapshotRequest())
    let buffer = ResponseBuffer<Etcdserverpb_SnapshotResponse>(capacity: options.streamBufferMax)
    let operation = DownloadOperation(pool: core.pool, buffer: buffer)
    let metadata = metadata(CallOptions())
    let limit = timeout == .standard ? nil : limit(timeout)
    let isAccepted = core.submit {
      operation.begin(
        .snapshot, payload: payload, endpoint: endpoint, metadata: metadata, timeout: limit)
    }
    guard isAccepted else { throw EtcdClientError.closed }
    let core = self.core
    return ResponseStream(
      buffer: buffer, resume: { _ = core.submit { operation.resume() } },
      stop: { _ = core.submit { operation.cancel(.cancelled) } })
  }
}
