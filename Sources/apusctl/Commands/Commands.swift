// The tree of commands.

enum Commands {
  /// - Parameter name: how the program was called.
  static func root(name: String) -> CommandSpec {
    CommandSpec(
      name, "", "A simple command line client for etcd3.",
      subcommands: keyValue + cluster + authentication + unavailable + utility)
  }

  private static let keyValue = [
    GetCommand.spec, PutCommand.spec, DelCommand.spec, TxnCommand.spec, CompactionCommand.spec,
    LeaseCommand.spec, WatchCommand.spec,
  ]

  private static let cluster = [
    AlarmCommand.spec, DefragCommand.spec, EndpointCommand.spec, MemberCommand.spec,
    MoveLeaderCommand.spec, SnapshotCommand.spec,
  ]

  private static let authentication = [AuthCommand.spec, RoleCommand.spec, UserCommand.spec]

  /// etcdctl has them, this program does not yet. They take part in the search for unique prefixes,
  /// so that an abbreviation never means something else later.
  private static let unavailable = [
    missing("elect", "Observes and participates in leader election", .concurrency),
    missing("lock", "Acquires a named lock", .concurrency),
    missing("downgrade", "Downgrade related commands", .cluster),
    missing("check", "Commands for checking properties of the etcd cluster", .utility),
    missing("completion", "Generate a completion script", .utility),
    missing("make-mirror", "Makes a mirror at the destination etcd cluster", .utility),
  ]

  private static func missing(
    _ name: String, _ summary: String, _ group: CommandSpec.Group
  ) -> CommandSpec {
    var spec = CommandSpec(
      name, "", summary + " (not available yet)", group: group, action: refuse)
    spec.ignoresFlags = true
    return spec
  }

  @Sendable
  private static func refuse(_ call: Invocation) async throws(CommandFailure) {
    let name = call.path.last?.name ?? ""
    throw CommandFailure(
      CommandFailure.Code.error, "the command \"\(name)\" is not available in apusctl yet")
  }

  private static let utility = [
    CommandSpec("help", "[command]", "Help about any command", group: .utility, action: help),
    CommandSpec(
      "options", "", "Show the global command-line options", group: .utility, action: options),
    CommandSpec(
      "version", "", "Prints the version of etcdctl", group: .utility, action: version),
  ]

  @Sendable
  private static func options(_ call: Invocation) async throws(CommandFailure) {
    call.console.print("The following options can be passed to any command:\n")
    call.console.write(Array(HelpText.flagList(GlobalFlags.all).utf8))
  }

  @Sendable
  private static func version(_ call: Invocation) async throws(CommandFailure) {
    call.console.print("\(Program.contractName) version: \(Program.version)")
    call.console.print("API version: \(Program.apiVersion)")
  }

  @Sendable
  private static func help(_ call: Invocation) async throws(CommandFailure) {
    guard let root = call.path.first else { return }
    var path = [root]
    for word in call.positionals {
      guard let next = path.last?.subcommand(word) else {
        let topics = call.positionals.map { "`\($0)`" }.joined(separator: " ")
        call.console.printError("Unknown help topic [\(topics)]")
        return call.console.writeError(Array(HelpText.usage([root]).utf8))
      }
      path.append(next)
    }
    call.console.write(Array(HelpText.text(path).utf8))
  }
}
