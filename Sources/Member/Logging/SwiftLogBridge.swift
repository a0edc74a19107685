#if canImport(Logging)
  public import Logging

  /// Lets libraries that log through swift-log write to the member's sink, in the same format.
  ///
  /// swift-log's metadata has no order; its keys are sorted.
  public struct EtcdLogHandler: LogHandler {
    private let sink: LogSink
    private let label: String
    public var metadata: Logger.Metadata = [:]
    public var logLevel: Logger.Level = .info
    public var metadataProvider: Logger.MetadataProvider?

    public init(label: String, sink: LogSink) {
      self.label = label
      self.sink = sink
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
      let level = Self.level(event.level)
      guard level >= sink.level else { return }
      var merged = metadata
      if let provided = metadataProvider?.get() { merged.merge(provided) { $1 } }
      if let given = event.metadata { merged.merge(given) { $1 } }
      sink.write(
        level: level, logger: label, file: event.file, line: event.line,
        message: event.message.description
      ) { encoder in
        for (key, value) in merged.sorted(by: { $0.key < $1.key }) {
          encoder.key(key)
          encoder.string(value.description)
        }
        if let error = event.error {
          encoder.key("error")
          encoder.string("\(error)")
        }
      }
    }

    private static func level(_ level: Logger.Level) -> LogLevel {
      switch level {
      case .trace, .debug: .debug
      case .info, .notice: .info
      case .warning: .warn
      case .error, .critical: .error
      }
    }
  }
#endif
