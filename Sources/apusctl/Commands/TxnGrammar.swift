// The lines of a transaction's text.

import EtcdAPI
import FoundationEssentials

enum TxnGrammar {
  private static func invalid(_ message: String) -> CommandFailure {
    CommandFailure(CommandFailure.Code.invalidInput, message)
  }

  // MARK: Comparisons

  /// What could be read of `"key") oper "value"`, in that order.
  private struct Scanned {
    var key: [UInt8] = []
    var operation = ""
    var value: [UInt8] = []
    var isComplete = false

    init(_ text: ArraySlice<UInt8>) {
      var rest = text.drop { $0 == 32 || $0 == 9 }
      guard let key = GoText.readLiteral(rest) else { return }
      self.key = key.value
      rest = rest.dropFirst(key.count)
      guard rest.first == UInt8(ascii: ")") else { return }
      rest = rest.dropFirst()
      guard let blank = rest.first, WordSplitter.isBlank(blank) else { return }
      rest = rest.drop { WordSplitter.isBlank($0) }
      let word = rest.prefix { !WordSplitter.isBlank($0) }
      operation = String(decoding: word, as: UTF8.self)
      rest = rest[word.endIndex...].drop { WordSplitter.isBlank($0) }
      guard let value = GoText.readLiteral(rest) else { return }
      self.value = value.value
      isComplete = true
    }
  }

  /// Reads `target("key") oper "value"`.
  ///
  /// - Throws: exit code 3.
  static func compare(_ line: [UInt8]) throws(CommandFailure) -> Etcdserverpb_Compare {
    let text = RawText.string(line)
    guard let parenthesis = line.firstIndex(of: UInt8(ascii: "(")) else {
      throw invalid("malformed comparison: \(text)")
    }
    let target = String(decoding: line[..<parenthesis], as: UTF8.self)
    let scanned = Scanned(line[(parenthesis + 1)...])
    guard scanned.isComplete else {
      throw invalid(
        "malformed comparison: \(text); got \(target)(\(GoText.quote(scanned.key))) "
          + "\(scanned.operation) \(GoText.quote(scanned.value))")
    }
    var compare = Etcdserverpb_Compare()
    compare.key = Data(scanned.key)
    try setTarget(target, scanned.value, text, &compare)
    switch scanned.operation {
    case "=": compare.result = .equal
    case "!=": compare.result = .notEqual
    case ">": compare.result = .greater
    case "<": compare.result = .less
    default:
      throw invalid("malformed comparison: \(text) (unknown operator \(scanned.operation))")
    }
    return compare
  }

  private static func setTarget(
    _ target: String, _ value: [UInt8], _ line: String, _ compare: inout Etcdserverpb_Compare
  ) throws(CommandFailure) {
    func number() throws(CommandFailure) -> Int64 {
      do throws(GoNumberError) {
        return try GoNumber.int64(String(decoding: value, as: UTF8.self), base: 10)
      } catch {
        throw invalid("invalid txn compare request: \(line)")
      }
    }
    switch target {
    case "ver", "version":
      compare.target = .version
      compare.version = try number()
    case "c", "create":
      compare.target = .create
      compare.createRevision = try number()
    case "m", "mod":
      compare.target = .mod
      compare.modRevision = try number()
    case "val", "value":
      compare.target = .value
      compare.value = Data(value)
    case "lease":
      compare.target = .lease
      compare.lease = try number()
    default: throw invalid("malformed comparison: \(line) (unknown target \(target))")
    }
  }

  // MARK: Operations

  private static let commands = CommandSpec(
    "txn", "", "",
    subcommands: [
      CommandSpec("get", "", "", flags: GetCommand.flags),
      CommandSpec("put", "", "", flags: PutCommand.flags),
      CommandSpec("del", "", "", flags: DelCommand.flags),
    ])

  /// Reads an operation: `get`, `put` or `del` with its words and flags.
  ///
  /// - Returns: the request, and the words of a `del`, which may be worth a warning.
  /// - Throws: exit code 3 for what is no operation, the command's own for its arguments.
  static func operation(
    _ line: [UInt8]
  ) throws(CommandFailure) -> (Etcdserverpb_RequestOp, deletion: ParsedWords?) {
    let text = RawText.string(line)
    let words = WordSplitter.split(line).map { RawText.string($0) }
    guard words.count >= 2 else { throw invalid("invalid txn compare request: \(text)") }
    guard let command = commands.subcommand(words[0]) else {
      throw invalid("invalid txn request: \(text)")
    }
    let parsed: ParsedWords
    do throws(FlagError) {
      parsed = try FlagParser.parse(Array(words.dropFirst()), command.flags)
    } catch {
      throw invalid("invalid txn request: \(text)")
    }
    var operation = Etcdserverpb_RequestOp()
    switch command.name {
    case "get": operation.requestRange = try GetCommand.request(parsed.positionals, parsed.flags)
    case "put":
      operation.requestPut = try PutCommand.request(parsed.positionals, parsed.flags) { [] }
    default:
      operation.requestDeleteRange = try DelCommand.request(parsed.positionals, parsed.flags)
      return (operation, parsed)
    }
    return (operation, nil)
  }
}
