// Log lines and events as the terminal shows them.

/// How members' log lines are shown.
enum LogStyle: String, CaseIterable, Sendable {
  /// Time, level, member, message, fields.
  case pretty
  /// The member's own line behind its name.
  case raw
  /// Not at all: only what happens to the members.
  case quiet
}

/// Gives every line the same columns: time, level, member, text.
struct LogFormatter: Sendable {
  /// Fields beyond this are only counted; the whole line is in the member's log file.
  private static let fieldCharactersMax = 320

  private let names: [String]
  private let width: Int
  private let style: LogStyle
  private let palette: Palette

  init(names: [String], style: LogStyle, palette: Palette) {
    self.names = names
    self.style = style
    self.palette = palette
    width = names.map(\.count).max() ?? 0
  }

  /// One log line of a member; nil if the style shows none.
  ///
  /// - Parameters:
  ///   - receivedAt: the time of day for lines that have none.
  ///   - isStarting: the member does not serve yet. Of the many steps of a start the pretty style
  ///     shows only what is worth a warning.
  func line(
    _ text: String, of member: Int, receivedAt: String, isStarting: Bool = false
  ) -> String? {
    switch style {
    case .quiet: return nil
    case .raw: return prefix(member) + LogRecord.printable(text)
    case .pretty:
      let record = LogRecord(parsing: text)
      if isStarting && (record.level == .info || record.level == .debug) { return nil }
      return pretty(record, member, receivedAt)
    }
  }

  /// Something that happened to a member.
  func event(_ text: String, of member: Int, at time: String, isBad: Bool) -> String {
    let painted = palette.paint(text, isBad ? .boldRed : .bold)
    return "\(palette.paint(time, .dim)) \(palette.paint("STATE", isBad ? .boldRed : .bold)) "
      + prefix(member) + painted
  }

  /// Something that happened to the cluster as a whole, for the worse.
  func clusterEvent(_ text: String, at time: String) -> String {
    let name = String(repeating: " ", count: width) + palette.paint(" | ", .dim)
    return "\(palette.paint(time, .dim)) \(palette.paint("STATE", .boldRed)) \(name)"
      + palette.paint(text, .boldRed)
  }

  /// A line that belongs to the event above it.
  func quote(_ text: String, of member: Int) -> String {
    let record = LogRecord(parsing: text)
    let level = record.level.map { $0.rawValue.padded(to: 5) + " " } ?? ""
    let content = ([level + record.message] + record.fields.map { "\($0.key)=\($0.value)" })
      .joined(separator: "  ")
    return String(repeating: " ", count: 19) + prefix(member) + "  " + palette.paint(content, .dim)
  }

  private func prefix(_ member: Int) -> String {
    palette.name(names[member].padded(to: width), of: member) + palette.paint(" | ", .dim)
  }

  private func pretty(_ record: LogRecord, _ member: Int, _ receivedAt: String) -> String {
    let time = palette.paint(record.time ?? receivedAt, .dim)
    let level = level(record.level)
    let fields = fieldTexts(record.fields)
    return (["\(time) \(level) \(prefix(member))\(record.message)"] + fields)
      .joined(separator: "  ")
  }

  private func fieldTexts(_ fields: [LogRecord.Field]) -> [String] {
    var room = Self.fieldCharactersMax
    var texts: [String] = []
    for (index, field) in fields.enumerated() {
      room -= field.key.count + field.value.count + 3
      if room < 0 && index > 0 {
        texts.append(palette.paint("(\(fields.count - index) more)", .dim))
        break
      }
      texts.append(palette.paint("\(field.key)=", .dim) + field.value)
    }
    return texts
  }

  private func level(_ level: LogRecord.Level?) -> String {
    let text = (level?.rawValue ?? "").padded(to: 5)
    return switch level {
    case .warn: palette.paint(text, .boldYellow)
    case .error, .panic, .fatal: palette.paint(text, .boldRed)
    case .debug: palette.paint(text, .dim)
    case .info, nil: text
    }
  }
}
