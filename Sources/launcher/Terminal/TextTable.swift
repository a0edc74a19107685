// Aligned columns.

/// A table for people: a header, rows, two spaces between columns, no lines.
struct TextTable {
  struct Cell {
    let text: String
    let style: Palette.Style?
    /// Takes precedence over `style`: the colour of this member's name.
    let member: Int?

    init(_ text: String, _ style: Palette.Style? = nil, member: Int? = nil) {
      self.text = text
      self.style = style
      self.member = member
    }
  }

  private let header: [String]
  private var rows: [[Cell]] = []

  init(_ header: [String]) { self.header = header }

  /// - Parameter row: one cell per column.
  mutating func append(_ row: [Cell]) {
    precondition(row.count == header.count, "a row has a cell for each column")
    rows.append(row)
  }

  /// The lines, without spaces at their ends.
  func lines(_ palette: Palette) -> [String] {
    let widths = header.indices.map { column in
      rows.reduce(header[column].count) { max($0, $1[column].text.count) }
    }
    let titles = header.map { Cell($0, .dim) }
    return ([titles] + rows).map { Self.line($0, widths, palette) }
  }

  private static func line(_ row: [Cell], _ widths: [Int], _ palette: Palette) -> String {
    let filled = row.lastIndex { !$0.text.isEmpty } ?? -1
    return row.indices.prefix(filled + 1).map { column in
      let cell = row[column]
      let text = column == filled ? cell.text : cell.text.padded(to: widths[column])
      if let member = cell.member { return palette.name(text, of: member) }
      return cell.style.map { palette.paint(text, $0) } ?? text
    }.joined(separator: "  ")
  }
}
