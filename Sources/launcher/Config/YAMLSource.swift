// YAML text to nodes with line numbers.

import Yams

enum YAMLSource {
  /// The document's root node; nil if there is none.
  ///
  /// - Throws: the mistake that keeps it from being YAML.
  static func compose(_ text: String) throws(YAMLFailure) -> Node? {
    if let line = lineIndentedByTab(text) {
      throw YAMLFailure(
        problem: ConfigProblem(
          line, "the line is indented with a tab, which YAML does not allow",
          instead: "spaces"))
    }
    do {
      return try Yams.compose(yaml: text)
    } catch let error as YamlError {
      throw YAMLFailure(problem: problem(of: error, text))
    } catch {
      throw YAMLFailure(problem: ConfigProblem(0, "not YAML: \(error)"))
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

  private static func problem(of error: YamlError, _ text: String) -> ConfigProblem {
    switch error {
    case .scanner(let context, let problem, let mark, _),
      .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      let place = context.map { " (\($0.text) in line \($0.mark.line))" } ?? ""
      return ConfigProblem(mark.line, "not YAML: \(problem)\(place)", instead: advice(problem))
    case .duplicatedKeysInMapping(let duplicates, let context):
      let key = duplicates.sorted().first ?? ""
      let line = secondLine(of: key, in: text, from: context.mark.line) ?? context.mark.line
      return ConfigProblem(line, "`\(key)` stands here twice", instead: "one of the two")
    case .reader(let problem, _, _, _):
      return ConfigProblem(0, "not YAML: \(problem)", instead: "UTF-8 text")
    default:
      return ConfigProblem(0, "not YAML: \(error)")
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

  /// The line in which a key of a mapping appears for the second time, by its looks.
  private static func secondLine(of key: String, in text: String, from first: Int) -> Int? {
    var seen = 0
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    where index + 1 >= first {
      let content = line.drop { $0 == " " || $0 == "-" }
      guard content.hasPrefix(key), content.dropFirst(key.count).first == ":" else { continue }
      seen += 1
      if seen == 2 { return index + 1 }
    }
    return nil
  }
}

struct YAMLFailure: Error {
  let problem: ConfigProblem
}
