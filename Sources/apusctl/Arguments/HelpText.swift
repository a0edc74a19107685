// The help of a command, in cobra's layout.

enum HelpText {
  /// The whole help of the last command of `path`; the first is the root.
  static func text(_ path: [CommandSpec]) -> String {
    guard let command = path.last else { return "" }
    let intro = command.details.isEmpty ? command.summary : command.details
    return intro + "\n\n" + usage(path)
  }

  static func usage(_ path: [CommandSpec]) -> String {
    guard let command = path.last, let root = path.first else { return "" }
    let line = path.map(\.name).joined(separator: " ")
    var text = "Usage:\n"
    if command.action != nil {
      let arguments = command.arguments.isEmpty ? "" : " " + command.arguments
      text += "  \(line)\(arguments)" + (command.flags.isEmpty ? "" : " [flags]") + "\n"
    } else {
      text += "  \(line) [command]\n"
    }
    text += commandList(command)
    text += "\nFlags:\n" + flagList(command.flags + [help(command)])
    if command.subcommands.isEmpty == false {
      text += "\nUse \"\(line) [command] --help\" for more information about a command.\n"
    }
    return text
      + "\nUse \"\(root.name) options\" for a list of global command-line options "
      + "(applies to all commands).\n"
  }

  private static func help(_ command: CommandSpec) -> FlagSpec {
    .toggle("help", short: "h", "help for \(command.name)")
  }

  private static func commandList(_ command: CommandSpec) -> String {
    let width = (command.subcommands.map(\.name.count).max() ?? 0) + 1
    func rows(_ commands: [CommandSpec]) -> String {
      commands.sorted { $0.name < $1.name }.map {
        "  \(pad($0.name, width))\($0.summary)\n"
      }.joined()
    }
    var text = ""
    for group in CommandSpec.Group.allCases {
      let members = command.subcommands.filter { $0.group == group }
      if !members.isEmpty { text += "\n\(group.rawValue):\n" + rows(members) }
    }
    let others = command.subcommands.filter { $0.group == nil }
    if !others.isEmpty { text += "\nAvailable Commands:\n" + rows(others) }
    return text
  }

  /// The flags as pflag lists them: sorted, aligned, with type and default.
  static func flagList(_ flags: [FlagSpec]) -> String {
    let rows = flags.sorted { $0.name < $1.name }.map { flag -> (String, String) in
      let short = flag.shorthand.map { "  -\($0), " } ?? "      "
      let type = typeName(flag.kind)
      let head = short + "--" + flag.name + (type.isEmpty ? "" : " " + type)
      return (head, flag.usage + defaultText(flag))
    }
    let width = (rows.map(\.0.count).max() ?? 0) + 3
    return rows.map { pad($0.0, width) + $0.1 + "\n" }.joined()
  }

  private static func typeName(_ kind: FlagSpec.Kind) -> String {
    switch kind {
    case .bool: ""
    case .string: "string"
    case .int64: "int"
    case .duration: "duration"
    case .list: "strings"
    }
  }

  private static func defaultText(_ flag: FlagSpec) -> String {
    switch flag.kind {
    case .bool: flag.initial == "true" ? " (default true)" : ""
    case .string: flag.initial.isEmpty ? "" : " (default \(GoText.quote(flag.initial)))"
    case .int64: flag.initial == "0" ? "" : " (default \(flag.initial))"
    case .duration: " (default \(flag.initial))"
    case .list: " (default [\(flag.initial)])"
    }
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }
}
