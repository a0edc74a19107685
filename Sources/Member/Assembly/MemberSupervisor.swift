import Actors
import Base
import Glibc
import RaftActor

/// What the supervisor hears.
enum SupervisorInput: Sendable {
  case softState(RaftCore.SoftState)
  /// The last client connection is gone.
  case connectionsIdle
  /// A peer says that this member is none any longer.
  case removed
  /// The removal of this member was applied here.
  case removalApplied
}

/// The actor that gives a member its time and its end: ticks, signals, and the steps of a shutdown.
actor MemberSupervisor {
  struct Outlets: Sendable {
    /// One heartbeat interval has passed; the count since start.
    var tick: @Sendable (Int) -> Void
    /// This leader's heartbeats are late by so many nanoseconds.
    var heartbeatsLate: @Sendable (UInt64) -> Void
    /// Hands leadership to another voter, if there is one to take it.
    var handOver: @Sendable () -> Bool
    var stopServing: @Sendable () -> Void
    /// Writes and closes everything, then ends the loop.
    var end: @Sendable (_ signal: Int32) -> Void
  }

  /// How long a shutdown waits for a new leader, and for clients to be done.
  private static let handOverMilliseconds = 1000
  private static let drainMilliseconds = 2000
  /// How long a member goes on after it has applied its own removal.
  private static let removalMilliseconds = 1000

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
  /// Set once this member's removal was applied.
  private var departure: LoopTimer?
  private var signals: [SignalSource] = []
  private var ticks = 0
  /// Monotonic nanoseconds of the last tick, as leader.
  private var tickedAt: UInt64?
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
    noteLateness()
    outlets.tick(ticks)
  }

  /// Each tick of a leader sends heartbeats; twice the interval between two is too long.
  private func noteLateness() {
    let now = executor.now
    defer { tickedAt = softState.role == .leader ? now : nil }
    guard softState.role == .leader, let tickedAt else { return }
    let most = 2 * UInt64(tickMilliseconds) * 1_000_000
    if now - tickedAt > most { outlets.heartbeatsLate(now - tickedAt - most) }
  }

  private func handle(_ input: SupervisorInput) {
    switch input {
    case .softState(let state):
      softState = state
      if phase == .handingOver, state.role != .leader { drain() }
    case .connectionsIdle: if phase == .draining { end() }
    case .removed: endRemoved()
    case .removalApplied: leave()
    }
  }

  // MARK: - Removal

  /// The others learn of the removal from this member if it led; then it goes by itself.
  private func leave() {
    guard phase == .running, departure == nil else { return }
    let first = LoopTimer(loop: executor) { self.handOverLeaving() }
    first.schedule(afterMilliseconds: 2 * tickMilliseconds)
    departure = first
    wait(Self.removalMilliseconds) { self.endRemoved() }
  }

  /// Not before the successor had time to apply the removal, without which it would not stand for
  /// election.
  private func handOverLeaving() {
    guard phase == .running, softState.role == .leader else { return }
    _ = outlets.handOver()
  }

  private func endRemoved() {
    guard phase == .running else { return }
    log.warn(
      "server error", ("error", "the member has been permanently removed from the cluster"))
    log.warn("data-dir used by this member must be removed")
    phase = .handingOver
    drain()
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
    departure?.cancel()
    timer?.cancel()
    outlets.end(signal)
  }
}
