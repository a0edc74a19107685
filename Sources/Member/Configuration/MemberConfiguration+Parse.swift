extension MemberConfiguration {
  /// Reads the command line, and either the environment or the configuration file.
  ///
  /// Touches nothing but its arguments. No I/O other than `readFile`.
  /// - Parameters:
  ///   - arguments: without the program's name.
  ///   - environment: all variables; only `ETCD_...` ones matter.
  ///   - readFile: returns a file's text. Its error's description is shown: `open P: ...`.
  ///   - defaultHost: the address of the default route, if known: it replaces `localhost` in
  ///     default advertise URLs of members that listen on 0.0.0.0.
  public static func parse(
    arguments: [String], environment: [String: String],
    readFile: (String) throws -> String, defaultHost: String? = nil
  ) -> ParseOutcome {
    do {
      return try parseOrExit(arguments, environment, readFile, defaultHost)
    } catch {
      return .exit(error)
    }
  }

  private static func parseOrExit(
    _ arguments: [String], _ environment: [String: String],
    _ readFile: (String) throws -> String, _ defaultHost: String?
  ) throws(ConfigurationExit) -> ParseOutcome {
    if let mode = arguments.first, mode == "gateway" || mode == "grpc-proxy" {
      throw ConfigurationExit(
        standardError: "\(mode) mode is not part of this program\n", exitCode: 1)
    }
    var scanner = CommandLineScanner()
    try scanner.scan(arguments)
    if let word = scanner.extraWord {
      throw refusal(
        ConfigurationError("\(word.goQuoted) is not a valid flag"), arguments, scanner.records)
    }
    if scanner.values.bool("version") {
      throw ConfigurationExit(standardOutput: ProductVersion.text, exitCode: 0)
    }
    var path = scanner.values.text("config-file")
    if path.isEmpty { path = environment["ETCD_CONFIG_FILE"] ?? "" }

    var values = scanner.values
    if path.isEmpty {
      let failure = try scanner.applyEnvironment(environment)
      values = scanner.values
      if let failure = failure ?? scanner.refusals.first {
        throw refusal(failure, arguments, scanner.records)
      }
    } else {
      values = try readConfigurationFile(path, readFile, arguments)
    }
    return try check(
      ConfigurationDraft(
        values, source: path.isEmpty ? .commandLine : .file, defaultHost: defaultHost),
      loadedFrom: path, arguments, path.isEmpty ? scanner.records : [])
  }

  private static func readConfigurationFile(
    _ path: String, _ readFile: (String) throws -> String, _ arguments: [String]
  ) throws(ConfigurationExit) -> FlagValues {
    let text: String
    do { text = try readFile(path) } catch {
      throw refusal(ConfigurationError("\(error)"), arguments, [])
    }
    var values = FlagValues()
    do {
      try ConfigurationFile.read(text, into: &values)
    } catch {
      switch error {
      case .line(let line): throw ConfigurationExit(standardError: line, exitCode: 1)
      case .logged(let error): throw refusal(error, arguments, [])
      }
    }
    return values
  }

  private static func check(
    _ draft: ConfigurationDraft, loadedFrom path: String, _ arguments: [String],
    _ earlier: [LogRecord]
  ) throws(ConfigurationExit) -> ParseOutcome {
    var draft = draft
    var records = earlier
    if !path.isEmpty {
      records.append(
        LogRecord(
          .info,
          "loaded server configuration, other configuration command line flags and environment "
            + "variables will be ignored if provided",
          ("path", path)))
    }
    let configuration: MemberConfiguration
    do {
      configuration = try draft.finish()
    } catch {
      if case .levelUnknown(let line) = error {
        throw ConfigurationExit(standardError: line, exitCode: 2)
      }
      throw refusal(error.reason, arguments, records + draft.records)
    }
    records.append(running(arguments))
    return .start(configuration, records + draft.records)
  }

  private static func running(_ arguments: [String]) -> LogRecord {
    LogRecord(.info, "Running: ", ("args", ["apus"] + arguments))
  }

  /// etcd's two or three lines about a configuration it refuses.
  private static func refusal(
    _ error: ConfigurationError, _ arguments: [String], _ earlier: [LogRecord]
  ) -> ConfigurationExit {
    var records = earlier
    records.append(running(arguments))
    records.append(LogRecord(.warn, "failed to verify flags", ("error", error.description)))
    if error == .advertiseClientURLsMissing {
      records.append(
        LogRecord(
          .warn, "advertise client URLs are not set", ("error", error.description)))
    }
    return ConfigurationExit(records: records, exitCode: 1)
  }
}

extension ConfigurationError {
  static let advertiseClientURLsMissing = ConfigurationError(
    "--advertise-client-urls is required when --listen-client-urls is set explicitly")
}
