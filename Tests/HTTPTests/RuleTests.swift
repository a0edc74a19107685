import Base
import HTTP
import Testing

@Suite struct ProtocolRuleTests {
  @Test func gzipIsAnsweredWithGzip() {
    let wire = Wire()
    let question = [UInt8](repeating: 7, count: 100_000)
    wire.recorder.onMessage = { call, message in call.send(message: message) }
    wire.recorder.onHalfClose = { $0.finish(.ok) }
    let (call, outcome) = wire.start(compresses: true)
    call.send(message: question)
    call.send(message: [])
    call.halfClose()
    let carried = wire.run()
    #expect(wire.recorder.messages == [question, []])
    #expect(outcome.messages == [question, []])
    #expect(carried < 5000, "both directions must have been compressed")
  }

  @Test func gzipBombIsBounded() {
    var configuration = GRPCServerConfiguration()
    configuration.receiveMessageBytesMax = 1000
    let wire = Wire(server: configuration)
    let (call, outcome) = wire.start(compresses: true)
    call.send(message: [UInt8](repeating: 0, count: 100_000))
    wire.run()
    #expect(
      outcome.status
        == GRPCStatus(
          .resourceExhausted,
          "grpc: received message after decompression larger than max (1001 vs. 1000)"))
    #expect(wire.recorder.messages.isEmpty)
    #expect(wire.recorder.log.last == "cancelled")
  }

  @Test func unknownEncodingIsRefused() {
    let wire = Wire()
    let (_, outcome) = wire.start(metadata: [HTTPField("grpc-encoding", "snappy")])
    wire.run()
    #expect(
      outcome.status
        == GRPCStatus(
          .unimplemented, "grpc: Decompressor is not installed for grpc-encoding \"snappy\""))
    #expect(wire.recorder.log.isEmpty)
  }

  @Test func oversizeIsRefusedOnItsPrefix() {
    let wire = Wire()
    let (call, outcome) = wire.start()
    call.send(message: pattern(2_097_153))
    wire.run()
    #expect(
      outcome.status
        == GRPCStatus(
          .resourceExhausted, "grpc: received message larger than max (2097153 vs. 2097152)"))
    #expect(wire.recorder.log == ["start /s.S/M", "cancelled"])
  }

  @Test(arguments: [
    (
      Frame.data(1, [1, 0, 0, 0, 1, 9]), "grpc: compressed flag set with identity or empty encoding"
    ),
    (Frame.data(1, [2, 0, 0, 0, 0]), "grpc: received unexpected payload format 2"),
    (Frame.data(1, [0, 0, 0, 0, 9, 1], ends: true), "unexpected EOF"),
  ])
  func brokenFramingIsInternal(frame: [UInt8], text: String) {
    let recorder = Recorder()
    let session = GRPCServerSession(configuration: GRPCServerConfiguration(), delegate: recorder)
    #expect(session.take(Frame.preface + Frame.request(1) + frame))
    #expect(recorder.log == ["start /s.S/M", "cancelled"])
    #expect(outcomeOfStream1(session.takeOutput()).status == GRPCStatus(.internal, text))
    session.close()
    #expect(recorder.log.count == 2)
  }

  @Test func wrongContentTypeIs415() {
    let recorder = Recorder()
    let session = GRPCServerSession(configuration: GRPCServerConfiguration(), delegate: recorder)
    _ = session.take(Frame.preface + Frame.request(1, type: "text/html", ends: true))
    let output = session.takeOutput()
    #expect(firstStatus(output) == 415)
    #expect(
      outcomeOfStream1(output).status
        == GRPCStatus(.invalidArgument, "invalid gRPC request content-type \"text/html\""))
    #expect(recorder.log.isEmpty)
    session.close()
  }

  /// The status in the first HEADERS frame: an index of HPACK's table, or three plain digits.
  private func firstStatus(_ output: [UInt8]) -> Int? {
    var at = 0
    while at + 9 <= output.count {
      let length = Int(output[at]) << 16 | Int(output[at + 1]) << 8 | Int(output[at + 2])
      if output[at + 3] == 1 {
        let body = output[(at + 9)..<(at + 9 + length)]
        let indexed: [UInt8: Int] = [0x88: 200, 0x8c: 400, 0x8d: 404]
        if let first = body.first, let status = indexed[first] { return status }
        return Int(String(decoding: body.dropFirst(2).prefix(3), as: UTF8.self))
      }
      at += 9 + length
    }
    return nil
  }

  @Test func malformedTimeoutAndWrongMethodAreRefused() {
    for (request, status) in [
      (Frame.request(1, [("grpc-timeout", "5x")], ends: true), 400),
      (Frame.request(1, method: "GET", ends: true), 405),
    ] {
      let recorder = Recorder()
      let session = GRPCServerSession(
        configuration: GRPCServerConfiguration(), delegate: recorder)
      _ = session.take(Frame.preface + request)
      let output = session.takeOutput()
      #expect(recorder.log.isEmpty)
      #expect(firstStatus(output) == status)
      #expect(outcomeOfStream1(output).status?.code == .internal)
      #expect(session.openCallCount == 0)
      session.close()
    }
  }

  @Test func plainRequestsReachTheHandlerWhenAllowed() {
    var configuration = GRPCServerConfiguration()
    configuration.acceptsHTTP = true
    let recorder = Recorder()
    recorder.onHTTP = { call, _, body in
      #expect(call.metadata("content-type") == "application/json")
      call.respond(status: 200, headers: [HTTPField("content-type", "text/plain")], body: body)
    }
    let session = GRPCServerSession(configuration: configuration, delegate: recorder)
    _ = session.take(
      Frame.preface + Frame.request(1, method: "PUT", path: "/health", type: "application/json")
        + Frame.data(1, bytes("hello ")) + Frame.data(1, bytes("there"), ends: true))
    #expect(recorder.log == ["http PUT /health 11"])
    let output = session.takeOutput()
    #expect(firstStatus(output) == 200)
    #expect(output.suffix(20) == Frame.data(1, bytes("hello there"), ends: true)[...])
    #expect(session.openCallCount == 0)
    session.close()
  }

  /// Clients that are sending still get to read the answer; the stream is not kept open for ever.
  @Test func answersBeforeTheBodyAreNotResetAtOnce() {
    var configuration = GRPCServerConfiguration()
    configuration.acceptsHTTP = true
    let recorder = Recorder()
    recorder.onHTTPHead = { call in
      call.respond(status: 400, headers: [HTTPField("X-Why", "early")], body: bytes("no"))
    }
    let session = GRPCServerSession(configuration: configuration, delegate: recorder)
    let second: UInt64 = 1_000_000_000
    let head = Frame.request(1, path: "/v3/x", type: "application/json")
    _ = session.take(Frame.preface + head, now: second)
    let answer = session.takeOutput()
    #expect(firstStatus(answer) == 400)
    #expect(answer.suffix(11) == Frame.data(1, bytes("no"), ends: true)[...])
    _ = session.take(Frame.data(1, bytes("body")), now: 2 * second)
    #expect(session.tick(now: 3 * second))
    #expect(session.takeOutput().isEmpty && session.openCallCount == 1)
    #expect(session.tick(now: 7 * second))
    #expect(session.takeOutput() == Frame.frame(3, 0, 1, [0, 0, 0, 0]))
    #expect(session.openCallCount == 0)
    session.close()
  }

  @Test func httpErrorsMapToCodes() {
    #expect(GRPCStatus.code(forHTTPStatus: 404) == .unimplemented)
    #expect(GRPCStatus.code(forHTTPStatus: 503) == .unavailable)
    #expect(GRPCStatus.code(forHTTPStatus: 418) == .unknown)
    #expect(GRPCStatus.code(forHTTP2Error: 7) == .unavailable)
    #expect(GRPCStatus.code(forHTTP2Error: 11) == .resourceExhausted)
  }
}

@Suite struct ConnectionRuleTests {
  private static let second: UInt64 = 1_000_000_000

  @Test func gracefulShutdownFinishesOpenCalls() {
    let wire = Wire()
    let (call, outcome) = wire.start()
    wire.run()
    wire.server.shutdown(now: wire.now)
    wire.run()
    #expect(wire.client.isDraining)
    #expect(!wire.server.isFinished)
    let (refused, refusedOutcome) = wire.start()
    wire.run()
    #expect(!refused.isEnded)
    #expect(wire.client.tick(now: wire.now))
    #expect(refusedOutcome.status?.code == .unavailable)
    wire.answerEachCall(with: [1])
    call.halfClose()
    wire.run()
    #expect(outcome.status == .ok)
    #expect(wire.server.isFinished)
    #expect(wire.client.isFinished)
  }

  @Test func shutdownNeedsNoAcknowledgement() {
    let wire = Wire()
    wire.run()
    wire.server.shutdown(now: 0)
    _ = wire.server.takeOutput()
    #expect(wire.server.tick(now: 4 * Self.second))
    #expect(!wire.server.isFinished)
    _ = wire.server.tick(now: 5 * Self.second)
    _ = wire.server.takeOutput()
    #expect(wire.server.isFinished)
  }

  @Test func callsThatCrossTheFirstGoAwayAreServed() {
    let wire = Wire()
    wire.answerEachCall(with: [9])
    wire.run()
    let (call, outcome) = wire.start()
    call.halfClose()
    wire.server.shutdown(now: wire.now)
    wire.run()
    #expect(outcome.status == .ok)
  }

  private func ping(_ session: GRPCServerSession, at seconds: UInt64) -> Bool {
    session.take(Frame.frame(6, 0, 0, [0, 1, 2, 3, 4, 5, 6, 7]), now: seconds * Self.second)
  }

  @Test func idlePingsAreForgivenThreeTimes() {
    let session = GRPCServerSession(
      configuration: GRPCServerConfiguration(), delegate: Recorder())
    _ = session.take(Frame.preface)
    #expect(ping(session, at: 10))
    #expect(ping(session, at: 20))
    #expect(ping(session, at: 30))
    _ = session.takeOutput()
    #expect(!ping(session, at: 40))
    let output = session.takeOutput()
    #expect(String(decoding: output, as: UTF8.self).contains("too_many_pings"))
    #expect(session.isFinished)
    #expect(session.endReason == "too_many_pings")
    session.close()
  }

  @Test func pingsWithOpenCallsMayComeEveryFiveSeconds() {
    let session = GRPCServerSession(
      configuration: GRPCServerConfiguration(), delegate: Recorder())
    _ = session.take(Frame.preface + Frame.request(1))
    for turn in 1...20 { #expect(ping(session, at: UInt64(turn) * 5)) }
    #expect(ping(session, at: 101))
    #expect(ping(session, at: 102))
    #expect(!ping(session, at: 103))
    session.close()
  }

  @Test func answersResetTheStrikes() {
    let recorder = Recorder()
    let session = GRPCServerSession(
      configuration: GRPCServerConfiguration(), delegate: recorder)
    _ = session.take(Frame.preface + Frame.request(1))
    for turn in 1...20 {
      recorder.calls[0].send(message: [1])
      _ = session.takeOutput()
      #expect(ping(session, at: UInt64(turn)))
    }
    session.close()
  }

  @Test func serverPingsAQuietPeerAndGivesUp() {
    let wire = Wire()
    wire.run()
    let start = wire.now
    #expect(wire.server.tick(now: start + 7199 * Self.second))
    #expect(!wire.server.wantsWrite)
    #expect(wire.server.tick(now: start + 7200 * Self.second))
    #expect(wire.server.wantsWrite)
    _ = wire.server.takeOutput()
    #expect(wire.server.tick(now: start + 7219 * Self.second))
    #expect(!wire.server.tick(now: start + 7220 * Self.second))
    #expect(wire.server.isFinished)
  }

  @Test func clientEndsCallsAtTheirDeadline() {
    let wire = Wire()
    let (_, outcome) = wire.start(timeout: Self.second)
    wire.run()
    #expect(wire.client.nextDeadline == wire.now + Self.second)
    #expect(wire.client.tick(now: wire.now + Self.second - 1))
    #expect(outcome.status == nil)
    _ = wire.client.tick(now: wire.now + Self.second)
    wire.run()
    #expect(outcome.status == GRPCStatus(.deadlineExceeded, "context deadline exceeded"))
    #expect(wire.recorder.log.last == "cancelled")
  }

  @Test func clientKeepalive() {
    var configuration = GRPCClientConfiguration(authority: "x")
    configuration.keepaliveInterval = 10 * Self.second
    configuration.keepaliveTimeout = Self.second
    let wire = Wire(client: configuration)
    let (_, outcome) = wire.start()
    wire.run()
    wire.now += 10 * Self.second
    #expect(wire.client.tick(now: wire.now))
    wire.run()
    #expect(wire.client.tick(now: wire.now + Self.second), "the answer arrived")
    #expect(wire.client.tick(now: wire.now + 10 * Self.second))
    #expect(!wire.client.tick(now: wire.now + 11 * Self.second))
    wire.client.close()
    #expect(outcome.status?.code == .unavailable)
  }

  @Test func streamLimits() {
    var configuration = GRPCServerConfiguration()
    configuration.concurrentStreamsMax = 3
    let wire = Wire(server: configuration)
    wire.run()
    let outcomes = (0..<5).map { _ in wire.start().1 }
    wire.run()
    #expect(wire.server.openCallCount == 3, "the client keeps the rest back")
    wire.recorder.onStart = { $0.finish(.ok) }
    for call in wire.recorder.calls { call.finish(.ok) }
    wire.run()
    #expect(outcomes.allSatisfy { $0.status == .ok })

    configuration.concurrentStreamsMax = nil
    configuration.openStreamsMax = 2
    let open = Wire(server: configuration)
    let more = (0..<3).map { _ in open.start().1 }
    open.run()
    #expect(more.map { $0.status?.code } == [nil, nil, .unavailable])
  }

  @Test func floodsEndTheConnection() {
    var configuration = GRPCServerConfiguration()
    configuration.streamResetsBurst = 50
    configuration.streamResetsPerSecond = 1
    let resets = GRPCServerSession(configuration: configuration, delegate: Recorder())
    var isOpen = resets.take(Frame.preface)
    for index in 0..<100 where isOpen {
      let stream = UInt32(2 * index + 1)
      isOpen = resets.take(Frame.request(stream) + Frame.frame(3, 0, stream, [0, 0, 0, 8]))
      _ = resets.takeOutput()
      #expect(isOpen == (index < 50))
    }
    resets.close()

    let empty = GRPCServerSession(
      configuration: GRPCServerConfiguration(), delegate: Recorder())
    #expect(empty.take(Frame.preface + Frame.request(1)))
    let flood = (0..<1001).flatMap { _ in Frame.data(1, []) }
    #expect(!empty.take(flood))
    empty.close()

    let settings = GRPCServerSession(
      configuration: GRPCServerConfiguration(), delegate: Recorder())
    #expect(!settings.take(Frame.preface + (0..<2000).flatMap { _ in Frame.frame(4, 0, 0, []) }))
    settings.close()
  }

  @Test func hugeHeadersAreRefused() {
    var configuration = GRPCServerConfiguration()
    configuration.headerListBytesMax = 4096
    let wire = Wire(server: configuration)
    let (_, outcome) = wire.start(
      metadata: [HTTPField("x", String(repeating: "y", count: 4096))])
    wire.run()
    #expect(outcome.status?.code == .resourceExhausted)
    #expect(wire.recorder.log.isEmpty)
    wire.answerEachCall(with: [])
    let (call, next) = wire.start()
    call.halfClose()
    wire.run()
    #expect(next.status == .ok)
  }

  @Test func bytesThatAreNotHTTP2() {
    let session = GRPCServerSession(
      configuration: GRPCServerConfiguration(), delegate: Recorder())
    #expect(!session.take(bytes("GET / HTTP/1.1\r\n\r\nxxxxxxxxxxxxxxxxx")))
    #expect(session.isFinished)
    #expect(!session.endReason.isEmpty)
    session.close()
  }
}
