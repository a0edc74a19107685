internal import CLibYAML

/// Reads YAML with libyaml.
public enum YAMLDocument {
  /// Values of a document, those that aliases repeat counted each time: a few lines of aliases to
  /// aliases would fill any memory.
  private static let mostNodes = 100_000
  private static let mostNesting = 100

  /// The root of a text's first document; nil if there is none.
  ///
  /// - Throws: ``YAMLError`` for the first mistake.
  public static func root(of text: String) throws(YAMLError) -> YAMLNode? {
    let bytes = Array(text.utf8)
    if bytes.isEmpty { return nil }
    var parser = yaml_parser_t()
    guard yaml_parser_initialize(&parser) == 1 else { throw .outOfMemory }
    defer { yaml_parser_delete(&parser) }
    var document = yaml_document_t()
    let isLoaded = bytes.withUnsafeBufferPointer { bytes in
      yaml_parser_set_input_string(&parser, bytes.baseAddress, bytes.count)
      return yaml_parser_load(&parser, &document) == 1
    }
    guard isLoaded else { throw YAMLError(parser) }
    defer { yaml_document_delete(&document) }
    guard yaml_document_get_root_node(&document) != nil else { return nil }
    var budget = mostNodes
    return try node(1, in: &document, nesting: 0, budget: &budget)
  }

  private static func node(
    _ index: Int32, in document: inout yaml_document_t, nesting: Int, budget: inout Int
  ) throws(YAMLError) -> YAMLNode {
    guard let node = yaml_document_get_node(&document, index)?.pointee else { throw .outOfMemory }
    let line = Int(node.start_mark.line) + 1
    budget -= 1
    guard budget > 0, nesting < mostNesting else { throw .tooLarge(line) }
    switch node.type {
    case YAML_SEQUENCE_NODE:
      var elements: [YAMLNode] = []
      let items = node.data.sequence.items
      for item in UnsafeBufferPointer(start: items.start, count: items.top - items.start) {
        elements.append(
          try Self.node(item, in: &document, nesting: nesting + 1, budget: &budget))
      }
      return YAMLNode(value: .sequence(elements), line: line)
    case YAML_MAPPING_NODE:
      var pairs: [(key: YAMLNode, value: YAMLNode)] = []
      var keys: Set<YAMLScalar> = []
      let items = node.data.mapping.pairs
      for item in UnsafeBufferPointer(start: items.start, count: items.top - items.start) {
        let key = try Self.node(item.key, in: &document, nesting: nesting + 1, budget: &budget)
        if let scalar = key.scalar, !keys.insert(scalar).inserted {
          throw .duplicateKey(scalar.text, line: key.line)
        }
        let value = try Self.node(item.value, in: &document, nesting: nesting + 1, budget: &budget)
        pairs.append((key, value))
      }
      return YAMLNode(value: .mapping(pairs), line: line)
    default:
      return YAMLNode(value: .scalar(scalar(node)), line: line)
    }
  }

  private static func scalar(_ node: yaml_node_t) -> YAMLScalar {
    let scalar = node.data.scalar
    let bytes = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
    // The loader gives every scalar without a tag that of a string.
    let isString = node.tag.map { strcmp($0, YAML_STR_TAG) == 0 } ?? true
    return YAMLScalar(
      text: String(decoding: bytes, as: UTF8.self),
      isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE && isString)
  }
}

extension YAMLError {
  fileprivate static let outOfMemory = YAMLError(
    kind: .form, problem: "not enough memory", line: 0, context: nil)

  fileprivate static func tooLarge(_ line: Int) -> YAMLError {
    YAMLError(
      kind: .form, problem: "more values, or nested deeper, than any sensible document", line: line,
      context: nil)
  }

  fileprivate static func duplicateKey(_ key: String, line: Int) -> YAMLError {
    YAMLError(
      kind: .duplicateKey(key), problem: "key \"\(key)\" already set in map", line: line,
      context: nil)
  }

  /// What a parser stopped at.
  fileprivate init(_ parser: yaml_parser_t) {
    let isReader = parser.error == YAML_READER_ERROR
    self.init(
      kind: isReader ? .characters : .form,
      problem: parser.problem.map { String(cString: $0) } ?? "not enough memory",
      line: isReader ? 0 : Int(parser.problem_mark.line) + 1,
      context: parser.context.map {
        Context(text: String(cString: $0), line: Int(parser.context_mark.line) + 1)
      })
  }
}
