// From words to an exit code.

import EtcdClient

struct Program: Sendable {
  /// The name in texts that scripts match; help shows the name of the root command.
  static let contractName = "etcdctl"
  /// The level of etcdctl whose forms these are.
  static let version = "3.7.1"
  static let apiVersion = "3.7"

  let root: CommandSpec
  let console: Console
  let environment: [String: String]

  /// Runs the command that `words` name.
  func run(_ words: [String]) async -> Int32 {
    let match = CommandMatch(root: root, words: words, globalFlags: GlobalFlags.all)
    guard let command = match.path.last else { return 1 }
    if match.path.count == 1, let word = match.firstPositional { return unknownCommand(word) }
    let parsed: ParsedWords
    do throws(FlagError) {
      parsed = try FlagParser.parse(
        command.ignoresFlags ? [] : match.words, command.flags + GlobalFlags.all)
    } catch {
      console.printError("Error: \(error.description)")
      console.writeError(Array(HelpText.usage(match.path).utf8) + [10])
      return CommandFailure.Code.error
    }
    guard let action = command.action, !parsed.asksForHelp else {
      console.write(Array(HelpText.text(match.path).utf8))
      return 0
    }
    let invocation = Invocation(
      flags: parsed.flags, positionals: parsed.positionals, dashIndex: parsed.dashIndex,
      console: console, environment: environment, path: match.path)
    do throws(CommandFailure) {
      try await action(invocation)
      return 0
    } catch {
      if let reason = error.connectionError { warn(of: reason) }
      if let message = error.message { console.printError("Error: \(message)") }
      return error.code
    }
  }

  /// What etcdctl says too when time is up before there was a connection.
  private func warn(of reason: String) {
    let text =
      "rpc error: code = DeadlineExceeded desc = latest balancer error: last connection error: "
      + reason
    console.printError(
      "{\"level\":\"warn\",\"logger\":\"etcd-client\",\"msg\":\"retrying of unary invoker failed\","
        + "\"error\":\(JSON.string(text))}")
  }

  private func unknownCommand(_ word: String) -> Int32 {
    var text =
      "Error: unknown command \(GoText.quote(word)) for \(GoText.quote(Self.contractName))\n"
    let suggestions = root.suggestions(for: word)
    if !suggestions.isEmpty {
      text += "\nDid you mean this?\n" + suggestions.map { "\t\($0)\n" }.joined() + "\n"
    }
    console.printError(text + "Run '\(Self.contractName) --help' for usage.")
    return CommandFailure.Code.error
  }
}
