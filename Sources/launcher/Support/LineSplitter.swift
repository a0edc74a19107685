// Bytes to lines.

/// Cuts a byte stream at its newlines.
struct LineSplitter {
  private let lineBytesMax: Int
  private var rest: [UInt8] = []

  /// - Parameter lineBytesMax: a longer line is cut into pieces of this size.
  init(lineBytesMax: Int = 64 * 1024) { self.lineBytesMax = lineBytesMax }

  /// Bytes of a line whose end has not come yet.
  var pendingBytes: Int { rest.count }

  /// Returns the lines that `bytes` complete, without their newlines; bad UTF-8 is replaced.
  mutating func split(_ bytes: UnsafeRawBufferPointer) -> [String] {
    var lines: [String] = []
    for byte in bytes {
      if byte != UInt8(ascii: "\n") { rest.append(byte) }
      if byte == UInt8(ascii: "\n") || rest.count >= lineBytesMax { lines.append(takeRest()) }
    }
    return lines
  }

  /// What has come since the last newline, if anything.
  mutating func finish() -> String? { rest.isEmpty ? nil : takeRest() }

  private mutating func takeRest() -> String {
    if rest.last == UInt8(ascii: "\r") { rest.removeLast() }
    defer { rest.removeAll(keepingCapacity: true) }
    return String(decoding: rest, as: UTF8.self)
  }
}
