public import Actors
import Synchronization

/// Runs work only when a test says so, on the test's own thread.
public final class StepExecutor: ActorExecutor {
  private enum Item: Sendable {
    case drain(any InboxDrain)
    case closure(@Sendable () -> Void)
    case job(UnownedJob)
  }

  private let items = Mutex<[Item]>([])

  public init() {}

  public func schedule(_ drain: any InboxDrain) { items.withLock { $0.append(.drain(drain)) } }
  public func execute(_ body: @escaping @Sendable () -> Void) {
    items.withLock { $0.append(.closure(body)) }
  }
  public func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    items.withLock { $0.append(.job(job)) }
  }
  public func checkIsolated() {}
  public func isIsolatingCurrentContext() -> Bool? { true }

  /// Runs what was enqueued first; false if there was nothing.
  public func step() -> Bool {
    switch items.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) {
    case .drain(let inbox): inbox.drain()
    case .closure(let body): body()
    case .job(let job): job.runSynchronously(on: asUnownedSerialExecutor())
    case nil: return false
    }
    return true
  }

  /// Runs all that was enqueued, and what that enqueues.
  public func run() { while step() {} }
}
