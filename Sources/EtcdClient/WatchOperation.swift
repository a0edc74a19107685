// A watch that outlives its connections.

import Actors
import EtcdAPI
import HTTP
import SwiftProtobuf

/// Where a watch has to go on after a reconnect. A pure value.
struct WatchCursor {
  /// The first revision not delivered yet; 0 if nothing is known.
  private(set) var nextRevision: Int64

  init(startRevision: Int64) {
    nextRevision = startRevision
  }

  /// Takes note of a response that the reader will get, or of the creation.
  mutating func observe(_ response: Etcdserverpb_WatchResponse) {
    if let last = response.events.last {
      // Catching up, the header runs ahead of what has been delivered.
      if !response.fragment { nextRevision = max(nextRevision, last.kv.modRevision + 1) }
    } else if response.created {
      if nextRevision == 0 { nextRevision = response.header.revision + 1 }
    } else if !response.canceled {
      nextRevision = max(nextRevision, response.header.revision + 1)
    }
  }
}

/// One watcher on a stream of its own. Loop thread only, checked; hence the unchecked conformance.
final class WatchOperation: ClientOperation, @unchecked Sendable {
  private static let reopenMilliseconds = 100

  private let pool: ChannelPool
  private let request: Etcdserverpb_WatchCreateRequest
  private let endpoint: Endpoint?
  private let metadata: [HTTPField]
  private let buffer: ResponseBuffer<Etcdserverpb_WatchResponse>
  private var cursor: WatchCursor
  private var stream: MessageStream?
  private var pause: LoopTimer?
  private var operationID: UInt64 = 0
  private var isFinished = false
  private var isCreated = false
  private var refreshes = 0

  init(
    pool: ChannelPool, request: Etcdserverpb_WatchCreateRequest, endpoint: Endpoint?,
    metadata: [HTTPField], buffer: ResponseBuffer<Etcdserverpb_WatchResponse>
  ) {
    self.pool = pool
    self.request = request
    self.endpoint = endpoint
    self.metadata = metadata
    self.buffer = buffer
    cursor = WatchCursor(startRevision: max(request.startRevision, 0))
  }

  func begin() {
    operationID = pool.add(self)
    open()
  }

  func cancel(_ error: EtcdClientError) { finish(error) }

  func resume() { stream?.resume() }

  /// Asks for a progress response; lost if the stream is down or not created yet.
  func requestProgress() {
    guard let stream, isCreated else { return }
    var message = Etcdserverpb_WatchRequest()
    message.progressRequest = Etcdserverpb_WatchProgressRequest()
    if let bytes: [UInt8] = try? message.serializedBytes() { stream.send(bytes) }
  }

  private func open() {
    var create = request
    // A negative start is refused by the server: it must see it the first time.
    if cursor.nextRevision > 0 { create.startRevision = cursor.nextRevision }
    var message = Etcdserverpb_WatchRequest()
    message.createRequest = create
    guard let bytes: [UInt8] = try? message.serializedBytes() else {
      return finish(EtcdClientError(.internal, "the watch request cannot be encoded"))
    }
    isCreated = false
    let stream = MessageStream(pool: pool)
    self.stream = stream
    stream.open(
      .watch, endpoint: endpoint, metadata: metadata, first: bytes, isHalfClosed: false,
      onMessage: { self.received($0) }, onEnd: { self.streamEnded($0) })
  }

  private func received(_ bytes: UnsafeRawBufferPointer) {
    guard
      let response = try? Etcdserverpb_WatchResponse(serializedBytes: RawSpan(_unsafeBytes: bytes))
    else { return finish(EtcdClientError(.internal, "a watch response cannot be decoded")) }
    if response.created, response.canceled, reopensWithToken(response.cancelReason) { return }
    if !response.canceled { cursor.observe(response) }
    if response.created, !response.canceled {
      isCreated = true
      return
    }
    if !buffer.push(response) { stream?.pause() }
    if response.canceled { finish(nil) }
  }

  /// Tries again with a new token if the creation was refused for the one it had.
  private func reopensWithToken(_ reason: String) -> Bool {
    let text = reason.text(behind: " desc = ")
    guard refreshes < TokenSource.refreshesMax, pool.tokens.helps(against: text) else {
      return false
    }
    refreshes += 1
    stream?.cancel()
    stream = nil
    let pause = LoopTimer(loop: pool.loop) {
      self.pool.tokens.logIn(with: self.pool, deadline: nil) { failure in
        guard !self.isFinished else { return }
        if let failure { self.finish(failure) } else { self.open() }
      }
    }
    pause.schedule(afterMilliseconds: 0)
    self.pause = pause
    return true
  }

  private func streamEnded(_ status: GRPCStatus) {
    stream = nil
    isCreated = false
    guard !isFinished else { return }
    let isPassing = status.code == .unavailable || status.code == .internal
    guard isPassing, status.message != EtcdError.noLeader.message else {
      return finish(EtcdClientError(status))
    }
    let pause = LoopTimer(loop: pool.loop) { self.open() }
    pause.schedule(afterMilliseconds: Self.reopenMilliseconds)
    self.pause = pause
  }

  private func finish(_ error: EtcdClientError?) {
    pool.loop.preconditionOnLoop()
    guard !isFinished else { return }
    isFinished = true
    buffer.finish(error)
    pause?.cancel()
    pause = nil
    stream?.cancel()
    stream = nil
    pool.remove(operationID)
  }
}

extension String {
  /// What stands behind the first `mark`; all of it if there is none.
  fileprivate func text(behind mark: String) -> String {
    var rest = self[...]
    while !rest.isEmpty {
      if rest.hasPrefix(mark) { return String(rest.dropFirst(mark.count)) }
      rest = rest.dropFirst()
    }
    return self
  }
}
