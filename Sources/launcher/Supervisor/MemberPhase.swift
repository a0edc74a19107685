// The life of a member's process, as values.

import Actors

/// Where a member's process is in its life.
enum MemberPhase: Equatable, Sendable {
  case notStarted
  /// It runs but does not serve clients yet.
  case starting
  case running
  case paused
  /// It was asked to end.
  case stopping
  /// It was sent SIGKILL on request.
  case killing
  case stopped
  case killed
  /// It ended on its own.
  case exited(ChildProcess.Exit)
  /// The program could not be started.
  case failed

  /// A process exists.
  var isAlive: Bool {
    switch self {
    case .starting, .running, .paused, .stopping, .killing: true
    case .notStarted, .stopped, .killed, .exited, .failed: false
    }
  }

  /// The word that `status` shows.
  var text: String {
    switch self {
    case .notStarted: "not started"
    case .starting: "starting"
    case .running: "running"
    case .paused: "paused"
    case .stopping, .killing: "stopping"
    case .stopped: "stopped"
    case .killed: "killed"
    case .exited(let exit): "exited (\(Self.short(exit)))"
    case .failed: "failed to start"
    }
  }

  /// What follows when the process of this phase ends.
  func ended(_ exit: ChildProcess.Exit) -> MemberPhase {
    switch self {
    case .stopping: .stopped
    case .killing: .killed
    default: .exited(exit)
    }
  }

  private static func short(_ exit: ChildProcess.Exit) -> String {
    switch exit {
    case .status(let code): String(code)
    case .signal(let number): signalName(number)
    }
  }
}

/// `exit code 1` or `SIGKILL`.
func exitText(_ exit: ChildProcess.Exit) -> String {
  switch exit {
  case .status(let code): "exit code \(code)"
  case .signal(let number): signalName(number)
  }
}

/// `SIGTERM` for 15.
func signalName(_ number: Int32) -> String {
  let names: [Int32: String] = [
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS",
    8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE",
    14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
  ]
  return names[number] ?? "signal \(number)"
}

/// Whether and when a member that ended on its own is started again.
struct RestartPlanner: Equatable, Sendable {
  static let delaySecondsMax = 30
  /// A member that has run for so long starts with the shortest delay again.
  static let steadySeconds = 60

  let policy: RestartPolicy
  private var failures = 0

  init(policy: RestartPolicy) { self.policy = policy }

  /// The delay before the next start in seconds: 1, 2, 4, ... 30; nil for none.
  mutating func delay(after exit: ChildProcess.Exit, ranSeconds: Int) -> Int? {
    switch policy {
    case .never: return nil
    case .onFailure: if exit == .status(0) { return nil }
    case .always: break
    }
    if ranSeconds >= Self.steadySeconds { failures = 0 }
    failures += 1
    return min(Self.delaySecondsMax, 1 << min(failures - 1, 10))
  }
}

/// The lines of one run that explain its end.
struct LogExcerpt: Equatable, Sendable {
  static let lastLinesMax = 10
  static let firstLinesMax = 3

  private var first: [String] = []
  private var last: [String] = []

  mutating func append(_ line: String) {
    if first.count < Self.firstLinesMax { first.append(line) }
    if last.count == Self.lastLinesMax { last.removeFirst() }
    last.append(line)
  }

  /// The last lines; of a program that refused its flags the first, which the usage text follows.
  func lines(for exit: ChildProcess.Exit, wasServing: Bool) -> [String] {
    let refusedFlags = exit == .status(2) && !wasServing && first.first?.hasPrefix("{") == false
    return refusedFlags ? Array(first.prefix(1)) : last
  }
}
