// YAML text to nodes with line numbers.

internal import YAML

enum YAMLSource {
  /// The document's root node; nil if there is none.
  ///
  /// - Throws: the mistake that keeps it from being YAML.
  static func compose(_ text: String) throws(YAMLFailure) -> YAMLNode? {
    if let line = lineIndentedByTab(text) {
      throw YAMLFailure(
        problem: ConfigProblem(
          line, "the line is indented with a tab, which YAML does not allow",
          instead: "spaces"))
    }
    do {
      return try YAMLDocument.root(of: text)
    } catch {
      throw YAMLFailure(problem: problem(of: error))
    }
  }

  private static func lineIndentedByTab(_ text: String) -> Int? {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    let index = lines.firstIndex { line in
      line.prefix { $0 == " " || $0 == "\t" }.contains("\t")
        && line.contains { $0 != " " && $0 != "\t" && $0 != "\r" }
    }
    return index.map { $0 + 1 }
  }

  private static func problem(of error: YAMLError) -> ConfigProblem {
    switch error.kind {
    case .duplicateKey(let key):
      return ConfigProblem(error.line, "`\(key)` stands here twice", instead: "one of the two")
    case .characters:
      return ConfigProblem(0, "not YAML: \(error.problem)", instead: "UTF-8 text")
    case .form:
      let place = error.context.map { " (\($0.text) in line \($0.line))" } ?? ""
      return ConfigProblem(
        error.line, "not YAML: \(error.problem)\(place)", instead: advice(error.problem))
    }
  }

  private static func advice(_ problem: String) -> String? {
    switch problem {
    case "mapping values are not allowed in this context": "`key: value`, each key on its own line"
    case "could not find expected ':'": "`key: value`, with a space after the colon"
    case "did not find expected key", "did not find expected '-' indicator":
      "the same indentation as the lines around it"
    case "found character that cannot start any token": "the value in \"quotes\""
    default: nil
    }
  }
}

struct YAMLFailure: Error {
  let problem: ConfigProblem
}
