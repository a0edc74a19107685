// The command line.

import ArgumentParser
import Glibc

@main
struct Launcher: ParsableCommand {
  static let version = "0.1.0"

  static let configuration = CommandConfiguration(
    commandName: "launcher",
    abstract: "Runs a cluster of Apus members on this machine, as cluster.conf describes it.",
    discussion: """
      A cluster.conf is YAML:

        data-dir: apus-data          # as seen from the file's folder
        restart: never               # or on-failure, always
        defaults:                    # any flag of the members, without dashes
          log-level: info
        members:
          - name: m1
            client-url: http://127.0.0.1:2379
            peer-url: http://127.0.0.1:2380
            heartbeat-interval: 50   # a flag of this member only

      Examples:

        launcher start                 # start ./cluster.conf; Ctrl-C stops it
        launcher status                # from another shell: who runs, who leads
        launcher kill m1               # end a member as a crash would
        launcher restart m1            # start it again
        launcher logs -f m1 m2         # follow two logs
        launcher add m4                # one more member; remove takes it out again
        launcher stop                  # stop everything, and the launcher
      """,
    version: "launcher \(version)",
    subcommands: [
      StartCommand.self, CheckCommand.self, StatusCommand.self, StopCommand.self,
      KillCommand.self, RestartCommand.self, PauseCommand.self, ResumeCommand.self,
      LogsCommand.self, AddCommand.self, RemoveCommand.self, ReplaceCommand.self,
    ])
}

enum ClusterFileLoader {
  /// Reads and checks a file; prints what is wrong with it on standard error.
  ///
  /// - Parameter showsWarnings: false where they have been seen before.
  /// - Throws: exit code 1 if the file cannot be used.
  static func load(_ path: String, showsWarnings: Bool = false) throws -> ClusterFile {
    let text: String
    do {
      text = try Files.read(path, bytesMax: 1 << 20)
    } catch {
      let advice = Files.exists(path) ? "" : "; name another file, or write one: launcher --help"
      throw failure("\(error)\(advice)")
    }
    let outcome = ClusterFileParser.parse(text, path: path)
    for problem in outcome.problems where showsWarnings || problem.severity == .mistake {
      printError(colored(problem, path))
    }
    guard let file = outcome.file else { throw ExitCode(1) }
    return file
  }

  private static func colored(_ problem: ConfigProblem, _ path: String) -> String {
    let palette = Palette(descriptor: STDERR_FILENO)
    let text = problem.description(path: path)
    return palette.paint(text, problem.severity == .mistake ? .red : .yellow)
  }
}

/// Prints an error in one line and gives the exit code to throw.
func failure(_ text: String) -> ExitCode {
  printError("launcher: " + Palette(descriptor: STDERR_FILENO).paint(text, .red))
  return ExitCode(1)
}

/// For commands that talk to the launcher of a cluster.
struct ClusterOption: ParsableArguments {
  @Option(name: .long, help: "The file that the cluster was started from.")
  var config = "cluster.conf"

  func load() throws -> ClusterFile { try ClusterFileLoader.load(config) }
}

/// On whose behalf the cluster is asked for a change of its members.
struct UserOption: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "A user with the role root, where authentication is on; also ETCDCTL_USER.",
      valueName: "name[:password]"))
  var user: String?

  @Option(name: .long, help: "Of the user, if it does not stand there; also ETCDCTL_PASSWORD.")
  var password: String?

  /// Nil if nobody is named.
  /// - Parameter variable: the value of an environment variable.
  func named(
    _ variable: (String) -> String? = { getenv($0).map { String(cString: $0) } }
  ) throws -> ClusterUser? {
    let word = user ?? variable("ETCDCTL_USER") ?? ""
    guard !word.isEmpty else {
      if password != nil { throw ValidationError("--password goes with --user.") }
      return nil
    }
    if let password = password ?? variable("ETCDCTL_PASSWORD") {
      return ClusterUser(name: word, password: password)
    }
    guard let colon = word.firstIndex(of: ":") else {
      throw ValidationError(
        "The password of \(word) is missing: give --user NAME:PASSWORD, --password or "
          + "ETCDCTL_PASSWORD.")
    }
    return ClusterUser(
      name: String(word[..<colon]), password: String(word[word.index(after: colon)...]))
  }
}

/// The members that a command is about.
struct MemberSelection: ParsableArguments {
  @Argument(help: "Names of members.")
  var members: [String] = []

  @Flag(name: .long, help: "All members.")
  var all = false

  func validate() throws {
    if all && !members.isEmpty { throw ValidationError("Give names or --all, not both.") }
  }

  func request(_ verb: ControlVerb) -> ControlRequest {
    ControlRequest(verb, members: members, isAll: all)
  }
}

/// Sends a request and prints what has been done.
func perform(_ request: ControlRequest, _ option: ClusterOption) throws {
  let cluster = try option.load()
  do {
    _ = try ControlClient.perform(request, cluster: cluster) { print($0) }
  } catch {
    throw failure(error.description)
  }
}
