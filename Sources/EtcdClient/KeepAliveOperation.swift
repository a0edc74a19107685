// Keeping one lease alive.

import Actors
import EtcdAPI
import HTTP
import SwiftProtobuf

/// Renews a lease every third of its TTL until it is gone. Loop thread only, checked; hence the
/// unchecked conformance.
final class KeepAliveOperation: ClientOperation, @unchecked Sendable {
  private static let reopenMilliseconds = 500

  private let pool: ChannelPool
  private let payload: [UInt8]
  private let metadata: [HTTPField]
  private let isOnce: Bool
  private let buffer: ResponseBuffer<Etcdserverpb_LeaseKeepAliveResponse>
  private var stream: MessageStream?
  /// The next renewal, or the next attempt to open the stream.
  private var renewal: LoopTimer?
  /// When the lease must be taken for lost, because no renewal has been confirmed.
  private var expiry: LoopTimer?
  private var operationID: UInt64 = 0
  private var isFinished = false
  private var refreshes = 0

  init(
    pool: ChannelPool, payload: [UInt8], metadata: [HTTPField], isOnce: Bool,
    buffer: ResponseBuffer<Etcdserverpb_LeaseKeepAliveResponse>
  ) {
    self.pool = pool
    self.payload = payload
    self.metadata = metadata
    self.isOnce = isOnce
    self.buffer = buffer
  }

  func begin() {
    operationID = pool.add(self)
    renew()
  }

  func cancel(_ error: EtcdClientError) { finish(error) }

  /// A reader that is behind needs no more answers than it has: the buffer drops none, since one
  /// answer comes per third of a TTL.
  private func received(_ bytes: UnsafeRawBufferPointer) {
    guard
      let response = try? Etcdserverpb_LeaseKeepAliveResponse(
        serializedBytes: RawSpan(_unsafeBytes: bytes))
    else { return finish(EtcdClientError(.internal, "a keep-alive response cannot be decoded")) }
    guard response.ttl > 0 else {
      return finish(isOnce ? EtcdClientError(EtcdError.leaseNotFound) : nil)
    }
    // A reader that never reads must not make this grow: the lease lives on all the same.
    if hasRoom { hasRoom = buffer.push(response) }
    if isOnce { return finish(nil) }
    let ttl = min(response.ttl, Int64(Int32.max) / 1000)
    schedule(after: max(Int(ttl) * 1000 / 3, 100))
    let expiry = self.expiry ?? LoopTimer(loop: pool.loop) { self.finish(nil) }
    expiry.schedule(afterMilliseconds: Int(ttl) * 1000)
    self.expiry = expiry
  }

  private var hasRoom = true

  func resume() { hasRoom = true }

  private func schedule(after milliseconds: Int) {
    let renewal = self.renewal ?? LoopTimer(loop: pool.loop) { self.renew() }
    renewal.schedule(afterMilliseconds: milliseconds)
    self.renewal = renewal
  }

  private func renew() {
    guard !isFinished else { return }
    if let stream { return stream.send(payload) }
    let stream = MessageStream(pool: pool)
    self.stream = stream
    stream.open(
      .leaseKeepAlive, endpoint: nil, metadata: metadata, first: payload, isHalfClosed: false,
      onMessage: { self.received($0) }, onEnd: { self.streamEnded($0) })
  }

  private func streamEnded(_ status: GRPCStatus) {
    stream = nil
    guard !isFinished else { return }
    if refreshes < TokenSource.refreshesMax, pool.tokens.helps(against: status.message) {
      refreshes += 1
      pool.tokens.logIn(with: pool, deadline: nil) { failure in
        guard !self.isFinished else { return }
        if let failure { self.finish(failure) } else { self.schedule(after: 1) }
      }
      return
    }
    let isFinal = status.message == EtcdError.noLeader.message && !metadata.isEmpty
    if isFinal || (isOnce && status.code != .unavailable) {
      return finish(EtcdClientError(status))
    }
    schedule(after: Self.reopenMilliseconds)
  }

  private func finish(_ error: EtcdClientError?) {
    pool.loop.preconditionOnLoop()
    guard !isFinished else { return }
    isFinished = true
    buffer.finish(error)
    renewal?.cancel()
    expiry?.cancel()
    renewal = nil
    expiry = nil
    stream?.cancel()
    stream = nil
    pool.remove(operationID)
  }
}
