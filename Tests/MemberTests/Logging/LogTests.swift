import Synchronization
import Testing

@testable import Member

/// Collects lines in memory.
final class LineCollector: Sendable {
  private let collected = Mutex<[String]>([])
  func append(_ bytes: [UInt8]) {
    collected.withLock { $0.append(String(decoding: bytes, as: UTF8.self)) }
  }
  var lines: [String] { collected.withLock { $0 } }
}

private let moment = LogTime(seconds: 1_700_000_000, nanoseconds: 12_345_678)

private func logger(
  _ collector: LineCollector, level: LogLevel = .info, format: LogFormat = .json,
  time: LogTime = moment
) -> EtcdLogger {
  var options = LogOptions()
  options.level = level
  options.format = format
  return EtcdLogger(sink: LogSink(options, clock: { time }, write: collector.append))
}

@Suite struct LogTests {
  @Test func jsonLineHasKeysInOrder() {
    let collector = LineCollector()
    logger(collector).named("raft").info(
      "became leader", ("term", UInt64(7)), ("took", Duration.microseconds(123_400)),
      ("peers", ["a", "b"]), ("ok", true), ("none", String?.none), ("ratio", 0.5),
      file: "Member/Sub/Node.swift", line: 12)
    #expect(
      collector.lines == [
        #"{"level":"info","ts":"2023-11-14T22:13:20.012345Z","logger":"raft","#
          + #""caller":"Sub/Node.swift:12","msg":"became leader","term":7,"took":"123.4ms","#
          + #""peers":["a","b"],"ok":true,"ratio":0.5}"# + "\n"
      ])
  }

  @Test func callerIsTheCallSite() {
    let collector = LineCollector()
    logger(collector).warn("x")
    #expect(collector.lines[0].contains(#""caller":"MemberTests/LogTests.swift:"#))
  }

  @Test func textIsEscaped() {
    let collector = LineCollector()
    logger(collector).info("a\"b\\c\nd\te\u{1}<\u{E9}>", ("k\"", "\r"))
    #expect(
      collector.lines[0].hasSuffix(
        #""msg":"a\"b\\c\nd\te\u0001<"# + "\u{E9}" + #">","k\"":"\r"}"# + "\n"))
  }

  @Test func consoleIsTabSeparated() {
    let collector = LineCollector()
    let log = logger(collector, format: .console)
    log.error("failed", ("error", "x"), ("n", 1), file: "Member/A.swift", line: 3)
    log.info("plain", file: "Member/A.swift", line: 4)
    #expect(
      collector.lines == [
        "2023-11-14T22:13:20.012345Z\terror\tMember/A.swift:3\tfailed\t"
          + "{\"error\": \"x\", \"n\": 1}\n",
        "2023-11-14T22:13:20.012345Z\tinfo\tMember/A.swift:4\tplain\n",
      ])
  }

  @Test(arguments: [
    (0, 0, "1970-01-01T00:00:00.000000Z"),
    (1_709_164_800, 3_600, "2024-02-29T01:00:00.000000+0100"),
    (1_709_164_800, -12_600, "2024-02-28T20:30:00.000000-0330"),
    (4_102_444_799, 0, "2099-12-31T23:59:59.000000Z"), (-1, 0, "1969-12-31T23:59:59.000000Z"),
  ])
  func timestamps(seconds: Int64, offset: Int, text: String) {
    let collector = LineCollector()
    logger(collector, time: LogTime(seconds: seconds, nanoseconds: 0, zoneOffset: offset)).info("m")
    #expect(collector.lines[0].contains("\"ts\":\"\(text)\""))
  }

  @Test func lowerLevelsCostNothing() {
    let collector = LineCollector()
    let log = logger(collector, level: .warn)
    func costly() -> String {
      Issue.record("the message was built")
      return ""
    }
    log.info(costly())
    #expect(!log.isEnabled(.info) && log.isEnabled(.warn))
    log.warn("w")
    #expect(collector.lines.count == 1)
  }

  @Test func repetitionsAreSampled() {
    let collector = LineCollector()
    let log = logger(collector)
    for _ in 0..<350 { log.info("again") }
    log.info("other")
    log.warn("again")
    // 100, then the 200th and the 300th, then two other kinds.
    #expect(collector.lines.count == 104)
  }

  @Test func recordsAreReplayed() {
    let collector = LineCollector()
    logger(collector).write([LogRecord(.fatal, "stop", ("a", "b"), ("args", ["x"]))])
    #expect(collector.lines[0].hasPrefix(#"{"level":"fatal","#))
    #expect(collector.lines[0].hasSuffix(#""msg":"stop","a":"b","args":["x"]}"# + "\n"))
  }

  @Test func outputs() throws {
    var options = LogOptions()
    options.outputs = ["/nope/x.log"]
    #expect { try LogSink(options) } throws: {
      "\($0)" == "couldn't open sink \"/nope/x.log\": open /nope/x.log: no such file or directory"
    }
    #expect(try LogOutput.open(["stdout", "/dev/null", "/nope/x"]).isEmpty)
    #expect(try LogOutput.open(["default", "stderr", "stdout"]).count == 2)
  }

  @Test func linesOfManyThreadsStayWhole() async {
    let collector = LineCollector()
    let log = logger(collector)
    await withTaskGroup(of: Void.self) { group in
      for task in 0..<8 {
        group.addTask { for turn in 0..<20 { log.info("task \(task)", ("turn", turn)) } }
      }
    }
    #expect(collector.lines.count == 160)
    #expect(collector.lines.allSatisfy { $0.hasPrefix("{\"level\"") && $0.hasSuffix("}\n") })
  }

  @Test func levelNames() {
    #expect(LogLevel(name: "DPANIC") == .dpanic)
    #expect(LogLevel(name: "Warn") == nil)
    #expect(LogLevel(name: "") == .info)
  }
}
