/// Applies a command line to the flag values, by the rules of Go's `flag` package.
struct CommandLineScanner {
  private(set) var values = FlagValues()
  /// Names on the command line, retired ones as written and as what they are called today.
  private(set) var given: [String] = []
  private(set) var records: [LogRecord] = []
  /// Refusals of retired flags; they are told after the whole line has been read.
  private(set) var refusals: [ConfigurationError] = []
  /// The first word that is no flag; reading stopped there.
  private(set) var extraWord: String?

  /// - Throws: ``ConfigurationExit`` for malformed words and for `--help`.
  mutating func scan(_ arguments: [String]) throws(ConfigurationExit) {
    var rest = arguments[...]
    while let word = rest.first {
      guard word.utf8.count >= 2, word.hasPrefix("-") else {
        extraWord = word
        return
      }
      rest = rest.dropFirst()
      if word == "--" {
        extraWord = rest.first
        return
      }
      let body = word.dropFirst(word.hasPrefix("--") ? 2 : 1)
      if body.hasPrefix("-") || body.hasPrefix("=") {
        throw Self.malformed("bad flag syntax: \(word)")
      }
      let equals = body.firstIndex(of: "=")
      let name = String(equals.map { body[..<$0] } ?? body)
      let value = equals.map { String(body[body.index(after: $0)...]) }
      try apply(name, value, &rest)
    }
  }

  private mutating func apply(_ name: String, _ attached: String?, _ rest: inout ArraySlice<String>)
    throws(ConfigurationExit)
  {
    if FlagTable.leftovers.contains(name) { return }
    let retired = FlagTable.retired(named: name)
    guard let kind = FlagTable.spec(named: name)?.kind ?? retired?.kind else {
      if name == "help" || name == "h" {
        throw ConfigurationExit(
          standardOutput: UsageText.flagList, standardError: UsageText.usage, exitCode: 0)
      }
      throw Self.malformed("flag provided but not defined: -\(name)")
    }
    let text: String
    if let attached {
      text = attached
    } else if kind == .bool {
      text = "true"
    } else if let next = rest.first {
      text = next
      rest = rest.dropFirst()
    } else {
      throw Self.malformed("flag needs an argument: -\(name)")
    }
    do {
      try set(name, retired, text, kind)
    } catch {
      throw kind == .bool
        ? Self.malformed("invalid boolean value \(text.goQuoted) for -\(name): \(error)")
        : Self.malformed("invalid value \(text.goQuoted) for flag -\(name): \(error)")
    }
    given.append(name)
    if case .renamed(let target)? = retired?.meaning { given.append(target) }
  }

  /// Sets one flag under its present or a retired name.
  mutating func set(_ name: String, _ retired: RetiredFlag?, _ text: String, _ kind: FlagSpec.Kind)
    throws(FlagValueError)
  {
    let value = try FlagValue(text, kind: kind)
    guard let retired else {
      values.set(name, to: value)
      return
    }
    switch retired.meaning {
    case .renamed(let target):
      values.set(target, to: value)
      warnRetired(name, "use --\(target) instead")
    case .gate(let gate):
      guard case .bool(let enabled) = value else { return }
      values.set("feature-gates", to: .gates(try FeatureGates.parse("\(gate)=\(enabled)")))
      warnRetired(name, "use --feature-gates=\(gate)=\(enabled) instead")
    case .ignored:
      warnRetired(name, "it has no effect any more")
    case .refusedUnless(let harmless, let kind, let reason):
      // Compared as values, so that `0` and `f` are `false`.
      if !harmless.contains(where: { (try? FlagValue($0, kind: kind)) == value }) {
        refusals.append(ConfigurationError("--\(name) is set to \(text.goQuoted), but \(reason)"))
      } else {
        warnRetired(name, "it has no effect any more")
      }
    case .debugLevel:
      if value == .bool(true) { values.set("log-level", to: .text("debug")) }
      warnRetired(name, "use --log-level=debug instead")
    }
  }

  private mutating func warnRetired(_ name: String, _ advice: String) {
    records.append(
      LogRecord(.warn, "flag of an earlier release is used", ("flag", name), ("advice", advice)))
  }

  private static func malformed(_ line: String) -> ConfigurationExit {
    ConfigurationExit(standardError: line + "\n" + UsageText.usage, exitCode: 2)
  }
}

// MARK: - Environment

extension CommandLineScanner {
  /// Fills in flags that were not given from `environment`. Variables with empty values count as
  /// not set.
  ///
  /// - Returns: the last bad value, if any; the good ones are applied nevertheless.
  /// - Throws: ``ConfigurationExit`` if a flag was given on the command line as well.
  mutating func applyEnvironment(_ environment: [String: String]) throws(ConfigurationExit)
    -> ConfigurationError?
  {
    var used: Set<String> = ["ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH"]
    if let version = environment["ETCD_VERSION"], !version.isEmpty {
      records.append(
        LogRecord(
          .warn, "cannot set special environment variable", ("key", "ETCD_VERSION"),
          ("value", version)))
    }
    let onCommandLine = Set(given.map(FlagTable.environmentName))
    var failure: ConfigurationError?
    for (name, key) in FlagTable.environmentNames {
      guard let text = environment[key], !text.isEmpty, !onCommandLine.contains(key) else {
        continue
      }
      used.insert(key)
      let retired = FlagTable.retired(named: name)
      if case .renamed(let target)? = retired?.meaning, given.contains(target) { continue }
      guard let kind = FlagTable.spec(named: name)?.kind ?? retired?.kind else { continue }
      do {
        try set(name, retired, text, kind)
        records.append(
          LogRecord(
            .info, "recognized and used environment variable", ("variable-name", key),
            ("variable-value", text)))
      } catch {
        failure = ConfigurationError("invalid value \(text.goQuoted) for \(key): \(error)")
      }
    }
    try checkLeftOver(environment, used: used, onCommandLine: onCommandLine)
    return failure
  }

  private mutating func checkLeftOver(
    _ environment: [String: String], used: Set<String>, onCommandLine: Set<String>
  ) throws(ConfigurationExit) {
    for (key, value) in environment.sorted(by: { $0.key < $1.key })
    where key.hasPrefix("ETCD_") && !used.contains(key) && !value.isEmpty {
      if onCommandLine.contains(key) {
        records.append(LogRecord(.fatal, Self.shadowed, ("environment-variable", key)))
        throw ConfigurationExit(records: records, exitCode: 1)
      }
      records.append(
        LogRecord(
          .warn, "unrecognized environment variable", ("environment-variable", "\(key)=\(value)")))
    }
  }

  /// etcd's text, closing brackets included.
  private static let shadowed =
    "conflicting environment variable is shadowed by corresponding command-line flag "
    + "(either unset environment variable or disable flag))"
}
