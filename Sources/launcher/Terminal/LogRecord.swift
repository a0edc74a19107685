// A member's log line, taken apart.

/// One log line: zap's JSON, or anything else a process prints.
struct LogRecord: Equatable, Sendable {
  struct Field: Equatable, Sendable {
    let key: String
    let value: String
  }

  enum Level: String, Sendable {
    case debug = "DEBUG"
    case info = "INFO"
    case warn = "WARN"
    case error = "ERROR"
    case panic = "PANIC"
    case fatal = "FATAL"
  }

  /// `12:03:04.123`; nil if the line has none.
  let time: String?
  /// Nil if the line is not JSON.
  let level: Level?
  let message: String
  let fields: [Field]

  /// Values longer than this are cut; the whole line is in the member's log file.
  private static let valueCharactersMax = 120

  init(parsing line: String) {
    guard line.hasPrefix("{"), case .object(let members)? = JSONValue(parsing: line),
      let message = members.first(where: { $0.key == "msg" })?.value.text
    else {
      time = nil
      level = nil
      self.message = Self.printable(line)
      fields = []
      return
    }
    func text(_ key: String) -> String? { members.first { $0.key == key }?.value.text }
    time = text("ts").flatMap(Self.timeOfDay)
    level = text("level").flatMap(Self.level)
    self.message = Self.printable(message)
    let known = ["level", "ts", "caller", "msg", "logger", "stacktrace"]
    fields = members.filter { !known.contains($0.key) }.map { member in
      Field(key: Self.printable(member.key), value: Self.shown(member.value))
    }
  }

  private static func level(_ word: String) -> Level? {
    switch word {
    case "warning": .warn
    case "dpanic": .panic
    default: Level(rawValue: word.uppercased())
    }
  }

  /// The time of an ISO time stamp, to the millisecond.
  private static func timeOfDay(_ stamp: String) -> String? {
    guard let separator = stamp.firstIndex(of: "T") else { return nil }
    let time = stamp[stamp.index(after: separator)...]
      .prefix { ("0"..."9").contains($0) || $0 == ":" || $0 == "." }
    guard time.count >= 8 else { return nil }
    let whole = time.contains(".") ? String(time) : time + "."
    return String(whole.padding("0", to: 12).prefix(12))
  }

  private static func shown(_ value: JSONValue) -> String {
    let text = value.text ?? value.compactText
    let isPlain =
      !text.isEmpty && text.unicodeScalars.allSatisfy { $0 != " " && $0 != "\"" && !isControl($0) }
    let isStructure = value.text == nil
    let whole = isPlain || isStructure ? text : JSONValue.quoted(text)
    return whole.count > valueCharactersMax ? whole.prefix(valueCharactersMax - 1) + "…" : whole
  }

  /// The text without characters that would act on a terminal.
  static func printable(_ text: String) -> String {
    guard text.unicodeScalars.contains(where: isControl) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\t": result += "  "
      case _ where isControl(scalar): result += "\u{fffd}"
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}

extension String {
  fileprivate func padding(_ character: Character, to width: Int) -> String {
    self + String(repeating: character, count: Swift.max(0, width - count))
  }
}
