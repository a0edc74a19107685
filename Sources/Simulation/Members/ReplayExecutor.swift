import Actors
import Synchronization

/// A serial executor whose work waits until the simulation lets it run: one stands for each thread of a
/// simulated member.
///
/// All executors of a simulation run on its one thread, in an order drawn from the seed.
final class ReplayExecutor: ActorExecutor {
  private enum Work: Sendable {
    case job(UnownedJob)
    case drain(any InboxDrain)
    case closure(@Sendable () -> Void)
  }

  private struct State: Sendable {
    var work: [Work] = []
    var isRunning = false
    var isDead = false
  }

  let name: String
  private let state = Mutex(State())

  init(name: String) { self.name = name }

  var hasWork: Bool { state.withLock { !$0.work.isEmpty } }

  /// Runs what has arrived, as a thread does that wakes up; what that enqueues waits for the next turn.
  func runTurn() {
    let work = state.withLock { state in
      state.isRunning = true
      defer { state.work = [] }
      return state.work
    }
    let executor = asUnownedSerialExecutor()
    for item in work {
      if state.withLock({ $0.isDead }) { break }
      switch item {
      case .job(let job): job.runSynchronously(on: executor)
      case .drain(let inbox): inbox.drain()
      case .closure(let body): body()
      }
    }
    state.withLock { $0.isRunning = false }
  }

  /// The process is gone: nothing runs any more.
  func kill() {
    state.withLock { state in
      state.isDead = true
      state.work = []
    }
  }

  func schedule(_ drain: any InboxDrain) { append(.drain(drain)) }

  func execute(_ body: @escaping @Sendable () -> Void) { append(.closure(body)) }

  func enqueue(_ job: consuming ExecutorJob) { append(.job(UnownedJob(job))) }

  func isIsolatingCurrentContext() -> Bool? { state.withLock { $0.isRunning } }

  func checkIsolated() {
    precondition(state.withLock { $0.isRunning }, "not on executor \(name)")
  }

  private func append(_ work: Work) {
    state.withLock { state in
      if !state.isDead { state.work.append(work) }
    }
  }
}
