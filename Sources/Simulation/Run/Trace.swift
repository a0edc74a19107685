import Base

/// What happened, as a checksum that tells two runs apart, and on demand as text.
public struct Trace: Sendable {
  public private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  /// Lines kept; 0 = none are made.
  private let linesMax: Int
  private var lines: [String] = []
  private var first = 0

  public init(linesMax: Int = 0) { self.linesMax = linesMax }

  mutating func mix(_ value: UInt64) {
    hash = (hash ^ value) &* 0x9e37_79b9_7f4a_7c15
    hash ^= hash >> 29
  }

  mutating func note(_ time: UInt64, _ text: @autoclosure () -> String) {
    guard linesMax > 0 else { return }
    let milliseconds = String(time / 1_000_000)
    let line = String(repeating: " ", count: max(0, 8 - milliseconds.count)) + milliseconds
    if lines.count < linesMax {
      lines.append("\(line) ms  \(text())")
    } else {
      lines[first] = "\(line) ms  \(text())"
      first = (first + 1) % linesMax
    }
  }

  /// The last lines, oldest first.
  public var story: [String] { Array(lines[first...] + lines[..<first]) }
}
