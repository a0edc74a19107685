import Testing

@testable import Member

struct FileMissing: Error, CustomStringConvertible {
  let path: String
  var description: String { "open \(path): no such file or directory" }
}

/// Parses without a process; `file` is the text of the only file there is, `/etc/apus.yml`.
func parse(
  _ arguments: [String], _ environment: [String: String] = [:], file: String? = nil,
  defaultHost: String? = nil
) -> ParseOutcome {
  MemberConfiguration.parse(
    arguments: arguments, environment: environment,
    readFile: { path in
      guard let file, path == "/etc/apus.yml" else { throw FileMissing(path: path) }
      return file
    }, defaultHost: defaultHost)
}

func configuration(
  _ arguments: [String], _ environment: [String: String] = [:], file: String? = nil,
  defaultHost: String? = nil
) throws -> (MemberConfiguration, [LogRecord]) {
  switch parse(arguments, environment, file: file, defaultHost: defaultHost) {
  case .start(let configuration, let records): return (configuration, records)
  case .exit(let exit): throw exit
  }
}

func parsed(
  _ arguments: [String], _ environment: [String: String] = [:], file: String? = nil,
  defaultHost: String? = nil
) throws -> MemberConfiguration {
  try configuration(arguments, environment, file: file, defaultHost: defaultHost).0
}

func refusal(
  _ arguments: [String], _ environment: [String: String] = [:], file: String? = nil
) throws -> ConfigurationExit {
  switch parse(arguments, environment, file: file) {
  case .start: throw ConfigurationError("\(arguments) was accepted")
  case .exit(let exit): return exit
  }
}

extension ConfigurationExit {
  /// The reason as logged.
  var reason: String? { records.first { $0.message == "failed to verify flags" }?.text("error") }
}
