import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// A moment as a log line shows it.
public struct LogTime: Sendable, Equatable {
  /// Unix time.
  public var seconds: Int64
  public var nanoseconds: Int32
  /// Local time's lead over UTC, seconds.
  public var zoneOffset: Int

  public init(seconds: Int64, nanoseconds: Int32, zoneOffset: Int = 0) {
    self.seconds = seconds
    self.nanoseconds = nanoseconds
    self.zoneOffset = zoneOffset
  }

  /// The system's wall clock and time zone.
  public static func now() -> LogTime {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    var local = tm()
    localtime_r(&time.tv_sec, &local)
    return LogTime(
      seconds: Int64(time.tv_sec), nanoseconds: Int32(time.tv_nsec),
      zoneOffset: Int(local.tm_gmtoff))
  }
}

/// A destination of log lines could not be opened.
public struct LogSinkError: Error, Equatable, CustomStringConvertible {
  public let description: String
}

/// Formats records and writes them to the outputs, each line with its own `write`.
///
/// Usable from every thread: one short lock guards the line buffer and the outputs, and is held
/// during the write, so lines never mix. A reader that stops reading stdout or stderr therefore
/// stops the writer, as with any program that logs to a pipe.
public final class LogSink: Sendable {
  private struct State: ~Copyable {
    var encoder: LogLineEncoder
    var sampler = LogSampler()
    var outputs: [LogOutput]
    var rotating: RotatingLogFile?
  }

  private let state: Mutex<State>
  private let format: LogFormat
  private let sampling: Bool
  private let clock: @Sendable () -> LogTime
  /// Records below this level are dropped before anything is formatted.
  public let level: LogLevel

  /// Opens the outputs.
  ///
  /// - Throws: ``LogSinkError`` if a file cannot be opened for appending, or there is no journal.
  public convenience init(_ options: LogOptions) throws(LogSinkError) {
    var names = options.outputs
    var rotating: RotatingLogFile?
    if let rotation = options.rotation, !names.contains("/dev/null"),
      let path = names.first(where: LogOutput.isFile)
    {
      rotating = try RotatingLogFile(path: path, rotation: rotation)
      names.removeAll { $0 == path }
    }
    self.init(
      options, outputs: try LogOutput.open(names), rotating: rotating, clock: LogTime.now)
  }

  /// A sink that hands each line, with its line end, to `write`. `write` is called under the lock.
  public convenience init(
    _ options: LogOptions, clock: @escaping @Sendable () -> LogTime,
    write: @escaping @Sendable ([UInt8]) -> Void
  ) {
    self.init(options, outputs: [.function(write)], clock: clock)
  }

  private init(
    _ options: LogOptions, outputs: [LogOutput], rotating: consuming sending RotatingLogFile? = nil,
    clock: @escaping @Sendable () -> LogTime
  ) {
    level = options.level
    format = options.format
    sampling = options.sampling
    self.clock = clock
    state = Mutex(
      State(
        encoder: LogLineEncoder(format: options.format), outputs: outputs, rotating: rotating))
  }

  /// Standard error, JSON, level info: for messages before the configuration is known.
  public static func standardError() -> LogSink {
    LogSink(LogOptions(), outputs: [.descriptor(STDERR_FILENO)], clock: LogTime.now)
  }

  /// Writes one line. `fields` adds its fields through the encoder, in order.
  public func write(
    level: LogLevel, logger: String, file: String, line: UInt, message: String,
    fields: (inout LogLineEncoder) -> Void
  ) {
    guard level >= self.level else { return }
    let time = clock()
    state.withLock { state in
      guard !state.outputs.isEmpty || state.rotating != nil else { return }
      if sampling, !state.sampler.admits(message, level: level, second: time.seconds) { return }
      state.encoder.removeAll()
      switch format {
      case .json:
        Self.encodeJSON(
          into: &state.encoder, level, time, logger, file, line, message, fields)
      case .console:
        Self.encodeConsole(
          into: &state.encoder, level, time, logger, file, line, message, fields)
      }
      state.encoder.raw(UInt8(ascii: "\n"))
      for output in state.outputs { output.write(state.encoder.bytes, level: level) }
      state.rotating?.write(state.encoder.bytes, at: time)
    }
  }

  private static func encodeJSON(
    into encoder: inout LogLineEncoder, _ level: LogLevel, _ time: LogTime, _ logger: String,
    _ file: String, _ line: UInt, _ message: String, _ fields: (inout LogLineEncoder) -> Void
  ) {
    encoder.beginObject()
    encoder.key("level")
    encoder.string(level.name)
    encoder.key("ts")
    encoder.raw(UInt8(ascii: "\""))
    encoder.timestamp(time)
    // Closing the quote here keeps the timestamp free of escaping.
    encoder.endQuoted()
    if !logger.isEmpty {
      encoder.key("logger")
      encoder.string(logger)
    }
    encoder.key("caller")
    encoder.raw(UInt8(ascii: "\""))
    encoder.caller(file, line)
    encoder.endQuoted()
    encoder.key("msg")
    encoder.string(message)
    fields(&encoder)
    encoder.endObject()
  }

  private static func encodeConsole(
    into encoder: inout LogLineEncoder, _ level: LogLevel, _ time: LogTime, _ logger: String,
    _ file: String, _ line: UInt, _ message: String, _ fields: (inout LogLineEncoder) -> Void
  ) {
    let tab = UInt8(ascii: "\t")
    encoder.timestamp(time)
    encoder.raw(tab)
    encoder.raw(level.name)
    encoder.raw(tab)
    if !logger.isEmpty {
      encoder.raw(logger)
      encoder.raw(tab)
    }
    encoder.caller(file, line)
    encoder.raw(tab)
    encoder.raw(message)
    let end = encoder.bytes.count
    encoder.raw(tab)
    encoder.beginObject()
    let empty = encoder.bytes.count
    fields(&encoder)
    // Without fields the line ends at the message.
    if encoder.bytes.count == empty { encoder.truncate(to: end) } else { encoder.endObject() }
  }
}

/// Decides which repetitions of a message are dropped.
struct LogSampler: Sendable {
  private struct Key: Hashable {
    let level: LogLevel
    let message: String
  }
  private var second: Int64 = .min
  private var counts: [Key: Int] = [:]

  /// The first 100 of a message per second, then each 100th.
  mutating func admits(_ message: String, level: LogLevel, second now: Int64) -> Bool {
    if now != second {
      second = now
      counts.removeAll(keepingCapacity: true)
    }
    let count = counts[Key(level: level, message: message), default: 0] + 1
    counts[Key(level: level, message: message)] = count
    return count <= 100 || count % 100 == 0
  }
}

/// One open destination. Descriptors stay open as long as the process.
enum LogOutput: Sendable {
  case descriptor(Int32)
  case journal(LogJournal)
  case function(@Sendable ([UInt8]) -> Void)

  static func isFile(_ name: String) -> Bool {
    !["default", "stderr", "stdout", "systemd/journal", "/dev/null"].contains(name)
  }

  /// `/dev/null` anywhere yields no output at all; names that mean the same are opened once.
  static func open(_ names: [String]) throws(LogSinkError) -> [LogOutput] {
    if names.contains("/dev/null") { return [] }
    if names == ["systemd/journal"] {
      let program = CommandLine.arguments.first.map { LogFileNames(path: $0).stem } ?? "apus"
      return [.journal(try LogJournal(identifier: program))]
    }
    var descriptors: [Int32] = []
    var opened: [String] = []
    for name in names where !opened.contains(name) {
      opened.append(name)
      let descriptor: Int32
      switch name {
      case "default", "stderr": descriptor = STDERR_FILENO
      case "stdout": descriptor = STDOUT_FILENO
      default: descriptor = try openFile(name)
      }
      if !descriptors.contains(descriptor) { descriptors.append(descriptor) }
    }
    return descriptors.map { .descriptor($0) }
  }

  static func openFile(_ name: String, mode: mode_t = 0o666) throws(LogSinkError) -> Int32 {
    let descriptor = Glibc.open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, mode)
    guard descriptor >= 0 else {
      let reason = String(cString: strerror(errno)).lowercased()
      throw LogSinkError(
        description: "couldn't open sink \(name.goQuoted): open \(name): \(reason)")
    }
    return descriptor
  }

  /// Writes the whole line or gives up on an output that is broken: logging must not stop a member.
  func write(_ line: [UInt8], level: LogLevel) {
    switch self {
    case .journal(let journal): journal.write(line, level: level)
    case .function(let function): function(line)
    case .descriptor(let descriptor): line.withUnsafeBytes { Self.write($0, to: descriptor) }
    }
  }

  static func write(_ line: UnsafeRawBufferPointer, to descriptor: Int32) {
    var rest = line
    while let base = rest.baseAddress, rest.count > 0 {
      let written = Glibc.write(descriptor, base, rest.count)
      if written > 0 {
        rest = UnsafeRawBufferPointer(rebasing: rest[written...])
      } else if written < 0, errno == EAGAIN {
        // A terminal shared with another program may be non-blocking.
        var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard poll(&waiting, 1, 1_000) > 0 else { return }
      } else if written < 0, errno == EINTR {
        continue
      } else {
        return
      }
    }
  }
}

extension LogLineEncoder {
  /// `2006-01-02T15:04:05.000000Z`, or `+0100` in place of `Z`.
  mutating func timestamp(_ time: LogTime) {
    let local = time.seconds + Int64(time.zoneOffset)
    let (days, second) = local.flooredDivision(by: 86_400)
    let date = CivilDate(daysSinceEpoch: days)
    decimal(date.year, width: 4)
    raw(UInt8(ascii: "-"))
    decimal(date.month, width: 2)
    raw(UInt8(ascii: "-"))
    decimal(date.day, width: 2)
    raw(UInt8(ascii: "T"))
    decimal(second / 3_600, width: 2)
    raw(UInt8(ascii: ":"))
    decimal(second / 60 % 60, width: 2)
    raw(UInt8(ascii: ":"))
    decimal(second % 60, width: 2)
    raw(UInt8(ascii: "."))
    decimal(time.nanoseconds / 1_000, width: 6)
    if time.zoneOffset == 0 {
      raw(UInt8(ascii: "Z"))
    } else {
      raw(UInt8(ascii: time.zoneOffset < 0 ? "-" : "+"))
      let minutes = time.zoneOffset.magnitude / 60
      decimal(minutes / 60, width: 2)
      decimal(minutes % 60, width: 2)
    }
  }

  /// The last folder and the file of `file`, a colon and the line number.
  mutating func caller(_ file: String, _ line: UInt) {
    var slashes = 0
    var start = file.utf8.endIndex
    for index in file.utf8.indices.reversed() {
      if file.utf8[index] == UInt8(ascii: "/") {
        slashes += 1
        if slashes == 2 { break }
      }
      start = index
    }
    raw(file[start...])
    raw(UInt8(ascii: ":"))
    decimal(line)
  }
}

/// Year, month and day in the Gregorian calendar.
struct CivilDate: Equatable {
  let year: Int64
  let month: Int64
  let day: Int64

  /// Counts in eras of 400 years that begin on 1 March, so that the leap day comes last.
  init(daysSinceEpoch days: Int64) {
    let (era, dayOfEra) = (days + 719_468).flooredDivision(by: 146_097)
    let yearOfEra =
      (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    day = dayOfYear - (153 * shifted + 2) / 5 + 1
    month = shifted < 10 ? shifted + 3 : shifted - 9
    year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  }
}

extension Int64 {
  fileprivate func flooredDivision(by divisor: Int64) -> (quotient: Int64, remainder: Int64) {
    let remainder = self % divisor
    let positive = remainder < 0 ? remainder + divisor : remainder
    return ((self - positive) / divisor, positive)
  }
}
