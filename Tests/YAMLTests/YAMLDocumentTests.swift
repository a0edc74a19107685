import Testing

@testable import YAML

@Suite("YAML documents")
struct YAMLDocumentTests {
  @Test func valuesAndTheirLines() throws {
    let root = try #require(
      try YAMLDocument.root(
        of: """
          # a remark
          name: m1
          list: [a, "b c"]
          block:
            - inner: 'it''s'
            - |
              two
              lines
          """))
    #expect(root.line == 2)
    #expect(root.mapping?.map { $0.key.text } == ["name", "list", "block"])
    #expect(root["name"]?.text == "m1")
    #expect(root["list"]?.sequence?.map(\.text) == ["a", "b c"])
    let block = try #require(root["block"]?.sequence)
    #expect(block.map(\.line) == [5, 6])
    #expect(block[0]["inner"]?.text == "it's")
    #expect(block[1].text == "two\nlines")
    #expect(root["absent"] == nil)
    #expect(root.sequence == nil && root.text == nil)
  }

  @Test(arguments: ["", "\n", "# nothing\n", "---\n...\n"])
  func withoutAValue(text: String) throws {
    let root = try YAMLDocument.root(of: text)
    #expect(root == nil || root?.scalar?.meaning == .null)
  }

  @Test func anAliasIsTheValueItNames() throws {
    let root = try YAMLDocument.root(of: "a: &x [1, 2]\nb: *x")
    #expect(root?["b"]?.sequence?.map(\.text) == ["1", "2"])
  }

  /// Ten aliases to ten aliases and so on: without a bound, ten thousand million values.
  @Test func aliasesDoNotFillTheMemory() {
    var text = "a0: &a0 [x]\n"
    for level in 1...10 {
      let aliases = Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", ")
      text += "a\(level): &a\(level) [\(aliases)]\n"
    }
    #expect { _ = try YAMLDocument.root(of: text) } throws: { error in
      (error as? YAMLError)?.problem.hasPrefix("more values") == true
    }
  }

  @Test func aValueThatHoldsItself() {
    #expect(throws: YAMLError.self) { _ = try YAMLDocument.root(of: "&a [*a]") }
  }

  @Test func deepNesting() {
    let text = String(repeating: "[", count: 5_000) + String(repeating: "]", count: 5_000)
    #expect(throws: YAMLError.self) { _ = try YAMLDocument.root(of: text) }
  }

  @Test func mistakesAndTheirLines() {
    func mistake(_ text: String) -> YAMLError? {
      do { _ = try YAMLDocument.root(of: text) } catch { return error }
      return nil
    }
    let mapping = mistake("a: 1\nb: c: 2\n")
    #expect(mapping?.kind == .form && mapping?.line == 2)
    #expect(mapping?.problem == "mapping values are not allowed in this context")
    let open = mistake("a: [1,\n  2\n")
    #expect(open?.context?.line == 1)
    #expect(mistake("a: \u{1}\n")?.kind == .characters)
    let twice = mistake("a: 1\nb: 2\n\na: 3\n")
    #expect(twice?.kind == .duplicateKey("a") && twice?.line == 4)
    #expect(mistake("a: *nobody\n") != nil)
  }

  @Test(arguments: [
    ("null", YAMLScalar.Meaning.null), ("~", .null), ("", .null), ("yes", .bool(true)),
    ("off", .bool(false)), ("True", .bool(true)), ("tRue", .text), ("12", .integer(12)),
    ("-12", .integer(-12)), ("+3", .integer(3)), ("1_000", .integer(1000)),
    ("0x1F", .integer(31)), ("0o17", .integer(15)), ("017", .integer(15)), ("0b11", .integer(3)),
    ("0", .integer(0)), ("99999999999999999999", .float), ("1.5", .float), ("1e3", .float),
    (".5", .float), ("-.inf", .float), (".nan", .float), ("1.5.1", .text), ("+", .text),
    ("-", .text), (".", .text), ("e", .text), ("0x", .text), ("--1", .text), ("0x-1", .text),
    ("5m", .text), ("127.0.0.1", .text),
  ])
  func meaningOfPlainText(text: String, meaning: YAMLScalar.Meaning) {
    #expect(YAMLScalar(text: text, isPlain: true).meaning == meaning)
    #expect(YAMLScalar(text: text, isPlain: false).meaning == .text)
  }

  @Test func quotedTextStaysText() throws {
    let root = try YAMLDocument.root(of: "- \"12\"\n- 'true'\n- !other 12\n")
    #expect(root?.sequence?.map { $0.scalar?.meaning } == [.text, .text, .text])
  }
}
