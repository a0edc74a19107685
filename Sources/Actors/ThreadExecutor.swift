// A serial executor that owns one plain thread: for actors that block on disks or compute for long.

import Glibc
import Synchronization

/// Runs jobs, drains and closures in order on one named thread.
///
/// State outside `shared` is immutable or atomic, which is what makes it safe to share; hence the
/// unchecked conformance. Work that arrives after ``stop()`` has finished is dropped.
public final class ThreadExecutor: ActorExecutor, @unchecked Sendable {
  private struct Shared {
    var items: ContiguousArray<WorkItem> = []
    /// The thread sleeps, or is about to; whoever clears this wakes it.
    var asleep = false
    var stopping = false
    var finished = false
    /// Another thread runs work in the place of the sleeping one.
    var hasGuest = false

    mutating func admitGuest() -> Bool {
      guard asleep, items.isEmpty, !stopping, !hasGuest else { return false }
      hasGuest = true
      return true
    }

    /// Returns whether the thread must be woken for what came meanwhile.
    mutating func dismissGuest() -> Bool {
      hasGuest = false
      return items.isEmpty && !stopping ? false : claimWake()
    }

    mutating func claimWake() -> Bool {
      if hasGuest { return false }
      let wasAsleep = asleep
      asleep = false
      return wasAsleep
    }
  }

  private enum Next { case work, sleep, end }

  public let name: String
  private let owner = Atomic<UInt>(0)
  private let shared = Mutex(Shared())
  // A semaphore wakes with one system call and wakes up with one; a condition variable, which must
  // take its mutex again, needs up to four.
  private let wake: UnsafeMutablePointer<sem_t>
  // Written once, before `init` returns.
  private var thread = pthread_t()
  private let joined = Mutex(false)

  /// Starts the thread.
  ///
  /// - Parameter name: the thread's name; the kernel keeps the first 15 bytes.
  public init(name: String) throws(ThreadError) {
    self.name = name
    wake = .allocate(capacity: 1)
    sem_init(wake, 0, 0)
    // The closure keeps the executor alive for as long as its thread runs.
    thread = try startThread(name: name) { self.runLoop() }
  }

  deinit {
    sem_destroy(wake)
    wake.deallocate()
  }

  /// Finishes all queued work, including what that work enqueues, then joins the thread.
  ///
  /// Idempotent; must not be called on the executor's own thread.
  public func stop() {
    precondition(!isCurrent, "ThreadExecutor \(name) cannot join itself")
    joined.withLock { joined in
      if joined { return }
      joined = true
      let mustWake = shared.withLock { shared in
        shared.stopping = true
        return shared.claimWake()
      }
      if mustWake { sem_post(wake) }
      pthread_join(thread, nil)
    }
  }

  /// True on the executor's own thread.
  public var isCurrent: Bool { owner.load(ordering: .relaxed) == currentThreadID() }

  public func schedule(_ drain: any InboxDrain) { append(.drain(drain)) }

  /// Runs the drain on the calling thread if the executor's own sleeps. That is one thread at a time
  /// still, and the lock orders what they see.
  public func runHere(_ drain: any InboxDrain) -> Bool {
    guard shared.withLock({ $0.admitGuest() }) else { return false }
    let thread = owner.exchange(currentThreadID(), ordering: .relaxed)
    drain.drain()
    owner.store(thread, ordering: .relaxed)
    if shared.withLock({ $0.dismissGuest() }) { sem_post(wake) }
    return true
  }

  public func execute(_ body: @escaping @Sendable () -> Void) { append(.closure(body)) }

  public func enqueue(_ job: consuming ExecutorJob) { append(.job(UnownedJob(job))) }

  public func isIsolatingCurrentContext() -> Bool? { isCurrent }

  public func checkIsolated() {
    precondition(isCurrent, "not on the thread of ThreadExecutor \(name)")
  }

  private func append(_ item: WorkItem) {
    let mustWake = shared.withLock { shared in
      if shared.finished { return false }
      shared.items.append(item)
      return shared.claimWake()
    }
    if mustWake { sem_post(wake) }
  }

  private func runLoop() {
    owner.store(currentThreadID(), ordering: .relaxed)
    let executor = asUnownedSerialExecutor()
    var batch: ContiguousArray<WorkItem> = []
    loop: while true {
      switch takeWork(&batch) {
      case .work:
        for item in batch { item.run(on: executor) }
        batch.removeAll(keepingCapacity: true)
      case .sleep:
        // Interrupted by a signal handler: sleep on.
        while sem_wait(wake) != 0 {}
      case .end: break loop
      }
    }
    owner.store(0, ordering: .relaxed)
  }

  private func takeWork(_ batch: inout ContiguousArray<WorkItem>) -> Next {
    shared.withLock { shared in
      if !shared.items.isEmpty {
        swap(&shared.items, &batch)
        return .work
      }
      shared.finished = shared.stopping
      shared.asleep = !shared.stopping
      return shared.stopping ? .end : .sleep
    }
  }
}
