import Glibc

/// The systemd journal as a destination of log lines, by its own datagram protocol.
struct LogJournal: Sendable {
  private static let path = "/run/systemd/journal/socket"

  private let descriptor: Int32
  private let identifier: String

  /// - Throws: ``LogSinkError`` if no journal listens.
  init(identifier: String, path: String = Self.path) throws(LogSinkError) {
    self.identifier = identifier
    descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw Self.failure(path) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { bytes in
      bytes.copyBytes(from: path.utf8.prefix(bytes.count - 1))
    }
    let size = socklen_t(MemoryLayout<sockaddr_un>.size)
    let connected = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
    }
    guard connected == 0 else {
      let error = Self.failure(path)
      close(descriptor)
      throw error
    }
  }

  private static func failure(_ path: String) -> LogSinkError {
    LogSinkError(
      description: "can't find journal (dial unixgram \(path): "
        + "\(String(cString: strerror(errno)).lowercased()))")
  }

  /// Sends one record. One that the journal does not take goes to standard error.
  func write(_ line: [UInt8], level: LogLevel) {
    let record = Self.record(line, level: level, identifier: identifier)
    let sent = record.withUnsafeBytes {
      send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
    if sent != record.count {
      line.withUnsafeBytes { LogOutput.write($0, to: STDERR_FILENO) }
    }
  }

  /// Fields as `NAME=value`; the message with its length, since it may hold line ends.
  static func record(_ line: [UInt8], level: LogLevel, identifier: String) -> [UInt8] {
    let message = line.last == UInt8(ascii: "\n") ? line.dropLast() : line[...]
    var record = Array("PRIORITY=\(priority(level))\n".utf8)
    record += Array("PACKAGE=\(identifier)\nSYSLOG_IDENTIFIER=\(identifier)\nMESSAGE\n".utf8)
    withUnsafeBytes(of: UInt64(message.count).littleEndian) { record += $0 }
    record += message
    record.append(UInt8(ascii: "\n"))
    return record
  }

  /// Syslog's severities.
  private static func priority(_ level: LogLevel) -> Int {
    switch level {
    case .debug: 7
    case .info: 6
    case .warn: 4
    case .error: 3
    case .dpanic, .panic, .fatal: 2
    }
  }
}
