// What a command is, and how words find it.

/// A command or a group of commands.
struct CommandSpec: Sendable {
  enum Group: String, Sendable, CaseIterable {
    case keyValue = "Key-value commands"
    case cluster = "Cluster maintenance commands"
    case concurrency = "Concurrency commands"
    case authentication = "Authentication commands"
    case utility = "Utility commands"
  }

  typealias Action = @Sendable (Invocation) async throws(CommandFailure) -> Void

  let name: String
  /// The words after the name in the usage line.
  let arguments: String
  let summary: String
  var details = ""
  var group: Group?
  var flags: [FlagSpec] = []
  var subcommands: [CommandSpec] = []
  /// Nil for a group: it prints its help.
  var action: Action?
  /// Flags after the name are not looked at.
  var ignoresFlags = false

  init(
    _ name: String, _ arguments: String = "", _ summary: String, details: String = "",
    group: Group? = nil, flags: [FlagSpec] = [], subcommands: [CommandSpec] = [],
    action: Action? = nil
  ) {
    self.name = name
    self.arguments = arguments
    self.summary = summary
    self.details = details
    self.group = group
    self.flags = flags
    self.subcommands = subcommands
    self.action = action
  }

  /// The subcommand with this name, or the only one that starts with it.
  func subcommand(_ word: String) -> CommandSpec? {
    if let exact = subcommands.first(where: { $0.name == word }) { return exact }
    let matching = subcommands.filter { $0.name.hasPrefix(word) }
    return matching.count == 1 && !word.isEmpty ? matching[0] : nil
  }

  /// Names close to a word that is none: within edit distance 2, or starting with it.
  func suggestions(for word: String) -> [String] {
    let wanted = word.lowercased()
    return subcommands.map(\.name).filter {
      editDistance(wanted, $0) <= 2 || $0.hasPrefix(wanted)
    }
  }
}

/// A command found in the words of a command line.
struct CommandMatch: Sendable {
  /// From the root to the command.
  var path: [CommandSpec]
  /// The words without those that name the command.
  var words: [String]
  /// The first word that is neither a flag nor a command name.
  var firstPositional: String?

  /// Finds the command that `words` name. Flags may stand anywhere, and values of flags are not
  /// taken for names.
  init(root: CommandSpec, words: [String], globalFlags: [FlagSpec]) {
    path = [root]
    self.words = words
    var index = 0
    var command = root
    while index < self.words.count, !command.subcommands.isEmpty {
      let word = self.words[index]
      if word == "--" { break }
      if word.hasPrefix("-"), word.count > 1 {
        index += Self.takesNextWord(word, command.flags + globalFlags) ? 2 : 1
        continue
      }
      guard let next = command.subcommand(word) else {
        firstPositional = word
        break
      }
      path.append(next)
      command = next
      self.words.remove(at: index)
    }
  }

  private static func takesNextWord(_ word: String, _ flags: [FlagSpec]) -> Bool {
    guard !word.contains("=") else { return false }
    let flag =
      word.hasPrefix("--")
      ? flags.first { $0.name == word.dropFirst(2) }
      : word.count == 2 ? flags.first { $0.shorthand == word.last } : nil
    return flag.map { $0.kind != .bool } ?? false
  }
}

private func editDistance(_ left: String, _ right: String) -> Int {
  let left = Array(left)
  let right = Array(right)
  var row = Array(0...right.count)
  for (index, character) in left.enumerated() {
    var diagonal = row[0]
    row[0] = index + 1
    for column in right.indices {
      let replaced = diagonal + (character == right[column] ? 0 : 1)
      diagonal = row[column + 1]
      row[column + 1] = min(replaced, row[column] + 1, diagonal + 1)
    }
  }
  return row[right.count]
}
