#if canImport(Logging)
  import Logging
  import Testing

  @testable import Member

  @Suite struct SwiftLogBridgeTests {
    @Test func librariesWriteTheSameForm() {
      let collector = LineCollector()
      let sink = LogSink(
        LogOptions(), clock: { LogTime(seconds: 0, nanoseconds: 0) }, write: collector.append)
      var logger = Logger(label: "lib") { EtcdLogHandler(label: $0, sink: sink) }
      logger[metadataKey: "b"] = "2"
      logger.notice("hello", metadata: ["a": "1"])
      logger.debug("not shown")
      #expect(collector.lines.count == 1)
      #expect(collector.lines[0].contains(#""level":"info""#))
      #expect(collector.lines[0].hasSuffix(#""msg":"hello","a":"1","b":"2"}"# + "\n"))
    }
  }
#endif
