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
  ) throws(CommandFailure) -> Session {
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
    return try Session(
      flags: flags, console: console, trimsEndpoints: trimsEndpoints)
  }

  private func printSettings(_ flags: FlagValues) {
    for flag in GlobalFlags.all.sorted(by: { $0.name < $1.name }) {
      console.printError("\(GlobalFlags.variable(flag.name))=\(flags.shown(flag.name))")
    }
  }

  /// Authentication and discovery are known but not there yet: say so rather than ignore them.
  private func refuseUnsupported(_ flags: FlagValues) throws(CommandFailure) {
    for name in ["cert", "key", "cacert"] where flags.isSet(name) && flags.string(name).isEmpty {
      throw .badArguments("empty string is passed to --\(name) option")
    }
    let topics = [
      ("authentication", ["user", "password", "auth-jwt-token"]),
      ("DNS discovery", ["discovery-srv", "discovery-srv-name"]),
    ]
    for (topic, names) in topics {
      for name in names where !flags.string(name).isEmpty {
        throw .badArguments("--\(name) is not supported yet: this version has no \(topic)")
      }
    }
  }
}
