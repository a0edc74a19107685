// The libuv loop as a serial executor: sockets, timers and actors share one thread.

import CLibUV
import Glibc
import Synchronization

/// libuv could not set up a loop.
public struct EventLoopError: Error, Sendable, Equatable, CustomStringConvertible {
  public let errno: Int32
  public var description: String { "create event loop: \(errnoText(errno))" }
}

/// A libuv loop that runs Swift jobs, inbox drains and closures between its I/O callbacks.
///
/// **One turn**, in order: (1) due timers; (2) the end of the turn: queued work in FIFO order up to
/// a budget, then every ``onTurnEnd(_:)`` hook, and both again (at most four rounds) while hooks
/// leave new work behind; (3) the wait for I/O, which does not block if work is left over;
/// (4) I/O, wake-up, signal and child callbacks; (5) close callbacks. So the hooks run after all
/// callbacks of (4), (5) and (1) and after the work these have queued, just before the loop blocks.
/// Where thousands of sockets are ready at once, work and hooks run after every
/// ``readsBetweenHooksMax`` of them, too: what the first have brought does not wait for the last.
///
/// Work queued on the loop thread costs no system call: the loop drains before it blocks. Work from
/// other threads wakes the loop only if it may be blocked, once.
///
/// Work that arrives after ``run()`` has returned is dropped. Whoever opens something on a loop must
/// run it, if only to close it.
///
/// The thread that made the loop counts as the loop thread until ``run()`` is called, so that a
/// program can open its listeners first. State outside `shared` is touched on the loop thread only,
/// which `preconditionOnLoop` checks; hence the unchecked conformance.
public final class EventLoop: ActorExecutor, @unchecked Sendable {
  /// Work items run per turn before sockets are polled again.
  public static let itemsPerTurnMax = 4096
  /// Time spent on work items per turn before sockets are polled again.
  public static let workNanosecondsPerTurnMax: UInt64 = 4_000_000
  private static let roundsPerTurnMax = 4
  /// Time for the work that is still queued when everything has been closed.
  private static let farewellNanosecondsMax: UInt64 = 50_000_000
  private static let farewellRoundsMax = 8
  static let readBufferBytes = 256 * 1024

  private struct Shared {
    var items: ContiguousArray<WorkItem> = []
    /// The loop blocks, or may do so without looking at `items` again.
    var asleep = false
    var stopRequested = false
    var finished = false
  }

  private struct Budget {
    var items = EventLoop.itemsPerTurnMax
    let deadline: UInt64

    func mustReadClock(after item: WorkItem) -> Bool {
      if case .drain = item { true } else { items % 64 == 0 }
    }
  }

  private let shared = Mutex(Shared())
  private let owner: Atomic<UInt>
  let uv: UnsafeMutablePointer<uv_loop_t>
  private let wake: UnsafeMutablePointer<uv_async_t>
  private let prepare: UnsafeMutablePointer<uv_prepare_t>
  private let idle: UnsafeMutablePointer<uv_idle_t>
  /// Shared by all streams of the loop: valid during one read callback.
  let readBuffer: UnsafeMutableRawPointer

  // Loop thread only.
  private var batch: ContiguousArray<WorkItem> = []
  private var batchHead = 0
  private var idleActive = false
  private var hooks: ContiguousArray<() -> Void> = []
  /// Sockets read before what they brought is seen to. Fewer cost a sync of the log, and messages to
  /// followers, more often.
  public var readsBetweenHooksMax = 512
  private var readsSinceHooks = 0
  private var resources: [UInt64: any LoopResource] = [:]
  private var lastResource: UInt64 = 0
  private let thread = Mutex<pthread_t?>(nil)

  /// Makes a loop; the process ignores SIGPIPE from then on.
  public init() throws(EventLoopError) {
    signal(SIGPIPE, SIG_IGN)
    owner = Atomic(currentThreadID())
    uv = .allocate(capacity: 1)
    wake = .allocate(capacity: 1)
    prepare = .allocate(capacity: 1)
    idle = .allocate(capacity: 1)
    readBuffer = .allocate(byteCount: Self.readBufferBytes, alignment: 16)
    var status = uv_loop_init(uv)
    if status == 0 {
      status = uv_async_init(uv, wake, eventLoopWoken)
      // Without handles a loop closes at once.
      if status != 0 { uv_loop_close(uv) }
    }
    guard status == 0 else {
      uv.deallocate()
      wake.deallocate()
      prepare.deallocate()
      idle.deallocate()
      readBuffer.deallocate()
      throw EventLoopError(errno: -status)
    }
    uv_prepare_init(uv, prepare)
    uv_idle_init(uv, idle)
    prepare.pointee.data = Unmanaged.passUnretained(self).toOpaque()
    uv_prepare_start(prepare, eventLoopPrepares)
  }

  deinit {
    // Resources keep the loop alive, so only its own three handles are left.
    precondition(resources.isEmpty)
    uv_prepare_stop(prepare)
    uv_close(asHandle(wake), nil)
    uv_close(asHandle(prepare), nil)
    uv_close(asHandle(idle), nil)
    uv_run(uv, UV_RUN_DEFAULT)
    let status = uv_loop_close(uv)
    precondition(status == 0, "event loop closed with handles open")
    idle.deallocate()
    prepare.deallocate()
    wake.deallocate()
    uv.deallocate()
    readBuffer.deallocate()
  }

  // MARK: Life

  /// Runs on the calling thread until ``stop()``, then closes whatever is still open. Call once.
  public func run() {
    owner.store(currentThreadID(), ordering: .relaxed)
    uv_run(uv, UV_RUN_DEFAULT)
    // The farewell work may open something again, though not for ever.
    for _ in 0..<Self.farewellRoundsMax {
      closeResources()
      var budget = Budget(
        items: .max, deadline: monotonicNanoseconds() + Self.farewellNanosecondsMax)
      _ = drain(&budget)
      if resources.isEmpty { break }
    }
    hooks.removeAll()
    shared.withLock { shared in
      shared.finished = true
      shared.asleep = false
      shared.items = []
    }
    batch = []
    batchHead = 0
    owner.store(0, ordering: .relaxed)
  }

  private func closeResources() {
    for (_, resource) in resources.sorted(by: { $0.key < $1.key }) { resource.loopWillClose() }
    // Close callbacks run here, and the work that they leave behind. A repeated request to stop
    // must not turn the wait for a name lookup into polling.
    while !resources.isEmpty {
      shared.withLock { $0.stopRequested = false }
      uv_run(uv, UV_RUN_ONCE)
    }
  }

  /// Runs the loop on a new thread. Call instead of ``run()``.
  public func start(name: String) throws(ThreadError) {
    owner.store(0, ordering: .relaxed)
    let started = try startThread(name: name) { self.run() }
    thread.withLock { $0 = started }
  }

  /// Asks the loop to end after the current turn. Any thread; idempotent.
  public func stop() {
    let mustWake = shared.withLock { shared in
      shared.stopRequested = true
      return Self.claimWake(&shared)
    }
    if mustWake && !isCurrent { uv_async_send(wake) }
  }

  /// Stops a loop begun with ``start(name:)`` and waits for its thread. Not on the loop thread.
  public func stopAndJoin() {
    precondition(!isCurrent, "the loop thread cannot join itself")
    stop()
    guard let started = thread.withLock({ $0.take() }) else { return }
    pthread_join(started, nil)
  }

  // MARK: Executor

  /// True on the loop thread.
  public var isCurrent: Bool { owner.load(ordering: .relaxed) == currentThreadID() }

  /// Nanoseconds of the monotonic clock, read now. Any thread.
  public var now: UInt64 { monotonicNanoseconds() }

  public func schedule(_ drain: any InboxDrain) { append(.drain(drain)) }

  public func execute(_ body: @escaping @Sendable () -> Void) { append(.closure(body)) }

  public func enqueue(_ job: consuming ExecutorJob) { append(.job(UnownedJob(job))) }

  public func isIsolatingCurrentContext() -> Bool? { isCurrent }

  public func checkIsolated() { preconditionOnLoop() }

  /// Traps unless the caller is on the loop thread.
  public func preconditionOnLoop() { precondition(isCurrent, "not on the loop thread") }

  /// Adds a hook that runs at the end of every turn (see the type's description) until the loop
  /// has stopped. Loop thread only. Hooks run in the order in which they were added; they may be
  /// called when there is nothing to do, and more than once per turn.
  public func onTurnEnd(_ hook: @escaping () -> Void) {
    preconditionOnLoop()
    hooks.append(hook)
  }

  private func append(_ item: WorkItem) {
    let mustWake = shared.withLock { shared in
      if shared.finished { return false }
      shared.items.append(item)
      return Self.claimWake(&shared)
    }
    // On the loop thread a callback is running, and the end of the turn is still to come.
    if mustWake && !isCurrent { uv_async_send(wake) }
  }

  private static func claimWake(_ shared: inout Shared) -> Bool {
    let asleep = shared.asleep
    shared.asleep = false
    return asleep
  }

  // MARK: End of a turn

  fileprivate func endTurn() {
    var budget = Budget(deadline: monotonicNanoseconds() + Self.workNanosecondsPerTurnMax)
    var mayBlock = false
    var mustStop = false
    for _ in 0..<Self.roundsPerTurnMax {
      let emptied = drain(&budget)
      runHooks()
      (mayBlock, mustStop) = shared.withLock { shared in
        shared.asleep = emptied && shared.items.isEmpty
        return (shared.asleep, shared.stopRequested)
      }
      if mayBlock || !emptied { break }
    }
    if mustStop { uv_stop(uv) }
    // An active idle handle makes libuv poll without blocking.
    if mayBlock && idleActive {
      uv_idle_stop(idle)
      idleActive = false
    } else if !mayBlock && !idleActive {
      uv_idle_start(idle, eventLoopIdles)
      idleActive = true
    }
  }

  private func runHooks() {
    readsSinceHooks = 0
    var index = 0
    while index < hooks.count {
      hooks[index]()
      index += 1
    }
  }

  /// A socket has been read, and its owner has seen to the bytes. Called last in libuv's callback.
  func didReadSocket() {
    readsSinceHooks += 1
    guard readsSinceHooks >= readsBetweenHooksMax else { return }
    var budget = Budget(deadline: monotonicNanoseconds() + Self.workNanosecondsPerTurnMax)
    _ = drain(&budget)
    runHooks()
  }

  /// Runs queued work; false if the budget ended first.
  private func drain(_ budget: inout Budget) -> Bool {
    let executor = asUnownedSerialExecutor()
    while true {
      if batchHead == batch.count {
        // Most turns find nothing here.
        if batchHead > 0 { batch.removeAll(keepingCapacity: true) }
        batchHead = 0
        shared.withLock { shared in
          swap(&shared.items, &batch)
          shared.asleep = false
        }
        if batch.isEmpty { return true }
      }
      while batchHead < batch.count {
        if budget.items <= 0 { return false }
        let item = batch[batchHead]
        batchHead += 1
        item.run(on: executor)
        budget.items -= 1
        // A drain may be long, so the clock is read after each; other work is mostly short.
        if budget.mustReadClock(after: item), monotonicNanoseconds() >= budget.deadline {
          budget.items = 0
        }
      }
    }
  }

  // MARK: Resources

  /// Keeps `resource` alive, and closes it when the loop stops, until `unregister`.
  func register(_ resource: any LoopResource) -> UInt64 {
    preconditionOnLoop()
    lastResource += 1
    resources[lastResource] = resource
    return lastResource
  }

  func unregister(_ id: UInt64) {
    let removed = resources.removeValue(forKey: id)
    precondition(removed != nil, "resource closed twice")
  }
}

/// An object with an open libuv handle. The loop owns it until its close callback.
protocol LoopResource: AnyObject {
  /// The loop stops: close the handle, if that is not under way already.
  func loopWillClose()
}

private func eventLoopWoken(_ handle: UnsafeMutablePointer<uv_async_t>?) {
  // Waking up is all it is for: the end of the turn does the work.
}

private func eventLoopIdles(_ handle: UnsafeMutablePointer<uv_idle_t>?) {}

private func eventLoopPrepares(_ handle: UnsafeMutablePointer<uv_prepare_t>?) {
  guard let data = handle?.pointee.data else { return }
  Unmanaged<EventLoop>.fromOpaque(data).takeUnretainedValue().endTurn()
}

func asHandle<Handle>(_ pointer: UnsafeMutablePointer<Handle>) -> UnsafeMutablePointer<uv_handle_t>
{
  UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: uv_handle_t.self)
}

/// Frees a handle that belongs to no object, or to none any more. For use as a close callback.
func freeClosedHandle(_ handle: UnsafeMutablePointer<uv_handle_t>?) {
  UnsafeMutableRawPointer(handle)?.deallocate()
}
