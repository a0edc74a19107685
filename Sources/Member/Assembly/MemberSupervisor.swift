import Actors
import Base
import Glibc
import RaftActor

/// What the supervisor hears.
enum SupervisorInput: Sendable {
  case softState(RaftCore.SoftState)
  /// The last client connection is gone.
  case connectionsIdle
  /// A fault that allows no going on.
  case removed
}

/// The actor that gives a member its time and its end: ticks, signals, and the steps of a shutdown.
actor MemberSupervisor {
  struct Outlets: Sendable {
    /// One heartbeat interval has passed; the count since start.
    var tick: @Sendable (Int) -> Void
    /// Hands leadership to another voter, if there is one to take it.
    var handOver: @Sendable () -> Bool
    var stopServing: @Sendable () -> Void
    /// Writes and closes everything, then ends the loop.
    var end: @Sendable (_ signal: Int32) -> Void
  }

  /// How long a shutdown waits for a new leader, and for clients to be done.
  private static let handOverMilliseconds = 1000
  private static let drainMilliseconds = 2000

  private nonisolated let executor: EventLoop
  nonisolated var unownedExecutor: UnownedSerialExecutor {
    executor.asUnownedSerialExecutor()
  }

  nonisolated let inbox: Inbox<SupervisorInput>
  private let tickMilliseconds: Int
  private let outlets: Outlets
  private let log: EtcdLogger
  private var timer: LoopTimer?
  private var deadline: LoopTimer?
  private var signals: [SignalSource] = []
  private var ticks = 0
  private var softState = RaftCore.SoftState(role: .follower, leader: 0, term: 0)

  private enum Phase { case running, handingOver, draining, ended }

  private var phase = Phase.running
  /// The signal that ended the member; 0 = none.
  private var signal: Int32 = 0

  init(
    tickMilliseconds: Int, inbox: Inbox<SupervisorInput>, executor: EventLoop, outlets: Outlets,
    log: EtcdLogger
  ) {
    self.tickMilliseconds = tickMilliseconds
    self.inbox = inbox
    self.executor = executor
    self.outlets = outlets
    self.log = log
  }

  nonisolated func start() {
    inbox.connect(to: executor) { [weak self] batch in
      self?.assumeIsolated { supervisor in
        for input in batch { supervisor.handle(input) }
      }
    }
    executor.execute { [self] in
      assumeIsolated { $0.begin() }
    }
  }

  private func begin() {
    let timer = LoopTimer(loop: executor) { self.tick() }
    timer.schedule(afterMilliseconds: tickMilliseconds, everyMilliseconds: tickMilliseconds)
    self.timer = timer
    for number in [SIGINT, SIGTERM] {
      do throws(EventLoopError) {
        signals.append(
          try SignalSource(number, loop: executor) { self.received(number) })
      } catch {
        log.warn("cannot handle a signal", ("signal", number), ("error", "\(error)"))
      }
    }
  }

  private func tick() {
    ticks += 1
    outlets.tick(ticks)
  }

  private func handle(_ input: SupervisorInput) {
    switch input {
    case .softState(let state):
      softState = state
      if phase == .handingOver, state.role != .leader { drain() }
    case .connectionsIdle: if phase == .draining { end() }
    case .removed:
      log.warn("data-dir used by this member must be removed")
      end()
    }
  }

  // MARK: - The end

  private func received(_ number: Int32) {
    guard phase == .running else { return }
    signal = number
    log.info(
      "received signal; shutting down", ("signal", number == SIGINT ? "interrupt" : "terminated"))
    phase = .handingOver
    if softState.role == .leader, outlets.handOver() {
      wait(Self.handOverMilliseconds) { self.drain() }
    } else {
      drain()
    }
  }

  private func drain() {
    guard phase == .handingOver else { return }
    phase = .draining
    wait(Self.drainMilliseconds) { self.end() }
    outlets.stopServing()
  }

  private func wait(_ milliseconds: Int, _ body: @escaping () -> Void) {
    deadline?.cancel()
    let timer = LoopTimer(loop: executor, onFire: body)
    timer.schedule(afterMilliseconds: milliseconds)
    deadline = timer
  }

  private func end() {
    guard phase != .ended else { return }
    phase = .ended
    deadline?.cancel()
    timer?.cancel()
    outlets.end(signal)
  }
}
