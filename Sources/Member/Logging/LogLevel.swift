/// Severity, in etcd's names and order.
public enum LogLevel: Int, Sendable, Comparable, CaseIterable {
  case debug, info, warn, error, dpanic, panic, fatal

  /// As flags and log lines spell it.
  public var name: String {
    switch self {
    case .debug: "debug"
    case .info: "info"
    case .warn: "warn"
    case .error: "error"
    case .dpanic: "dpanic"
    case .panic: "panic"
    case .fatal: "fatal"
    }
  }

  /// Accepts the names in lower or upper case, and the empty text as info.
  public init?(name: String) {
    if name.isEmpty {
      self = .info
      return
    }
    let matches = Self.allCases.first { $0.name == name || $0.name.uppercased() == name }
    guard let matches else { return nil }
    self = matches
  }

  public static func < (left: LogLevel, right: LogLevel) -> Bool {
    left.rawValue < right.rawValue
  }
}

public enum LogFormat: String, Sendable {
  case json, console
}

/// What the logging flags ask for.
public struct LogOptions: Sendable, Equatable {
  public var level: LogLevel = .info
  public var format: LogFormat = .json
  /// `default`, `stderr`, `stdout`, `systemd/journal` or file paths. `/dev/null` anywhere silences
  /// all.
  public var outputs: [String] = ["default"]
  /// For the one file among the outputs; nil leaves it alone.
  public var rotation: LogRotation?
  /// Per second and message: the first 100 lines, then each 100th.
  public var sampling = true

  public init() {}
}
