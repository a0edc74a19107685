// Commands for a cluster that runs already.

import ArgumentParser
import Glibc

struct StatusCommand: ParsableCommand {
  enum Format: String, CaseIterable, ExpressibleByArgument { case table, json }

  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show the members: state, role, process id, uptime.",
    discussion: """
      Examples:

        launcher status
        launcher status -o json
        launcher status --config staging.conf
      """)

  @Option(name: .shortAndLong, help: "table or json.")
  var output = Format.table

  @OptionGroup var cluster: ClusterOption

  func run() throws {
    let file = try cluster.load()
    let reply: ControlReply
    do {
      reply = try ControlClient.perform(ControlRequest(.status), cluster: file) { _ in }
    } catch {
      throw failure(error.description)
    }
    guard case .status(let report) = reply else {
      throw failure("the launcher gave no status")
    }
    switch output {
    case .json: print(report.json.prettyText())
    case .table:
      for line in report.statusLines(Palette(descriptor: STDOUT_FILENO)) { print(line) }
    }
  }
}

struct StopCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stop",
    abstract: "Stop members; without names, the whole cluster and its launcher.",
    discussion: """
      A member gets SIGTERM, and SIGKILL if it has not ended ten seconds later. The command \
      returns when the members have ended.

      Examples:

        launcher stop m1
        launcher stop            # everything, the launcher too; the same as --all
      """)

  @OptionGroup var selection: MemberSelection
  @OptionGroup var cluster: ClusterOption

  func run() throws { try perform(selection.request(.stop), cluster) }
}

struct KillCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "kill",
    abstract: "End members with SIGKILL, as a crash would.",
    discussion: """
      The member stays down, whatever `restart` says in cluster.conf, until `launcher restart`.

      Examples:

        launcher kill m1
        launcher kill --all
      """)

  @OptionGroup var selection: MemberSelection
  @OptionGroup var cluster: ClusterOption

  func run() throws { try perform(selection.request(.kill), cluster) }
}

struct RestartCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restart",
    abstract: "Stop members that run, and start them again.",
    discussion: """
      Also starts members that are down. Several members are restarted one after the other; the \
      command waits until each serves clients.

      Examples:

        launcher restart m1
        launcher restart --all       # a rolling restart
      """)

  @OptionGroup var selection: MemberSelection
  @OptionGroup var cluster: ClusterOption

  func run() throws { try perform(selection.request(.restart), cluster) }
}

struct PauseCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause",
    abstract: "Freeze members with SIGSTOP, as a stall of the machine would.",
    discussion: """
      Examples:

        launcher pause m1
        launcher resume m1
      """)

  @OptionGroup var selection: MemberSelection
  @OptionGroup var cluster: ClusterOption

  func run() throws { try perform(selection.request(.pause), cluster) }
}

struct ResumeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume",
    abstract: "Let paused members go on (SIGCONT).",
    discussion: """
      Examples:

        launcher resume m1
        launcher resume --all
      """)

  @OptionGroup var selection: MemberSelection
  @OptionGroup var cluster: ClusterOption

  func run() throws { try perform(selection.request(.resume), cluster) }
}
