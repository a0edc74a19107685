// The one way in which actors talk to each other: an ordered, bounded queue that is drained in batches.

import Synchronization

/// A bounded first-in, first-out queue of messages for one actor.
///
/// Any thread may send. The first message after a drain schedules the next drain on the receiver's
/// executor, which then hands over everything that has arrived since, in one call:
///
///     inbox.connect(to: loop) { [weak node] batch in
///       node?.assumeIsolated { $0.receive(&batch) }
///     }
///
/// Two buffers are swapped and reused, so a steady flow of messages allocates nothing here.
public final class Inbox<Message: Sendable>: InboxDrain, Sendable {
  /// Receives a batch on the executor. What it leaves in the batch is discarded.
  public typealias Handler = @Sendable (inout ContiguousArray<Message>) -> Void

  private struct Receiver {
    let executor: any ActorExecutor
    let handler: Handler
  }

  private struct State {
    var pending: ContiguousArray<Message> = []
    var spare: ContiguousArray<Message> = []
    var receiver: Receiver?
    var drainDue = false

    /// Marks a drain as due; returns where to schedule it if it was not due already.
    mutating func claimDrain() -> (any ActorExecutor)? {
      guard !drainDue, let receiver else { return nil }
      drainDue = true
      return receiver.executor
    }
  }

  public let name: String
  /// The most messages that may wait; those being handled no longer count.
  public let limit: Int
  /// ``deliverWaiting()``, as it was compiled where the inbox was made. Executors call ``drain()``
  /// through a protocol, and that knows no types.
  private let body: @Sendable (Inbox<Message>) -> Void
  private let state = Mutex(State())

  public init(name: String, limit: Int) {
    precondition(limit > 0, "inbox \(name) needs room for a message")
    self.name = name
    self.limit = limit
    body = { inbox in inbox.deliverWaiting() }
  }

  /// Messages that wait for the next drain. Any thread.
  public var count: Int { state.withLock { $0.pending.count } }

  /// Sets the receiver, once. Messages sent before are delivered in the first batch.
  ///
  /// - Parameter handler: called on `executor`, never twice at a time.
  public func connect(to executor: any ActorExecutor, handler: @escaping Handler) {
    let due = state.withLock { state in
      precondition(state.receiver == nil, "inbox \(name) is already connected")
      state.receiver = Receiver(executor: executor, handler: handler)
      return state.pending.isEmpty ? nil : state.claimDrain()
    }
    due?.schedule(self)
  }

  /// Appends one message. Any thread.
  ///
  /// - Returns: false if the inbox is full; then nothing was enqueued.
  @discardableResult
  public func send(_ message: consuming Message) -> Bool {
    let message = message
    let (accepted, due) = state.withLock { state -> (Bool, (any ActorExecutor)?) in
      guard state.pending.count < limit else { return (false, nil) }
      state.pending.append(message)
      return (true, state.claimDrain())
    }
    due?.schedule(self)
    return accepted
  }

  /// Like ``send(_:)``, but has the message handled on the calling thread before it returns if the
  /// receiver's thread is asleep: two hand-overs between threads are saved. For messages that are
  /// handled in a few microseconds, and from code that no handler of the receiver calls.
  public func sendRunningHere(_ message: consuming Message) {
    let message = message
    let due = state.withLock { state -> (any ActorExecutor)? in
      guard state.pending.count < limit else { return nil }
      state.pending.append(message)
      return state.claimDrain()
    }
    guard let due else { return }
    if !due.runHere(self) { due.schedule(self) }
  }

  /// Like ``send(_:)``, but leaves the drain to ``deliver(here:)``, which has to follow soon. One
  /// thread only; others may send meanwhile.
  public func hold(_ message: consuming Message) {
    let message = message
    state.withLock { state in
      if state.pending.count < limit { state.pending.append(message) }
    }
  }

  /// Has everything handled that ``hold(_:)`` has kept back, if it was not with what others have sent.
  ///
  /// - Parameter here: on the calling thread before it returns, if the receiver's thread is asleep.
  public func deliver(here: Bool) {
    let due = state.withLock { state -> (any ActorExecutor)? in
      state.pending.isEmpty ? nil : state.claimDrain()
    }
    guard let due else { return }
    if !here || !due.runHere(self) { due.schedule(self) }
  }

  /// Appends all messages, next to each other, or none. Any thread.
  ///
  /// - Returns: false if they do not all fit; then nothing was enqueued.
  @discardableResult
  public func send(contentsOf messages: some Collection<Message>) -> Bool {
    let (accepted, due) = state.withLock { state -> (Bool, (any ActorExecutor)?) in
      guard messages.count <= limit - state.pending.count else { return (false, nil) }
      if messages.isEmpty { return (true, nil) }
      state.pending.append(contentsOf: messages)
      return (true, state.claimDrain())
    }
    due?.schedule(self)
    return accepted
  }

  /// Hands everything that waits to the handler. Called by the executor.
  public func drain() { body(self) }

  private func deliverWaiting() {
    let (taken, handler) = state.withLock { state in
      state.drainDue = false
      var taken = ContiguousArray<Message>()
      swap(&taken, &state.pending)
      swap(&state.pending, &state.spare)
      return (taken, state.receiver?.handler)
    }
    guard let handler, !taken.isEmpty else { return }
    var batch = consume taken
    let used = batch.count
    handler(&batch)
    // A buffer that a burst has blown up is let go once the flow is thin again.
    let oversized = batch.capacity > 4096 && used < batch.capacity / 16
    if oversized { return }
    batch.removeAll(keepingCapacity: true)
    state.withLock { state in swap(&state.spare, &batch) }
  }
}
