import Testing

@testable import launcher

private let plain = Palette(isEnabled: false)
private let colored = Palette(isEnabled: true)

private func formatter(_ style: LogStyle = .pretty, _ palette: Palette = plain) -> LogFormatter {
  LogFormatter(names: ["m1", "long"], style: style, palette: palette)
}

private func shown(_ line: String, _ style: LogStyle = .pretty) -> String? {
  formatter(style).line(line, of: 0, receivedAt: "01:02:03.004")
}

@Test(arguments: [
  (
    #"{"level":"info","ts":"2026-11-22T12:03:04.123456+0100","caller":"a/b.go:1","msg":"hello"}"#,
    "12:03:04.123 INFO  m1   | hello"
  ),
  (
    #"{"level":"warn","ts":"2026-11-22T12:03:04Z","logger":"raft","msg":"a b","id":"8e","#
      + #""n":7,"took":"1 s","list":["x","y z"],"e":"","on":true}"#,
    #"12:03:04.000 WARN  m1   | a b  id=8e  n=7  took="1 s"  list=["x","y z"]  e=""  on=true"#
  ),
  (#"{"level":"error","ts":1.5,"msg":"x","stacktrace":"a\nb"}"#, "01:02:03.004 ERROR m1   | x"),
  ("panic: oops", "01:02:03.004       m1   | panic: oops"),
  ("{not json", "01:02:03.004       m1   | {not json"),
  ("\u{1b}[31mred\tx", "01:02:03.004       m1   | \u{fffd}[31mred  x"),
])
func logLinesAreShownForPeople(_ line: String, _ expected: String) {
  #expect(shown(line) == expected)
}

@Test func stylesDiffer() {
  let line = #"{"level":"info","ts":"2026-11-22T12:03:04.123Z","msg":"hello"}"#
  #expect(shown(line, .raw) == "m1   | \(line)")
  #expect(shown(line, .quiet) == nil)
}

@Test func aStartShowsWarningsOnly() {
  func starting(_ level: String) -> String? {
    formatter().line(
      #"{"level":"\#(level)","ts":"2026-11-22T12:03:04.123Z","msg":"x"}"#, of: 1,
      receivedAt: "", isStarting: true)
  }
  #expect(starting("info") == nil)
  #expect(starting("warn") == "12:03:04.123 WARN  long | x")
}

@Test func longValuesAndManyFieldsAreCut() throws {
  let long = String(repeating: "v", count: 500)
  let cut = try #require(shown(#"{"level":"info","ts":"x","msg":"m","a":"\#(long)"}"#))
  #expect(cut.hasSuffix("v…"))
  #expect(cut.count < 170)
  let fields = (0..<20).map { #""field\#($0)":"\#(long.prefix(50))""# }.joined(separator: ",")
  let many = try #require(shown(#"{"level":"info","ts":"x","msg":"m",\#(fields)}"#))
  #expect(many.hasSuffix("  (15 more)"))
}

@Test func colorsAreOnlyAddedWhereWanted() {
  let line = #"{"level":"warn","ts":"2026-11-22T12:03:04.123Z","msg":"x"}"#
  #expect(
    formatter(.pretty, colored).line(line, of: 0, receivedAt: "")
      == "\u{1b}[2m12:03:04.123\u{1b}[0m \u{1b}[1;33mWARN \u{1b}[0m "
      + "\u{1b}[36mm1  \u{1b}[0m\u{1b}[2m | \u{1b}[0mx")
  #expect(
    formatter().event("died", of: 0, at: "t", isBad: true) == "t STATE m1   | died")
}

@Test func columnsAreAligned() {
  var table = TextTable(["NAME", "PID", "DATA"])
  table.append([.init("m1"), .init("12345"), .init("d/m1")])
  table.append([.init("member2"), .init("7"), .init("")])
  #expect(
    table.lines(plain) == [
      "NAME     PID    DATA",
      "m1       12345  d/m1",
      "member2  7",
    ])
  var painted = TextTable(["A", "B"])
  painted.append([.init("x", .green), .init("y")])
  #expect(painted.lines(colored)[1] == "\u{1b}[32mx\u{1b}[0m  y")
}

@Test(arguments: [(0, "0s"), (59, "59s"), (184, "3m04s"), (7500, "2h05m"), (356_400, "4d03h")])
func uptimesHaveTwoUnits(_ seconds: Int, _ text: String) {
  #expect(Clock.uptime(seconds: seconds) == text)
}

@Test func linesAreCutAtNewlines() {
  var splitter = LineSplitter(lineBytesMax: 8)
  func split(_ text: String) -> [String] { Array(text.utf8).withUnsafeBytes { splitter.split($0) } }
  #expect(split("ab") == [])
  #expect(split("c\r\nd\n\ne") == ["abc", "d", ""])
  #expect(split("23456789") == ["e2345678"])
  #expect(splitter.finish() == "9")
  #expect(splitter.finish() == nil)
}

@Test func storedLinesOfSeveralMembersAreMergedByTime() {
  let lines = [
    LogTail.Line(member: 0, stamp: "1", text: "a"), LogTail.Line(member: 0, stamp: "3", text: "b"),
    LogTail.Line(member: 1, stamp: "2", text: "c"), LogTail.Line(member: 1, stamp: "3", text: "d"),
  ]
  #expect(LogTail.inOrder(lines).map(\.text) == ["a", "c", "b", "d"])
}
