// What a streaming call hands to its reader: an asynchronous sequence with a bounded buffer.

import Synchronization

/// Elements on their way from the loop to one reader. Any thread.
final class ResponseBuffer<Element: Sendable>: Sendable {
  private typealias Waiter = CheckedContinuation<Result<Element?, EtcdClientError>, Never>

  private struct State {
    var elements: [Element] = []
    var head = 0
    var waiter: Waiter?
    var end: Result<Element?, EtcdClientError>?
    var isFull = false

    var count: Int { elements.count - head }

    mutating func pop() -> Element? {
      guard head < elements.count else { return nil }
      let element = elements[head]
      head += 1
      if head == elements.count || head >= 64 {
        elements.removeFirst(head)
        head = 0
      }
      return element
    }
  }

  private let state = Mutex(State())
  private let capacity: Int

  init(capacity: Int) {
    self.capacity = max(capacity, 1)
  }

  /// Adds an element; false once the buffer is full: the source must stop until `next` says that
  /// there is room again.
  func push(_ element: Element) -> Bool {
    let (waiter, hasRoom) = state.withLock { state -> (Waiter?, Bool) in
      guard state.end == nil else { return (nil, true) }
      if let waiter = state.waiter.take() { return (waiter, true) }
      state.elements.append(element)
      if state.count >= capacity { state.isFull = true }
      return (nil, !state.isFull)
    }
    waiter?.resume(returning: .success(element))
    return hasRoom
  }

  /// Ends the sequence after the elements that are still buffered; nil for a regular end.
  func finish(_ error: EtcdClientError?) {
    let end: Result<Element?, EtcdClientError> = error.map { .failure($0) } ?? .success(nil)
    let waiter = state.withLock { state -> Waiter? in
      guard state.end == nil else { return nil }
      state.end = end
      return state.waiter.take()
    }
    waiter?.resume(returning: end)
  }

  /// The next element; the flag says that a full buffer has room again.
  func next() async -> (Result<Element?, EtcdClientError>, hasRoomAgain: Bool) {
    if let ready = takeReady() { return ready }
    let result = await withCheckedContinuation { (continuation: Waiter) in
      let outcome = state.withLock { state -> Result<Element?, EtcdClientError>? in
        precondition(state.waiter == nil, "a response stream has one reader")
        if let element = state.pop() { return .success(element) }
        if let end = state.end { return end }
        state.waiter = continuation
        return nil
      }
      if let outcome { continuation.resume(returning: outcome) }
    }
    return (result, false)
  }

  private func takeReady() -> (Result<Element?, EtcdClientError>, hasRoomAgain: Bool)? {
    state.withLock { state in
      if let element = state.pop() {
        let isRelieved = state.isFull && state.count <= capacity / 2
        if isRelieved { state.isFull = false }
        return (.success(element), isRelieved)
      }
      return state.end.map { ($0, false) }
    }
  }
}

/// The responses of a streaming call, for one reader.
///
/// The buffer between the connection and the reader is bounded: a slow reader makes the server
/// wait. Dropping the stream, or cancelling the task that reads it, ends the call.
public final class ResponseStream<Element: Sendable>: AsyncSequence, Sendable {
  public typealias Failure = EtcdClientError

  private let buffer: ResponseBuffer<Element>
  private let resume: @Sendable () -> Void
  private let stop: @Sendable () -> Void

  /// - Parameters:
  ///   - resume: called when a full buffer has room again.
  ///   - stop: ends the call; idempotent.
  init(
    buffer: ResponseBuffer<Element>, resume: @escaping @Sendable () -> Void,
    stop: @escaping @Sendable () -> Void
  ) {
    self.buffer = buffer
    self.resume = resume
    self.stop = stop
  }

  deinit { stop() }

  /// Waits for the next response; nil at the regular end.
  ///
  /// - Throws: what ended the call; `context canceled` if the reading task is cancelled.
  public func next() async throws(EtcdClientError) -> Element? {
    let (result, hasRoomAgain) = await withTaskCancellationHandler {
      await buffer.next()
    } onCancel: {
      buffer.finish(.cancelled)
      stop()
    }
    if hasRoomAgain { resume() }
    return try result.get()
  }

  /// Ends the call. A reader gets what is buffered, then the error `context canceled`.
  public func cancel() {
    buffer.finish(.cancelled)
    stop()
  }

  public struct Iterator: AsyncIteratorProtocol {
    fileprivate let stream: ResponseStream<Element>

    public mutating func next(
      isolation actor: isolated (any Actor)?
    ) async throws(EtcdClientError) -> Element? {
      try await stream.next()
    }
  }

  public func makeAsyncIterator() -> Iterator { Iterator(stream: self) }
}
