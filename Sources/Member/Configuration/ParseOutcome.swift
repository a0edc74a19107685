#if canImport(Glibc)
  import Glibc
#endif

/// What the command line, the environment and the configuration file add up to.
public enum ParseOutcome: Sendable {
  /// Start a member. The records are to be logged first, with the configured logger.
  case start(MemberConfiguration, [LogRecord])
  /// Print and end: help, version, or something is wrong.
  case exit(ConfigurationExit)
}

/// What to print, where, and the exit code, when no member is to be started.
public struct ConfigurationExit: Error, Sendable {
  public var standardOutput = ""
  public var standardError = ""
  /// Lines for the log, which is still the default one: JSON on standard error.
  public var records: [LogRecord] = []
  public var exitCode: Int32

  /// Prints everything; the caller then ends the process with the code returned.
  public func report(to logger: EtcdLogger = EtcdLogger(sink: .standardError())) -> Int32 {
    Self.write(standardError, to: STDERR_FILENO)
    Self.write(standardOutput, to: STDOUT_FILENO)
    logger.write(records)
    return exitCode
  }

  private static func write(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { LogOutput.write(UnsafeRawBufferPointer($0), to: descriptor) }
  }
}

/// A configuration that cannot be started, in etcd's words.
public struct ConfigurationError: Error, Equatable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}
