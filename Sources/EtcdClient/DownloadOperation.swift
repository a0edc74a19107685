// A call with one request and a stream of answers.

import Actors
import EtcdAPI
import HTTP
import SwiftProtobuf

/// Receives a server stream once; it is not repeated, since its parts belong together. Loop thread
/// only, checked; hence the unchecked conformance.
final class DownloadOperation<Response: Message & Sendable>: ClientOperation, @unchecked Sendable {
  private let pool: ChannelPool
  private let buffer: ResponseBuffer<Response>
  private var stream: MessageStream?
  private var timer: LoopTimer?
  private var operationID: UInt64 = 0
  private var isFinished = false

  init(pool: ChannelPool, buffer: ResponseBuffer<Response>) {
    self.pool = pool
    self.buffer = buffer
  }

  func begin(
    _ method: EtcdMethod, payload: [UInt8], endpoint: Endpoint?, metadata: [HTTPField],
    timeout: Duration?
  ) {
    operationID = pool.add(self)
    if let timeout {
      let timer = LoopTimer(loop: pool.loop) { self.finish(.deadlineExceeded()) }
      timer.schedule(afterMilliseconds: timeout.clampedMilliseconds)
      self.timer = timer
    }
    let stream = MessageStream(pool: pool)
    self.stream = stream
    stream.open(
      method, endpoint: endpoint, metadata: metadata, first: payload, isHalfClosed: true,
      onMessage: { self.received($0) },
      onEnd: { self.finish($0.isOK ? nil : EtcdClientError($0)) })
  }

  func cancel(_ error: EtcdClientError) { finish(error) }

  func resume() { stream?.resume() }

  private func received(_ bytes: UnsafeRawBufferPointer) {
    guard let response = try? Response(serializedBytes: RawSpan(_unsafeBytes: bytes)) else {
      return finish(EtcdClientError(.internal, "a response cannot be decoded"))
    }
    if !buffer.push(response) { stream?.pause() }
  }

  private func finish(_ error: EtcdClientError?) {
    pool.loop.preconditionOnLoop()
    guard !isFinished else { return }
    isFinished = true
    buffer.finish(error)
    timer?.cancel()
    timer = nil
    stream?.cancel()
    stream = nil
    pool.remove(operationID)
  }
}
