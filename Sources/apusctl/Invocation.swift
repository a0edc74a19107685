// One run of a command: its words, and the way to the cluster.

import EtcdClient

/// What a command gets.
struct Invocation: Sendable {
  let flags: FlagValues
  let positionals: [String]
  /// How many positionals stood before `--`; nil without one.
  let dashIndex: Int?
  let console: Console
  let environment: [String: String]
  let path: [CommandSpec]

  /// Reads the environment, checks the settings, and makes a client, which connects by its first
  /// call.
  ///
  /// - Parameters:
  ///   - known: variables that the command itself reads.
  ///   - trimsEndpoints: blanks around endpoints are dropped; endpoint commands keep them.
  func connect(
    knownVariables known: [String] = [], trimsEndpoints: Bool = true
  ) async throws(CommandFailure) -> Session {
    var flags = self.flags
    let unknown: [String]
    do throws(EnvironmentConflict) {
      unknown = try GlobalFlags.apply(environment, to: &flags, known: known)
    } catch {
      console.printError(
        "{\"level\":\"fatal\",\"msg\":\"conflicting environment variable is shadowed by "
          + "corresponding command-line flag (either unset environment variable or disable "
          + "flag))\",\"environment-variable\":\(JSON.string(error.variable))}")
      throw CommandFailure(CommandFailure.Code.error, nil)
    }
    for variable in unknown {
      console.printError(
        "{\"level\":\"warn\",\"msg\":\"unrecognized environment variable\","
          + "\"environment-variable\":\(JSON.string(variable))}")
    }
    if flags.bool("debug") { printSettings(flags) }
    try refuseUnsupported(flags)
    let identity = try identity(flags)
    let session = try Session(
      flags: flags, console: console, trimsEndpoints: trimsEndpoints, identity: identity)
    // A wrong password is told before the command asks for anything.
    try await reporting(code: CommandFailure.Code.badConnection) {
      () async throws(EtcdClientError) in
      if case .password = identity {
        try await session.client.logIn(timeout: flags.duration("dial-timeout"))
      }
    }
    return session
  }

  /// Who the caller is; a password that was not given is asked for. An empty one means nobody.
  private func identity(_ flags: FlagValues) throws(CommandFailure) -> ClientIdentity? {
    let token = flags.string("auth-jwt-token")
    guard token.isEmpty else { return .token(token) }
    let user = flags.string("user")
    guard !user.isEmpty else { return nil }
    let given = flags.string("password")
    if !given.isEmpty { return .password(user: user, password: given) }
    guard let colon = user.firstIndex(of: ":") else {
      let asked = try PasswordPrompt.ask("Password: ", console)
      return asked.isEmpty ? nil : .password(user: user, password: asked)
    }
    let password = String(user[user.index(after: colon)...])
    return password.isEmpty ? nil : .password(user: String(user[..<colon]), password: password)
  }

  private func printSettings(_ flags: FlagValues) {
    for flag in GlobalFlags.all.sorted(by: { $0.name < $1.name }) {
      console.printError("\(GlobalFlags.variable(flag.name))=\(flags.shown(flag.name))")
    }
  }

  /// Discovery is known but not there yet: say so rather than ignore it.
  private func refuseUnsupported(_ flags: FlagValues) throws(CommandFailure) {
    for name in ["cert", "key", "cacert"] where flags.isSet(name) && flags.string(name).isEmpty {
      throw .badArguments("empty string is passed to --\(name) option")
    }
    for name in ["discovery-srv", "discovery-srv-name"] where !flags.string(name).isEmpty {
      throw .badArguments("--\(name) is not supported yet: this version has no DNS discovery")
    }
  }
}
