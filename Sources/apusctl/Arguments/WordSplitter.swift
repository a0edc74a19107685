// Splitting a line into words, as in txn operations.

enum WordSplitter {
  /// Words are `"..."` with Go's escapes, `'...'` as it stands, or runs of non-blanks that do not
  /// start with a quote.
  static func split(_ line: [UInt8]) -> [[UInt8]] {
    var words: [[UInt8]] = []
    var rest = line[...]
    while let first = rest.first {
      if isBlank(first) {
        rest.removeFirst()
        continue
      }
      if first == UInt8(ascii: "\""), let literal = GoText.readLiteral(rest) {
        words.append(literal.value)
        rest = rest.dropFirst(literal.count)
      } else if first == UInt8(ascii: "'"), let end = rest.dropFirst().firstIndex(of: first) {
        words.append(Array(rest[(rest.startIndex + 1)..<end]))
        rest = rest[(end + 1)...]
      } else {
        let word = rest.prefix { !isBlank($0) }
        words.append(Array(word))
        rest = rest[word.endIndex...]
      }
    }
    return words
  }

  static func isBlank(_ byte: UInt8) -> Bool { byte == 32 || (9...13).contains(byte) }

  /// Without the blanks at both ends.
  static func trim(_ line: [UInt8]) -> [UInt8] {
    let start = line.firstIndex { !isBlank($0) } ?? line.endIndex
    let end = line.lastIndex { !isBlank($0) }.map { $0 + 1 } ?? start
    return Array(line[start..<max(start, end)])
  }
}
