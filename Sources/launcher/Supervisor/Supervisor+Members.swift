// Single members: start, output, end, restart.

import Actors
import Glibc

extension Supervisor {
  private static let readyText = "ready to serve client requests"

  // MARK: Start

  /// Starts a member that does not run. A failure is announced and leaves it in phase `failed`.
  func spawn(_ index: Int) {
    precondition(!members[index].phase.isAlive, "a member has one process")
    members[index].prepareRun(at: loop.now)
    let run = members[index].starts
    let arguments = members[index].arguments
    do {
      let child = try ChildProcess.spawn(
        path: options.program, arguments: arguments,
        environment: FlagRendering.environment(options.environment, arguments: arguments),
        loop: loop,
        onOutput: { kind, bytes in self.didPrint(index, run, kind, bytes) },
        onExit: { exit in self.didExit(index, run, exit) })
      members[index].child = child
      members[index].identity = ProcessTable.identity(of: child.pid)
      members[index].phase = .starting
    } catch {
      members[index].phase = .failed
      announce("cannot be started: \(error)", index, isBad: true)
    }
    saveProcesses()
    showProgress()
    stateDidChange()
  }

  private func didBecomeReady(_ index: Int) {
    guard members[index].phase == .starting else { return }
    members[index].phase = .running
    members[index].hasServed = true
    if isFollowing, let child = members[index].child {
      announce("serves clients (pid \(child.pid))", index)
    } else if !console.isTerminal {
      let wait = Clock.wait(nanoseconds: loop.now - members[index].startedAt)
      console.print("  \(members[index].plan.name) serves after \(wait)")
    }
    showProgress()
    pollRoles()
    stateDidChange()
  }

  // MARK: Output

  private func didPrint(
    _ index: Int, _ run: Int, _ kind: ChildProcess.Output, _ bytes: UnsafeRawBufferPointer
  ) {
    members[index].log.append(bytes)
    guard members[index].starts == run else { return }
    let lines =
      switch kind {
      case .standardOutput: members[index].output.split(bytes)
      case .standardError: members[index].errors.split(bytes)
      }
    show(lines, index)
  }

  private func show(_ lines: [String], _ index: Int) {
    if lines.isEmpty { return }
    let now = Clock.timeOfDay()
    var shown: [String] = []
    for line in lines {
      members[index].excerpt.append(line)
      if members[index].phase == .starting, line.contains(Self.readyText) {
        didBecomeReady(index)
      }
      if isFollowing && !endIsRequested,
        let text = formatter.line(
          line, of: index, receivedAt: now, isStarting: members[index].phase == .starting)
      {
        shown.append(text)
      }
      if line.contains("elected leader") || line.contains("became leader") { pollRoles() }
    }
    if !shown.isEmpty { console.print(lines: shown) }
  }

  func announce(_ text: String, _ index: Int, isBad: Bool = false) {
    console.print(
      formatter.event(text, of: index, at: Clock.timeOfDay(), isBad: isBad))
  }

  /// Announces bad news together with the log lines that may explain it.
  ///
  /// - Parameter exit: nil for a member that runs.
  func announceWithLog(_ text: String, _ index: Int, exit: ChildProcess.Exit?) {
    let lines = members[index].excerpt.lines(
      for: exit ?? .status(0), wasServing: members[index].hasServed)
    announce(
      text + (lines.isEmpty ? "; it printed nothing" : "; its last lines:"), index, isBad: true)
    console.print(lines: lines.map { formatter.quote($0, of: index) })
  }

  // MARK: End

  private func didExit(_ index: Int, _ run: Int, _ exit: ChildProcess.Exit) {
    guard members[index].starts == run else { return }
    show(
      [members[index].output.finish(), members[index].errors.finish()].compactMap(\.self), index)
    let before = members[index].phase
    let seconds = Int((loop.now - members[index].startedAt) / 1_000_000_000)
    members[index].child = nil
    members[index].identity = nil
    members[index].role = .unknown
    members[index].phase = before.ended(exit)
    if case .exited = members[index].phase {
      let uptime = Clock.uptime(seconds: seconds)
      let reason =
        members[index].hasServed ? "ended on its own after \(uptime)" : "ended before it served"
      announceWithLog("\(reason): \(exitText(exit))", index, exit: exit)
      if !endIsRequested { planRestart(index, exit, seconds) }
    }
    saveProcesses()
    showProgress()
    stateDidChange()
  }

  private func planRestart(_ index: Int, _ exit: ChildProcess.Exit, _ ranSeconds: Int) {
    guard let delay = members[index].planner.delay(after: exit, ranSeconds: ranSeconds) else {
      if isFollowing {
        let name = members[index].plan.name
        announce("stays down; start it with: launcher restart \(name)\(configOption)", index)
      }
      return
    }
    announce("is started again in \(delay) s", index)
    let timer = LoopTimer(loop: loop) {
      guard !self.endIsRequested, !self.members[index].phase.isAlive else { return }
      self.spawn(index)
    }
    timer.schedule(afterMilliseconds: delay * 1000)
    members[index].restartTimer = timer
  }

  /// ` --config FILE`, unless the file is the one that other commands use by themselves.
  var configOption: String {
    cluster.path == "cluster.conf" ? "" : " --config \(cluster.path)"
  }

  /// Asks a member to end: SIGTERM, and SIGKILL after ten seconds. Returns when it has ended.
  ///
  /// - Returns: what happened, for the user.
  func stop(_ index: Int) async -> String {
    let name = members[index].plan.name
    let run = members[index].starts
    let began = loop.now
    members[index].phase = isHurried ? .killing : .stopping
    members[index].child?.signal(isHurried ? SIGKILL : SIGTERM)
    // A paused process only acts on SIGTERM when it goes on.
    members[index].child?.signal(SIGCONT)
    let hasEnded: (isolated Supervisor) -> Bool = {
      !$0.members[index].phase.isAlive || $0.members[index].starts != run
    }
    if await wait(atMostMilliseconds: Self.stopMilliseconds, until: hasEnded) {
      let how = isHurried ? "killed" : "stopped"
      return "\(name) \(how) after \(Clock.wait(nanoseconds: loop.now - began))"
    }
    kill(index)
    if await wait(atMostMilliseconds: Self.killMilliseconds, until: hasEnded) {
      return "\(name) did not stop within \(Self.stopMilliseconds / 1000) s and was killed"
    }
    return "\(name) cannot be killed; it waits for the kernel"
  }

  /// Sends SIGKILL to a member and what it has started.
  func kill(_ index: Int) {
    members[index].phase = .killing
    members[index].child?.signal(SIGKILL, wholeGroup: true)
  }

  // MARK: State

  private func saveProcesses() {
    let alive = members.indices.compactMap { index in
      members[index].identity.map {
        ProcessRecord.Member(name: members[index].plan.name, process: $0)
      }
    }
    // Only a later launcher needs the file, and it looks at the ports too.
    try? Files.replace(cluster.processesPath, with: ProcessRecord(members: alive).text)
  }

  func report() -> ClusterReport {
    let now = loop.now
    let reports = present.map { index in
      let isAlive = members[index].phase.isAlive
      let seconds = Int((now - members[index].startedAt) / 1_000_000_000)
      return MemberReport(
        name: members[index].plan.name,
        pid: isAlive ? members[index].child?.pid : nil,
        state: stateText(index), role: members[index].role,
        uptimeSeconds: isAlive ? seconds : nil,
        restarts: max(0, members[index].starts - 1),
        clientURL: members[index].plan.clientURL.text,
        peerURL: members[index].plan.peerURL.text, dataPath: members[index].dataPath)
    }
    return ClusterReport(launcherPID: getpid(), members: reports)
  }

  /// Also notices a process that somebody else has stopped with SIGSTOP, or continued.
  private func stateText(_ index: Int) -> String {
    if members[index].restartTimer != nil { return "waits to restart" }
    guard let child = members[index].child, members[index].phase.isAlive,
      let status = ProcessTable.status(of: child.pid)
    else { return members[index].phase.text }
    if status.state == "T" { return MemberPhase.paused.text }
    return members[index].phase == .paused ? MemberPhase.running.text : members[index].phase.text
  }
}

extension Supervisor {
  /// A member that answers a probe serves, whatever its log says.
  func didAnswerProbe(_ index: Int) { didBecomeReady(index) }
}
