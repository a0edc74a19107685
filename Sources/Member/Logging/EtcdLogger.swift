/// The logger of the whole member: etcd's line format, fields in the order they are written.
///
/// ```swift
/// log.info("published local member", ("local-member-id", id.hex), ("took", elapsed))
/// ```
/// It writes to its ``LogSink`` directly instead of through swift-log, whose metadata is an
/// unordered dictionary that is built for every call: operators' scripts and eyes rely on the
/// order, and a line that is switched off must cost one comparison. Fields are a parameter pack, so
/// they are neither boxed nor put into an array. Their values are computed even when the level is
/// off; where that matters ask ``isEnabled(_:)`` first. Usable from every thread and actor.
public struct EtcdLogger: Sendable {
  public let sink: LogSink
  /// The field `logger`; empty for the unnamed logger.
  public let name: String

  public init(sink: LogSink, name: String = "") {
    self.sink = sink
    self.name = name
  }

  /// The same sink under `name`, appended with a dot to a name that is already there.
  public func named(_ name: String) -> EtcdLogger {
    EtcdLogger(sink: sink, name: self.name.isEmpty ? name : "\(self.name).\(name)")
  }

  /// A logger that drops everything, for tests.
  public static func silent() -> EtcdLogger {
    var options = LogOptions()
    options.level = .fatal
    let zero: @Sendable () -> LogTime = { LogTime(seconds: 0, nanoseconds: 0) }
    return EtcdLogger(sink: LogSink(options, clock: zero) { _ in })
  }

  @inline(__always)
  public func isEnabled(_ level: LogLevel) -> Bool { level >= sink.level }

  public func debug<each Value: LogFieldValue>(
    _ message: @autoclosure () -> String, _ fields: repeat (String, each Value),
    file: String = #fileID, line: UInt = #line
  ) {
    guard isEnabled(.debug) else { return }
    write(.debug, message(), repeat each fields, file: file, line: line)
  }

  public func info<each Value: LogFieldValue>(
    _ message: @autoclosure () -> String, _ fields: repeat (String, each Value),
    file: String = #fileID, line: UInt = #line
  ) {
    guard isEnabled(.info) else { return }
    write(.info, message(), repeat each fields, file: file, line: line)
  }

  public func warn<each Value: LogFieldValue>(
    _ message: @autoclosure () -> String, _ fields: repeat (String, each Value),
    file: String = #fileID, line: UInt = #line
  ) {
    guard isEnabled(.warn) else { return }
    write(.warn, message(), repeat each fields, file: file, line: line)
  }

  public func error<each Value: LogFieldValue>(
    _ message: @autoclosure () -> String, _ fields: repeat (String, each Value),
    file: String = #fileID, line: UInt = #line
  ) {
    guard isEnabled(.error) else { return }
    write(.error, message(), repeat each fields, file: file, line: line)
  }

  /// Writes a line of level fatal. Ending the process is the caller's business.
  public func fatal<each Value: LogFieldValue>(
    _ message: @autoclosure () -> String, _ fields: repeat (String, each Value),
    file: String = #fileID, line: UInt = #line
  ) {
    write(.fatal, message(), repeat each fields, file: file, line: line)
  }

  private func write<each Value: LogFieldValue>(
    _ level: LogLevel, _ message: String, _ fields: repeat (String, each Value), file: String,
    line: UInt
  ) {
    sink.write(level: level, logger: name, file: file, line: line, message: message) { encoder in
      for (key, value) in repeat each fields {
        guard !value.isAbsent else { continue }
        encoder.key(key)
        value.encode(into: &encoder)
      }
    }
  }

  /// Writes records that were made before there was a logger.
  public func write(_ records: [LogRecord]) {
    for record in records {
      sink.write(
        level: record.level, logger: name, file: record.file, line: record.line,
        message: record.message
      ) { encoder in
        for field in record.fields where !field.value.isAbsent {
          encoder.key(field.name)
          field.value.encode(into: &encoder)
        }
      }
    }
  }
}

/// A log line as a value: what the configuration parser has to say before logging is set up.
public struct LogRecord: Sendable {
  public struct Field: Sendable {
    public let name: String
    public let value: any LogFieldValue
  }

  public let level: LogLevel
  public let message: String
  public let fields: [Field]
  let file: String
  let line: UInt

  public init<each Value: LogFieldValue>(
    _ level: LogLevel, _ message: String, _ fields: repeat (String, each Value),
    file: String = #fileID, line: UInt = #line
  ) {
    self.level = level
    self.message = message
    self.file = file
    self.line = line
    var list: [Field] = []
    for (name, value) in repeat each fields { list.append(Field(name: name, value: value)) }
    self.fields = list
  }

  /// The text of a field, or nil.
  public func text(_ name: String) -> String? {
    fields.first { $0.name == name }?.value as? String
  }
}
