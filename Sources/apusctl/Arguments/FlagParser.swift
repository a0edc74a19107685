// Command line flags in pflag's grammar.

/// A flag that a command knows.
struct FlagSpec: Sendable {
  enum Kind: Sendable { case bool, string, int64, duration, list }

  let name: String
  var shorthand: Character?
  let kind: Kind
  /// The value without the flag, in its text form.
  let initial: String
  let usage: String

  init(_ name: String, _ kind: Kind, _ initial: String, short: Character? = nil, _ usage: String) {
    self.name = name
    self.kind = kind
    self.initial = initial
    self.usage = usage
    shorthand = short
  }

  /// A switch that is off unless given.
  static func toggle(_ name: String, short: Character? = nil, _ usage: String) -> FlagSpec {
    FlagSpec(name, .bool, "false", short: short, usage)
  }

  /// How errors call it.
  fileprivate var label: String { shorthand.map { "-\($0), --\(name)" } ?? "--\(name)" }
}

/// Words that do not fit the grammar, in pflag's words.
struct FlagError: Error, Equatable {
  let description: String
}

/// The values of flags, read by name. Asking for a flag that is not declared is a bug and traps.
struct FlagValues: Sendable {
  private var specs: [String: FlagSpec] = [:]
  private var texts: [String: [String]] = [:]

  init(_ flags: [FlagSpec]) {
    for flag in flags { specs[flag.name] = flag }
  }

  /// Whether the flag was given.
  func isSet(_ name: String) -> Bool { texts[name] != nil }

  /// Sets a flag as from the command line; later values replace earlier ones, lists grow.
  mutating func set(_ name: String, _ text: String) throws(FlagError) {
    guard let flag = specs[name] else { preconditionFailure("no flag \(name)") }
    if let reason = Self.fault(flag.kind, text) {
      throw FlagError(
        description: "invalid argument \(GoText.quote(text)) for \(GoText.quote(flag.label)) "
          + "flag: \(reason)")
    }
    texts[name, default: []].append(text)
  }

  private static func fault(_ kind: FlagSpec.Kind, _ text: String) -> String? {
    switch kind {
    case .string, .list: return nil
    case .bool:
      return parseBool(text) == nil
        ? "strconv.ParseBool: parsing \(GoText.quote(text)): invalid syntax" : nil
    case .int64:
      do throws(GoNumberError) {
        _ = try GoNumber.int64(text, base: 0)
        return nil
      } catch { return error.description }
    case .duration:
      do throws(GoNumberError) {
        _ = try GoDuration.parse(text)
        return nil
      } catch { return error.description }
    }
  }

  private static func parseBool(_ text: String) -> Bool? {
    switch text {
    case "1", "t", "T", "true", "TRUE", "True": true
    case "0", "f", "F", "false", "FALSE", "False": false
    default: nil
    }
  }

  private func spec(_ name: String, _ kind: FlagSpec.Kind) -> FlagSpec {
    guard let flag = specs[name], flag.kind == kind else { preconditionFailure("no flag \(name)") }
    return flag
  }

  private func text(_ name: String, _ kind: FlagSpec.Kind) -> String {
    let flag = spec(name, kind)
    return texts[name]?.last ?? flag.initial
  }

  func bool(_ name: String) -> Bool { Self.parseBool(text(name, .bool)) ?? false }
  func string(_ name: String) -> String { text(name, .string) }

  func int64(_ name: String) -> Int64 {
    (try? GoNumber.int64(text(name, .int64), base: 0)) ?? 0
  }

  func duration(_ name: String) -> Duration {
    (try? GoDuration.parse(text(name, .duration))) ?? .zero
  }

  /// The items of all uses; the first use replaces the default.
  func list(_ name: String) -> [String] {
    let flag = spec(name, .list)
    return (texts[name] ?? [flag.initial]).flatMap { text -> [String] in
      text.isEmpty
        ? [] : text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }
  }

  /// For `--debug`.
  func shown(_ name: String) -> String {
    guard let flag = specs[name] else { return "" }
    switch flag.kind {
    case .list: return "[" + list(name).joined(separator: " ") + "]"
    case .bool: return String(bool(name))
    case .int64: return String(int64(name))
    case .duration: return GoDuration.format(duration(name))
    case .string: return string(name)
    }
  }
}

/// A command's words, taken apart.
struct ParsedWords: Sendable {
  var flags: FlagValues
  var positionals: [String] = []
  /// How many positionals stood before `--`; nil without one.
  var dashIndex: Int?
  var asksForHelp = false
}

enum FlagParser {
  /// Parses `--f v`, `--f=v`, `-f v`, `-fv`, `-f=v`, interleaved with positionals, up to `--`.
  static func parse(_ words: [String], _ flags: [FlagSpec]) throws(FlagError) -> ParsedWords {
    var parsed = ParsedWords(flags: FlagValues(flags))
    var rest = words[...]
    while let word = rest.popFirst() {
      if word == "--" {
        parsed.dashIndex = parsed.positionals.count
        parsed.positionals += rest
        break
      }
      if word.hasPrefix("--") {
        try parseLong(word, &rest, flags, &parsed)
      } else if word.hasPrefix("-"), word.count > 1 {
        try parseShort(word, &rest, flags, &parsed)
      } else {
        parsed.positionals.append(word)
      }
    }
    return parsed
  }

  private static func parseLong(
    _ word: String, _ rest: inout ArraySlice<String>, _ flags: [FlagSpec],
    _ parsed: inout ParsedWords
  ) throws(FlagError) {
    let body = word.dropFirst(2)
    let name = String(body.prefix { $0 != "=" })
    let value = body.count > name.count ? String(body.dropFirst(name.count + 1)) : nil
    guard !name.isEmpty, !name.hasPrefix("-") else {
      throw FlagError(description: "bad flag syntax: \(word)")
    }
    guard let flag = flags.first(where: { $0.name == name }) else {
      if name == "help" { return parsed.asksForHelp = true }
      throw FlagError(description: "unknown flag: --\(name)")
    }
    if let value {
      try parsed.flags.set(name, value)
    } else if flag.kind == .bool {
      try parsed.flags.set(name, "true")
    } else if let next = rest.popFirst() {
      try parsed.flags.set(name, next)
    } else {
      throw FlagError(description: "flag needs an argument: --\(name)")
    }
  }

  private static func parseShort(
    _ word: String, _ rest: inout ArraySlice<String>, _ flags: [FlagSpec],
    _ parsed: inout ParsedWords
  ) throws(FlagError) {
    var letters = word.dropFirst()
    while let letter = letters.popFirst() {
      guard let flag = flags.first(where: { $0.shorthand == letter }) else {
        if letter == "h" {
          parsed.asksForHelp = true
          continue
        }
        throw FlagError(description: "unknown shorthand flag: '\(letter)' in \(word)")
      }
      if letters.first == "=" {
        return try parsed.flags.set(flag.name, String(letters.dropFirst()))
      }
      if flag.kind == .bool {
        try parsed.flags.set(flag.name, "true")
        continue
      }
      if !letters.isEmpty { return try parsed.flags.set(flag.name, String(letters)) }
      guard let next = rest.popFirst() else {
        throw FlagError(description: "flag needs an argument: '\(letter)' in \(word)")
      }
      return try parsed.flags.set(flag.name, next)
    }
  }
}
