// A serial executor that owns one plain thread: for actors that block on disks or compute for long.

import Glibc
import Synchronization

/// Runs jobs, drains and closures in order on one named thread.
///
/// The queue is guarded by `mutex`; everything else is immutable or atomic, which is what makes it
/// safe to share. Work that arrives after ``stop()`` has finished is dropped.
package final class ThreadExecutor: ActorExecutor, @unchecked Sendable {
  package let name: String
  private let owner = Atomic<UInt>(0)
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  // Guarded by `mutex`.
  private var items: ContiguousArray<WorkItem> = []
  private var waiting = false
  private var stopping = false
  private var finished = false
  // Written once, before `init` returns.
  private var thread = pthread_t()
  private let joined = Mutex(false)

  /// Starts the thread.
  ///
  /// - Parameter name: the thread's name; the kernel keeps the first 15 bytes.
  package init(name: String) throws(ThreadError) {
    self.name = name
    mutex = .allocate(capacity: 1)
    condition = .allocate(capacity: 1)
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(condition, nil)
    // The closure keeps the executor alive for as long as its thread runs.
    thread = try startThread(name: name) { self.runLoop() }
  }

  deinit {
    pthread_cond_destroy(condition)
    pthread_mutex_destroy(mutex)
    condition.deallocate()
    mutex.deallocate()
  }

  /// Finishes all queued work, including what that work enqueues, then joins the thread.
  ///
  /// Idempotent; must not be called on the executor's own thread.
  package func stop() {
    precondition(!isCurrent, "ThreadExecutor \(name) cannot join itself")
    joined.withLock { joined in
      if joined { return }
      joined = true
      pthread_mutex_lock(mutex)
      stopping = true
      pthread_cond_signal(condition)
      pthread_mutex_unlock(mutex)
      pthread_join(thread, nil)
    }
  }

  /// True on the executor's own thread.
  package var isCurrent: Bool { owner.load(ordering: .relaxed) == currentThreadID() }

  package func schedule(_ drain: any InboxDrain) { append(.drain(drain)) }

  package func execute(_ body: @escaping @Sendable () -> Void) { append(.closure(body)) }

  package func enqueue(_ job: consuming ExecutorJob) { append(.job(UnownedJob(job))) }

  package func isIsolatingCurrentContext() -> Bool? { isCurrent }

  package func checkIsolated() {
    precondition(isCurrent, "not on the thread of ThreadExecutor \(name)")
  }

  private func append(_ item: WorkItem) {
    pthread_mutex_lock(mutex)
    if !finished { items.append(item) }
    let mustWake = waiting
    waiting = false
    pthread_mutex_unlock(mutex)
    if mustWake { pthread_cond_signal(condition) }
  }

  private func runLoop() {
    owner.store(currentThreadID(), ordering: .relaxed)
    let executor = asUnownedSerialExecutor()
    var batch: ContiguousArray<WorkItem> = []
    while true {
      pthread_mutex_lock(mutex)
      while items.isEmpty && !stopping {
        waiting = true
        pthread_cond_wait(condition, mutex)
      }
      waiting = false
      swap(&items, &batch)
      finished = batch.isEmpty
      pthread_mutex_unlock(mutex)
      if finished { break }
      for item in batch { item.run(on: executor) }
      batch.removeAll(keepingCapacity: true)
    }
    owner.store(0, ordering: .relaxed)
  }
}
