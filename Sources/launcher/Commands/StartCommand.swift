// launcher start, launcher check

import Actors
import ArgumentParser
import Glibc
import Synchronization

extension LogStyle: ExpressibleByArgument {}

struct StartCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "start",
    abstract: "Start the cluster, follow its logs, stop it on Ctrl-C.",
    discussion: """
      Checks the file, the ports and the data folder, starts one process per member, waits until \
      each serves clients, shows a table, and follows the members' logs. Ctrl-C or SIGTERM stops \
      the members in order; a second Ctrl-C kills them at once. Each member's whole output is \
      kept in <data-dir>/<name>.log.

      Examples:

        launcher start
        launcher start staging.conf --log quiet
        launcher start --apus /usr/bin/etcd      # the same flags fit etcd itself
      """)

  @Argument(help: "The cluster's file.")
  var config = "cluster.conf"

  @Option(
    name: .long,
    help: ArgumentHelp(
      "How members' logs are shown: pretty, raw (as they are) or quiet (only events).",
      valueName: "style"))
  var log = LogStyle.pretty

  @Option(
    name: .long,
    help: ArgumentHelp(
      "The member program. (default: apus beside this program)", valueName: "path"))
  var apus: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Seconds to wait for the members before following them anyway.", valueName: "seconds"))
  var timeout = 60

  func validate() throws {
    if !(1...86_400).contains(timeout) {
      throw ValidationError("--timeout must be from 1 to 86400 seconds.")
    }
  }

  func run() throws {
    let cluster = try ClusterFileLoader.load(config, showsWarnings: true)
    let program = try memberProgram()
    var problems = Preflight.checkDirectory(cluster)
    if !problems.isEmpty { throw report(problems) }
    let lock: DataDirectoryLock
    do { lock = try DataDirectoryLock(cluster) } catch { throw failure(error.description) }
    problems = Preflight.checkData(cluster)
    // Members that live on hold their ports, and are named already.
    if problems.isEmpty { problems = Preflight.checkPorts(cluster) }
    if !problems.isEmpty { throw report(problems) }
    do {
      try Files.replace(cluster.identityPath, with: ClusterIdentity(of: cluster).text)
    } catch {
      throw failure(error.description)
    }
    let code = try supervise(cluster, program)
    // Given back only now, when nothing of this cluster runs any more.
    _ = consume lock
    if code != 0 { throw ExitCode(code) }
  }

  private func report(_ problems: [String]) -> ExitCode {
    let palette = Palette(descriptor: STDERR_FILENO)
    for problem in problems { printError(palette.paint(problem, .red)) }
    return ExitCode(1)
  }

  private func supervise(_ cluster: ClusterFile, _ program: String) throws -> Int32 {
    let loop: EventLoop
    let console: Console
    do {
      loop = try EventLoop()
      console = try Console()
    } catch {
      throw failure("\(error)")
    }
    let options = SupervisorOptions(
      cluster: cluster, program: program, environment: currentEnvironment(), logStyle: log,
      startSeconds: timeout)
    let supervisor = Supervisor(options, console: console, loop: loop)
    let outcome = ExitCodeBox()
    Task {
      outcome.set(await supervisor.run())
      loop.stop()
    }
    loop.run()
    console.finish()
    return outcome.value
  }

  private func memberProgram() throws -> String {
    if let apus {
      if apus.contains("/") && access(apus, X_OK) != 0 {
        throw failure("--apus \(apus) cannot be run: \(systemText(errno))")
      }
      return apus
    }
    let own = Files.linkTarget("/proc/self/exe") ?? ""
    let program = Files.join(Files.folder(of: own), "apus")
    guard access(program, X_OK) == 0 else {
      throw failure(
        "there is no member program at \(program); build it with: swift build -c release,"
          + " or name one with --apus")
    }
    return program
  }
}

/// Carries the exit code from the supervisor to the main thread.
private final class ExitCodeBox: Sendable {
  private let code = Mutex<Int32>(1)
  func set(_ value: Int32) { code.withLock { $0 = value } }
  var value: Int32 { code.withLock { $0 } }
}

/// This process's environment as `KEY=value`.
private func currentEnvironment() -> [String] {
  var entries: [String] = []
  var cursor = environ
  while let entry = cursor.pointee {
    entries.append(String(cString: entry))
    cursor += 1
  }
  return entries
}

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check a cluster.conf and start nothing.",
    discussion: """
      Prints every mistake with its line and what to write instead. The exit code is 1 if there \
      is one; warnings do not count.

      Examples:

        launcher check
        launcher check staging.conf
      """)

  @Argument(help: "The cluster's file.")
  var config = "cluster.conf"

  func run() throws {
    let cluster = try ClusterFileLoader.load(config, showsWarnings: true)
    let names = cluster.members.map(\.name).joined(separator: ", ")
    print(
      "\(config) is right: \(count(cluster.members.count, "member")) (\(names)),"
        + " data in \(cluster.dataDirectory)")
  }
}
