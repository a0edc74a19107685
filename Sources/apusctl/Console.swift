// Standard input, output and error of the process.

import Glibc

/// Where a command reads and writes. Bytes are written at once and in order.
struct Console: Sendable {
  var write: @Sendable ([UInt8]) -> Void
  var writeError: @Sendable ([UInt8]) -> Void
  /// One line without its line end; nil at the end of the input, and for a last line without one.
  var readLine: @Sendable () -> [UInt8]?
  /// All that is left of the input.
  var readAll: @Sendable () -> [UInt8]
  /// Whether a terminal shows what is typed.
  var hidesInput: @Sendable (Bool) -> Void = { _ in }

  func print(_ text: String) { write([UInt8](line: text)) }
  func printError(_ text: String) { writeError([UInt8](line: text)) }

  static let standard = Console(
    write: { writeAll($0, to: STDOUT_FILENO) },
    writeError: { writeAll($0, to: STDERR_FILENO) },
    readLine: { readStandardLine() },
    readAll: { readStandardInput() }, hidesInput: { hideStandardInput($0) })

  private static func hideStandardInput(_ isHidden: Bool) {
    var settings = termios()
    guard tcgetattr(STDIN_FILENO, &settings) == 0 else { return }
    if isHidden {
      settings.c_lflag &= ~tcflag_t(ECHO)
    } else {
      settings.c_lflag |= tcflag_t(ECHO)
    }
    tcsetattr(STDIN_FILENO, TCSANOW, &settings)
  }

  private static func writeAll(_ bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count > 0 {
        rest = rest.dropFirst(count)
      } else if count < 0, errno == EINTR {
        continue
      } else {
        // Nobody reads any more: what a command line tool does then is to end.
        exit(1)
      }
    }
  }

  private static func readStandardInput() -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = Glibc.read(STDIN_FILENO, &chunk, chunk.count)
      if count > 0 {
        bytes += chunk[..<count]
      } else if count == 0 || errno != EINTR {
        return bytes
      }
    }
  }

  /// Byte by byte, so that nothing is taken from what follows; lines come from people and scripts.
  private static func readStandardLine() -> [UInt8]? {
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while true {
      let count = Glibc.read(STDIN_FILENO, &byte, 1)
      if count < 0, errno == EINTR { continue }
      if count <= 0 { return nil }
      if byte == 10 { return line }
      line.append(byte)
    }
  }
}
