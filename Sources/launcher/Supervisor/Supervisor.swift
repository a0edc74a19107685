// The actor that runs a cluster: starts the members, watches them, stops them.

import Actors
import Glibc

/// Everything that `launcher start` was told.
struct SupervisorOptions: Sendable {
  let cluster: ClusterFile
  /// The member program.
  let program: String
  /// `KEY=value`, as this process got it.
  let environment: [String]
  let logStyle: LogStyle
  /// How long to wait for the members to serve before following them anyway.
  let startSeconds: Int
}

/// Owns the members' processes. Lives on an event loop; its methods are in several files:
/// this one has the course of things, the others members, roles and control.
actor Supervisor {
  static let stopMilliseconds = 10_000
  static let killMilliseconds = 5_000
  private static let rolePollMilliseconds = 2000
  private static let firstLeaderMilliseconds = 3000

  nonisolated let loop: EventLoop
  nonisolated var unownedExecutor: UnownedSerialExecutor { loop.asUnownedSerialExecutor() }

  let options: SupervisorOptions
  let console: Console
  var formatter: LogFormatter
  let startedAt: UInt64
  /// In order of their coming; positions stay. Those that have left are in `departed`.
  var members = MemberList()
  var departed: Set<Int> = []
  /// As the file says now.
  var cluster: ClusterFile
  /// Log lines are shown from the table on.
  var isFollowing = false
  var endIsRequested = false
  /// The second Ctrl-C: no more waiting.
  var isHurried = false
  /// Clients that asked for the end and are told about it.
  var farewells: [ControlSession] = []
  var leader: Int?
  var leaderlessRounds = 0
  var pollIsUnderWay = false
  var pollAnswersDue = 0
  private var waiters: [Waiter] = []
  private var lastWaiter: UInt64 = 0
  private var rolePoll: LoopTimer?
  private var signals: [SignalSource] = []
  private var socket: ControlSocket?
  private var listener: Listener?

  private struct Waiter {
    let id: UInt64
    let condition: (isolated Supervisor) -> Bool
    let continuation: CheckedContinuation<Bool, Never>
    let timer: LoopTimer?
  }

  init(_ options: SupervisorOptions, console: Console, loop: EventLoop) {
    self.options = options
    cluster = options.cluster
    self.console = console
    self.loop = loop
    startedAt = loop.now
    formatter = LogFormatter(
      names: options.cluster.members.map(\.name), style: options.logStyle,
      palette: console.palette)
  }

  /// Positions of the members that have not left.
  var present: [Int] { members.indices.filter { !departed.contains($0) } }

  // MARK: Course

  /// Starts the cluster, follows it until it is asked to end, and stops it.
  ///
  /// - Returns: the exit code.
  func run() async -> Int32 {
    do {
      try open()
    } catch {
      printError("launcher: \(error)")
      return 1
    }
    console.print(
      "Starting \(count(members.count, "member")) of \(cluster.path),"
        + " data in \(cluster.dataDirectory)")
    for index in members.indices where !endIsRequested { spawn(index) }
    await waitUntilServing()
    if !endIsRequested && members.indices.allSatisfy({ isDown($0) }) {
      console.print("No member is running: the cluster could not be started.")
      close()
      return 1
    }
    if !endIsRequested { await showTable() }
    await wait { $0.endIsRequested }
    let isClean = await stopAll()
    close()
    return isClean ? 0 : 1
  }

  /// No process, and none to come by itself.
  private func isDown(_ index: Int) -> Bool {
    !members[index].phase.isAlive && members[index].restartTimer == nil
  }

  private func open() throws(ControlError) {
    for plan in cluster.members {
      do {
        members.append(try ManagedMember(plan, of: cluster))
      } catch {
        throw ControlError("\(error)")
      }
    }
    let socket = try ControlSocket(path: cluster.socketPath)
    self.socket = socket
    listener = try ControlServer.listen(on: socket, loop: loop) { request, session in
      Task { await self.answer(request, session) }
    }
    do {
      for number in [SIGINT, SIGTERM, SIGHUP] {
        signals.append(try SignalSource(number, loop: loop) { self.didReceive(signal: number) })
      }
    } catch {
      throw ControlError("\(error)")
    }
  }

  private func close() {
    rolePoll?.cancel()
    listener?.close()
    for signal in signals { signal.close() }
    for session in farewells { session.send(.done) }
    if members.indices.allSatisfy({ !members[$0].phase.isAlive }) { unlink(cluster.processesPath) }
  }

  private func waitUntilServing() async {
    let timer = LoopTimer(loop: loop) { self.showProgress() }
    timer.schedule(afterMilliseconds: 0, everyMilliseconds: 1000)
    // A member whose log says nothing, for its level or its destination, is asked instead.
    let probe = LoopTimer(loop: loop) { self.pollRoles() }
    probe.schedule(afterMilliseconds: 1500, everyMilliseconds: 1000)
    let allServe = await wait(atMostMilliseconds: options.startSeconds * 1000) { supervisor in
      supervisor.endIsRequested
        || supervisor.members.indices.allSatisfy {
          supervisor.members[$0].phase != .starting && supervisor.members[$0].restartTimer == nil
        }
    }
    timer.cancel()
    probe.cancel()
    console.showTransient("")
    if !allServe {
      let late = members.indices.filter { members[$0].phase == .starting }
      for index in late {
        announceWithLog("does not serve after \(options.startSeconds) s", index, exit: nil)
      }
    }
  }

  private func showTable() async {
    pollRoles()
    await wait(atMostMilliseconds: Self.firstLeaderMilliseconds) { supervisor in
      if supervisor.leader == nil { supervisor.pollRoles() }
      return supervisor.leader != nil || supervisor.endIsRequested
    }
    let wait = Clock.wait(nanoseconds: loop.now - startedAt)
    console.print(lines: [""] + report().startLines(console.palette) + [""])
    let config = cluster.path == "cluster.conf" ? "" : " --config \(cluster.path)"
    console.print(
      console.palette.paint(
        "Up after \(wait). Ctrl-C stops the cluster; elsewhere: launcher status\(config)", .dim))
    console.print()
    isFollowing = true
    let timer = LoopTimer(loop: loop) { self.pollRoles() }
    timer.schedule(
      afterMilliseconds: Self.rolePollMilliseconds, everyMilliseconds: Self.rolePollMilliseconds)
    rolePoll = timer
  }

  /// `Waiting for m2, m3 (4 s)`, on terminals.
  func showProgress() {
    let late = members.indices.filter { members[$0].phase == .starting }
    if late.isEmpty || isFollowing || endIsRequested { return }
    let names = late.map { console.palette.name(members[$0].plan.name, of: $0) }
    let seconds = (loop.now - startedAt) / 1_000_000_000
    console.showTransient("Waiting for \(names.joined(separator: ", ")) (\(seconds) s)")
  }

  // MARK: End

  private func didReceive(signal number: Int32) {
    if endIsRequested {
      guard !isHurried else { return }
      isHurried = true
      console.print("Killing what is left.")
      for index in members.indices where members[index].phase.isAlive { kill(index) }
    } else {
      requestEnd(number == SIGINT ? "Ctrl-C" : signalName(number))
    }
  }

  func requestEnd(_ cause: String) {
    endIsRequested = true
    console.showTransient("")
    let hint = console.isTerminal ? " (Ctrl-C again kills at once)" : ""
    console.print("")
    console.print("\(cause): stopping the members in order\(hint)")
    stateDidChange()
  }

  /// Followers first, so that no election disturbs the order; the leader last.
  ///
  /// - Returns: false if a process is left.
  private func stopAll() async -> Bool {
    let order = members.indices.filter { $0 != leader } + members.indices.filter { $0 == leader }
    for index in order {
      members[index].restartTimer?.cancel()
      members[index].restartTimer = nil
    }
    for index in order where members[index].phase.isAlive {
      let text = await stop(index)
      console.print("  " + text)
      for session in farewells { session.send(.note(text)) }
    }
    let isClean = members.indices.allSatisfy { !members[$0].phase.isAlive }
    console.print(isClean ? "All members have ended." : "Some members could not be ended.")
    return isClean
  }

  // MARK: Waiting

  /// Suspends until the condition holds. It is evaluated after each change of a member.
  ///
  /// - Parameter atMostMilliseconds: nil waits for ever.
  /// - Returns: false if the time ended first.
  @discardableResult
  func wait(
    atMostMilliseconds: Int? = nil, until condition: @escaping (isolated Supervisor) -> Bool
  ) async -> Bool {
    if condition(self) { return true }
    lastWaiter += 1
    let id = lastWaiter
    var timer: LoopTimer?
    if let atMostMilliseconds {
      timer = LoopTimer(loop: loop) { self.resume(id, false) }
      timer?.schedule(afterMilliseconds: atMostMilliseconds)
    }
    return await withCheckedContinuation { continuation in
      waiters.append(
        Waiter(id: id, condition: condition, continuation: continuation, timer: timer))
    }
  }

  func stateDidChange() {
    for waiter in waiters where waiter.condition(self) { resume(waiter.id, true) }
  }

  private func resume(_ id: UInt64, _ outcome: Bool) {
    guard let index = waiters.firstIndex(where: { $0.id == id }) else { return }
    let waiter = waiters.remove(at: index)
    waiter.timer?.cancel()
    waiter.continuation.resume(returning: outcome)
  }
}

/// `1 member`, `3 members`.
func count(_ number: Int, _ noun: String) -> String {
  number == 1 ? "1 \(noun)" : "\(number) \(noun)s"
}
