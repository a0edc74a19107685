// Colours, where they are wanted.

import Glibc

/// Wraps text in terminal colours, or leaves it as it is.
struct Palette: Equatable, Sendable {
  enum Style: String, Sendable {
    case bold = "1"
    case dim = "2"
    case red = "31"
    case green = "32"
    case yellow = "33"
    case blue = "34"
    case magenta = "35"
    case cyan = "36"
    case boldRed = "1;31"
    case boldYellow = "1;33"
  }

  let isEnabled: Bool

  /// Colours for a descriptor: only on a terminal that can show them, never with `NO_COLOR` set.
  init(descriptor: Int32) {
    let refused = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
    let terminal = getenv("TERM").map { String(cString: $0) } ?? ""
    isEnabled = isatty(descriptor) == 1 && !refused && terminal != "dumb"
  }

  init(isEnabled: Bool) { self.isEnabled = isEnabled }

  func paint(_ text: String, _ style: Style) -> String {
    isEnabled && !text.isEmpty ? "\u{1b}[\(style.rawValue)m\(text)\u{1b}[0m" : text
  }

  /// The colour of a member's name. Red and yellow are kept for bad news.
  func name(_ text: String, of member: Int) -> String {
    let cycle: [Style] = [.cyan, .magenta, .green, .blue]
    return paint(text, cycle[member % cycle.count])
  }
}

extension String {
  /// The text filled up with spaces to `width` characters.
  func padded(to width: Int) -> String {
    self + String(repeating: " ", count: Swift.max(0, width - count))
  }
}
