// "Did you mean": the nearest known word.

/// Finds the word that a misspelt one was meant to be.
enum Spelling {
  /// The nearest candidate, if it differs by a few letters only; the first of several.
  static func nearest(to word: String, among candidates: [String]) -> String? {
    let allowed = max(1, min(3, word.count / 3))
    var best: (word: String, distance: Int)?
    for candidate in candidates {
      let found = distance(Array(normalized(word)), Array(normalized(candidate)))
      if found <= allowed, found < best?.distance ?? .max { best = (candidate, found) }
    }
    return best?.word
  }

  /// `Data_Dir` and `dataDir` are both close to `data-dir`.
  private static func normalized(_ word: String) -> String {
    String(word.lowercased().map { $0 == "_" ? "-" : $0 })
  }

  /// Levenshtein distance.
  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var previous = Array(0...b.count)
    for (row, character) in a.enumerated() {
      var current = [row + 1]
      for (column, other) in b.enumerated() {
        let replaced = previous[column] + (character == other ? 0 : 1)
        current.append(min(replaced, previous[column + 1] + 1, current[column] + 1))
      }
      previous = current
    }
    return previous[b.count]
  }
}
