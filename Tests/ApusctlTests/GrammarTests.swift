import EtcdAPI
import FoundationEssentials
import Testing

@testable import apusctl

private let flags: [FlagSpec] = [
  FlagSpec("write-out", .string, "simple", short: "w", ""), .toggle("hex", short: "x", ""),
  FlagSpec("rev", .int64, "0", ""), FlagSpec("endpoints", .list, "a:1", ""),
  FlagSpec("wait", .duration, "5s", ""),
]

private func parse(_ words: String...) throws(FlagError) -> ParsedWords {
  try FlagParser.parse(words, flags)
}

private func flagFault(_ words: String...) -> String? {
  do throws(FlagError) {
    _ = try FlagParser.parse(words, flags)
    return nil
  } catch {
    return error.description
  }
}

@Suite struct FlagTests {
  @Test(arguments: [
    ["-w", "json", "k"], ["-wjson", "k"], ["-w=json", "k"], ["k", "--write-out", "json"],
    ["k", "--write-out=json"], ["-xw", "json", "k"], ["--write-out=x", "k", "-w", "json"],
  ])
  func waysToGiveAValue(_ words: [String]) throws {
    let parsed = try FlagParser.parse(words, flags)
    #expect(parsed.flags.string("write-out") == "json")
    #expect(parsed.positionals == ["k"])
  }

  @Test func aFlagTakesTheNextWordWhateverItIs() throws {
    #expect(
      flagFault("--rev", "--", "-1")
        == "invalid argument \"--\" for \"--rev\" flag: strconv.ParseInt: parsing \"--\": "
        + "invalid syntax")
    #expect(try parse("--rev", "-1").flags.int64("rev") == -1)
  }

  @Test func twoDashesEndTheFlags() throws {
    let parsed = try parse("a", "--", "-w", "--hex")
    #expect(parsed.positionals == ["a", "-w", "--hex"])
    #expect(parsed.dashIndex == 1)
    #expect(!parsed.flags.bool("hex"))
  }

  @Test func boolsTakeTheirValueOnlyWithEquals() throws {
    #expect(try parse("--hex").flags.bool("hex"))
    #expect(try !parse("--hex=false").flags.bool("hex"))
    #expect(try parse("--hex", "false").positionals == ["false"])
    #expect(
      flagFault("--hex=maybe")
        == "invalid argument \"maybe\" for \"-x, --hex\" flag: strconv.ParseBool: parsing "
        + "\"maybe\": invalid syntax")
  }

  @Test func listsAccumulateAndReplaceTheDefault() throws {
    #expect(try parse().flags.list("endpoints") == ["a:1"])
    #expect(
      try parse("--endpoints=b:1,c:1", "--endpoints", "d:1").flags.list("endpoints")
        == ["b:1", "c:1", "d:1"])
    #expect(try parse("--endpoints=").flags.list("endpoints") == [])
  }

  @Test func faults() {
    #expect(flagFault("--bogus") == "unknown flag: --bogus")
    #expect(flagFault("--he") == "unknown flag: --he")
    #expect(flagFault("-c") == "unknown shorthand flag: 'c' in -c")
    #expect(flagFault("--rev") == "flag needs an argument: --rev")
    #expect(flagFault("-w") == "flag needs an argument: 'w' in -w")
    #expect(flagFault("--=x") == "bad flag syntax: --=x")
    #expect(
      flagFault("--wait=5")
        == "invalid argument \"5\" for \"--wait\" flag: time: missing unit in duration \"5\"")
  }

  @Test func variablesStandForGlobalFlags() throws {
    var values = FlagValues(GlobalFlags.all)
    let unknown = try GlobalFlags.apply(
      [
        "ETCDCTL_ENDPOINTS": "x:1", "ETCDCTL_API": "3", "ETCDCTL_USER": "", "PATH": "p",
        "ETCDCTL_INSECURE_TRANSPORT": "notbool", "ETCDCTL_WATCH_KEY": "k",
      ], to: &values, known: ["ETCDCTL_WATCH_KEY"])
    #expect(values.list("endpoints") == ["x:1"])
    #expect(!values.bool("insecure-transport"))
    #expect(unknown == ["ETCDCTL_API=3", "ETCDCTL_USER="])
    var conflicting = FlagValues(GlobalFlags.all)
    try conflicting.set("hex", "true")
    #expect(throws: EnvironmentConflict(variable: "ETCDCTL_HEX")) {
      try GlobalFlags.apply(["ETCDCTL_HEX": ""], to: &conflicting, known: [])
    }
  }
}

@Suite struct CommandSearchTests {
  private func path(_ words: String...) -> [String] {
    let match = CommandMatch(
      root: Commands.root(name: "etcdctl"), words: words, globalFlags: GlobalFlags.all)
    return match.path.dropFirst().map(\.name) + match.words
  }

  @Test func abbreviations() {
    #expect(path("mem", "li") == ["member", "list"])
    #expect(path("compact", "4") == ["compaction", "4"])
    #expect(path("comp", "4") == ["comp", "4"])
    #expect(path("-w", "json", "get", "put") == ["get", "-w", "json", "put"])
    #expect(
      path("--endpoints", "a:1", "endpoint", "--cluster", "hea")
        == ["endpoint", "health", "--endpoints", "a:1", "--cluster"])
  }

  @Test func suggestions() {
    #expect(
      Commands.root(name: "etcdctl").suggestions(for: "c").sorted()
        == ["check", "compaction", "completion"])
    #expect(Commands.root(name: "etcdctl").suggestions(for: "nosuch") == [])
  }

  @Test func helpOfEveryCommandNamesItsFlags() {
    func check(_ path: [CommandSpec]) {
      let text = HelpText.text(path)
      let command = path[path.count - 1]
      #expect(text.contains("Usage:\n  "))
      for flag in command.flags { #expect(text.contains("--" + flag.name)) }
      for subcommand in command.subcommands {
        #expect(text.contains("  \(subcommand.name) "))
        check(path + [subcommand])
      }
    }
    check([Commands.root(name: "etcdctl")])
  }
}

@Suite struct GoTextTests {
  @Test func quotes() {
    let raw: [UInt8] = [97, 1, 127, 0xc3, 0xa9, 255, 34, 92]
    #expect(GoText.quote(raw) == #""a\x01\x7fé\xff\"\\""#)
    #expect(GoText.quote("\u{00a0}\u{200b}\n\t") == #""\u00a0\u200b\n\t""#)
  }

  @Test(arguments: [
    (#""a\n\x61\u00e9\101""#, "a\naéA"), ("`a\\n`", "a\\n"), (#""a"rest"#, "a"),
  ])
  func literals(_ text: String, _ value: String) {
    let read = GoText.readLiteral(Array(text.utf8)[...])
    #expect(read.map { String(decoding: $0.value, as: UTF8.self) } == value)
  }

  @Test(arguments: [#""open"#, "plain", #""\q""#, #""\x6""#, ""])
  func noLiterals(_ text: String) {
    #expect(GoText.readLiteral(Array(text.utf8)[...]) == nil)
  }

  @Test func wordsCarryAnyBytes() {
    let raw: [UInt8] = [0xff, 65, 0xc3, 0x28, 0xf4, 0x8f, 0xbf, 0xbf, 0xf0, 0x9f, 0x90, 0xa6]
    #expect(RawText.bytes(RawText.string(raw)) == raw)
    #expect(RawText.string(Array("é🐦".utf8)) == "é🐦")
  }

  @Test func numbers() throws {
    #expect(try GoNumber.int64("-8000000000000000", base: 16) == .min)
    #expect(try GoNumber.int64("+5", base: 10) == 5)
    #expect(try GoNumber.int64("0x10", base: 0) == 16)
    #expect(try GoNumber.uint64("ffffffffffffffff", base: 16) == .max)
    #expect(
      throws: GoNumberError(
        description: "strconv.ParseInt: parsing \"99999999999999999999\": value out of range")
    ) { try GoNumber.int64("99999999999999999999", base: 10) }
    #expect(
      throws: GoNumberError(description: "strconv.ParseUint: parsing \"zz\": invalid syntax")
    ) { try GoNumber.uint64("zz", base: 16) }
  }

  @Test func durations() throws {
    #expect(try GoDuration.parse("1m30.5s") == .milliseconds(90500))
    #expect(try GoDuration.parse("500ms") == .milliseconds(500))
    #expect(try GoDuration.parse("0") == .zero)
    #expect(GoDuration.format(nanoseconds: 883_754) == "883.754µs")
    #expect(GoDuration.format(nanoseconds: 3_039_630) == "3.03963ms")
    #expect(GoDuration.format(nanoseconds: 1_000_360_529) == "1.000360529s")
    #expect(GoDuration.format(nanoseconds: 61_500_000_000) == "1m1.5s")
    #expect(GoDuration.format(nanoseconds: 3_600_000_000_000) == "1h0m0s")
  }
}

@Suite struct TxnGrammarTests {
  private func compare(_ line: String) throws(CommandFailure) -> Etcdserverpb_Compare {
    try TxnGrammar.compare(Array(line.utf8))
  }

  private func fault(_ line: String) -> String? {
    do throws(CommandFailure) {
      _ = try compare(line)
      return nil
    } catch {
      #expect(error.code == 3)
      return error.message
    }
  }

  private func operationFault(_ line: String) -> CommandFailure? {
    do throws(CommandFailure) {
      _ = try TxnGrammar.operation(Array(line.utf8))
      return nil
    } catch {
      return error
    }
  }

  @Test func comparisons() throws {
    let mod = try compare(#"mod("key1") > "0""#)
    #expect(mod.key == Data("key1".utf8) && mod.result == .greater && mod.modRevision == 0)
    #expect(mod.targetUnion == .modRevision(0))
    let value = try compare(#"val( "a\x00b") != `x"y` trailing words"#)
    #expect(value.key == Data([97, 0, 98]) && value.value == Data(#"x"y"#.utf8))
    #expect(value.result == .notEqual)
    #expect(try compare(#"lease("k") = "12""#).lease == 12)
    #expect(try compare(#"c("k") < "+7""#).createRevision == 7)
    #expect(try compare(#"ver("k") = "1""#).target == .version)
  }

  @Test(arguments: [
    (#"mod(key1) > "0""#, #"malformed comparison: mod(key1) > "0"; got mod("")  """#),
    (#"mod key1 > "0""#, #"malformed comparison: mod key1 > "0""#),
    (#"foo("key1") > "0""#, #"malformed comparison: foo("key1") > "0" (unknown target foo)"#),
    (#"mod("key1") > "abc""#, #"invalid txn compare request: mod("key1") > "abc""#),
    (#"mod("k") >= "1""#, #"malformed comparison: mod("k") >= "1" (unknown operator >=)"#),
  ])
  func malformedComparisons(_ line: String, _ message: String) {
    #expect(fault(line) == message)
  }

  @Test func operations() throws {
    let (put, _) = try TxnGrammar.operation(Array(#"put b "l1\nl2""#.utf8))
    #expect(put.requestPut.key == Data("b".utf8))
    #expect(put.requestPut.value == Data("l1\nl2".utf8))
    let (get, _) = try TxnGrammar.operation(Array("g --prefix 'single quoted' --limit 2".utf8))
    #expect(get.requestRange.key == Data("single quoted".utf8))
    #expect(get.requestRange.rangeEnd == Data("single quotee".utf8))
    #expect(get.requestRange.limit == 2)
    let (delete, words) = try TxnGrammar.operation(Array("de a c".utf8))
    #expect(delete.requestDeleteRange.rangeEnd == Data("c".utf8))
    #expect(words?.positionals == ["a", "c"])
  }

  @Test func malformedOperations() {
    #expect(operationFault("get") == CommandFailure(3, "invalid txn compare request: get"))
    #expect(operationFault("foo key1") == CommandFailure(3, "invalid txn request: foo key1"))
    #expect(operationFault("delete k") == CommandFailure(3, "invalid txn request: delete k"))
    #expect(
      operationFault("put a -w json") == CommandFailure(3, "invalid txn request: put a -w json"))
    #expect(operationFault("put a")?.code == 128)
  }

  @Test func ends() {
    #expect(KeyRange.end(ofPrefix: Data([1, 255, 255])) == Data([2]))
    #expect(KeyRange.end(ofPrefix: Data([255])) == Data([0]))
    let all = KeyRange.resolve(key: "", end: nil, isPrefix: true, isFromKey: false)
    #expect(all.key == Data([0]) && all.end == Data([0]))
  }

  @Test func watchTargets() throws {
    let none: [String: String] = [:]
    #expect(
      try WatchCommand.target(["k", "e"], dashIndex: nil, environment: none)
        == .init(key: "k", end: "e"))
    #expect(
      try WatchCommand.target(["k", "e", "x"], dashIndex: nil, environment: none)
        == .init(key: "k", end: nil))
    #expect(
      try WatchCommand.target(
        ["sh", "-c"], dashIndex: 0, environment: ["ETCDCTL_WATCH_KEY": "k"])
        == .init(key: "k", end: nil, command: ["sh", "-c"]))
    #expect(throws: CommandFailure(128, "bad number of arguments")) {
      try WatchCommand.target(["sh"], dashIndex: 0, environment: none)
    }
    #expect(
      throws: CommandFailure(
        128, "bad number of arguments (found separator --, but no commands)")
    ) { try WatchCommand.target(["k"], dashIndex: 1, environment: none) }
  }
}
