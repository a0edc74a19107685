import Base
import HTTP
import Testing

@Suite struct UnaryTests {
  @Test func answersAndCarriesMetadata() {
    var configuration = GRPCServerConfiguration()
    configuration.routes = ["/a.A/X", "/s.S/M"]
    let wire = Wire(server: configuration)
    wire.answerEachCall(with: bytes("pong"))
    let (call, outcome) = wire.start(
      metadata: [
        HTTPField("Token", "abc.1"), HTTPField("hasleader", "true"), HTTPField("x-bin", "AAEC/w"),
      ], timeout: 3_000_000_000)
    call.send(message: bytes("ping"))
    call.halfClose()
    wire.run()
    #expect(outcome.messages == [bytes("pong")])
    #expect(outcome.status == .ok)
    #expect(outcome.ends == 1)
    #expect(wire.recorder.log == ["start /s.S/M", "message 4", "half-closed"])
    let served = wire.recorder.calls[0]
    #expect(served.route == 1)
    #expect(served.metadata("token") == "abc.1")
    #expect(served.metadata("hasleader") == "true")
    #expect(served.metadata("authorization") == nil)
    #expect(served.binaryMetadata("x-bin") == [0, 1, 2, 255])
    #expect(served.deadline == wire.now + 3_000_000_000)
    #expect(served.fields.all.map(\.name).contains(":authority"))
    #expect(wire.server.openCallCount == 0)
    #expect(wire.client.openCallCount == 0)
  }

  @Test func keepsCallsApartOnOneConnection() {
    let wire = Wire()
    wire.recorder.onMessage = { call, message in call.userData = Box(message) }
    wire.recorder.onHalfClose = { call in
      call.reply(message: bytes(call.metadata("n") ?? "") + ((call.userData as? Box)?.value ?? []))
    }
    var outcomes: [Outcome] = []
    for index in 0..<200 {
      let (call, outcome) = wire.start(metadata: [HTTPField("n", "\(index)")])
      call.send(message: bytes("/\(index * 7)"))
      call.halfClose()
      outcomes.append(outcome)
      if index % 17 == 0 { wire.run() }
    }
    wire.run()
    for (index, outcome) in outcomes.enumerated() {
      #expect(outcome.messages == [bytes("\(index)/\(index * 7)")])
      #expect(outcome.status == .ok)
    }
  }

  @Test func errorsAreTrailersOnlyAndKeepTheirText() {
    let wire = Wire()
    let text = "etcdserver: 100% übel\n\"x\""
    wire.recorder.onStart = { $0.finish(GRPCStatus(.unavailable, text)) }
    let (call, outcome) = wire.start()
    call.send(message: bytes("ping"))
    wire.run()
    #expect(outcome.status == GRPCStatus(.unavailable, text))
    #expect(outcome.messages.isEmpty)
    #expect(!wire.recorder.log.contains("cancelled"))
    #expect(wire.server.openCallCount == 0, "an unfinished request must not stay half open")
  }

  @Test func answerBeforeHalfCloseIsWellFormed() {
    let wire = Wire()
    wire.recorder.onMessage = { call, _ in call.reply(message: bytes("early")) }
    let (call, outcome) = wire.start()
    call.send(message: bytes("one"))
    wire.run()
    #expect(outcome.messages == [bytes("early")])
    #expect(outcome.status == .ok)
    #expect(wire.server.openCallCount == 0)
    wire.answerEachCall(with: [])
    let (next, nextOutcome) = wire.start()
    next.halfClose()
    wire.run()
    #expect(nextOutcome.messages == [[]])
  }

  @Test func lateAnswersAreIgnored() {
    let wire = Wire()
    let (call, outcome) = wire.start()
    call.halfClose()
    wire.run()
    call.cancel()
    wire.run()
    let served = wire.recorder.calls[0]
    #expect(served.isCancelled)
    served.reply(message: bytes("late"))
    served.finish(.ok)
    served.resumeReceiving()
    wire.run()
    #expect(outcome.status?.code == .cancelled)
    #expect(wire.recorder.log == ["start /s.S/M", "half-closed", "cancelled"])
  }

  @Test func largeMessageByteByByte() {
    var configuration = GRPCServerConfiguration()
    configuration.streamWindowBytes = 65_535
    let wire = Wire(server: configuration)
    wire.piece = 1
    let question = pattern(200_000)
    wire.recorder.onMessage = { call, message in call.reply(message: message) }
    let (call, outcome) = wire.start()
    call.send(message: question)
    call.halfClose()
    wire.run()
    #expect(wire.recorder.messages == [question])
    #expect(outcome.messages == [question])
  }

  @Test func manyMegabytesThroughSmallWindowsAndTurns() {
    let wire = Wire()
    wire.outputLimit = 10_000
    let question = pattern(2_097_152)
    wire.recorder.onMessage = { call, message in call.reply(message: message + message) }
    let (call, outcome) = wire.start()
    call.send(message: question)
    call.halfClose()
    wire.run()
    #expect(wire.recorder.messages == [question])
    #expect(outcome.messages == [question + question])
    #expect(outcome.status == .ok)
  }
}

private final class Box {
  let value: [UInt8]
  init(_ value: [UInt8]) { self.value = value }
}

@Suite struct StreamingTests {
  @Test(arguments: [Int.max, 262_144, 95_232, 16_384, 1_000])
  func requestsAboveTheStreamsWindowFollowOneAnother(piece: Int) {
    let wire = Wire()
    wire.piece = piece
    wire.answerEachCall(with: [1])
    let message = pattern(GRPCServerConfiguration().streamWindowBytes + 44)
    for _ in 0..<20 {
      let (call, outcome) = wire.start()
      call.send(message: message)
      call.halfClose()
      wire.run()
      #expect(outcome.status == .ok)
    }
  }

  @Test func bothWaysInOrder() {
    let wire = Wire()
    wire.recorder.onMessage = { call, message in
      call.send(message: message)
      call.send(message: [])
    }
    wire.recorder.onHalfClose = { $0.finish(GRPCStatus(.aborted, "done")) }
    let (call, outcome) = wire.start()
    for index in 0..<100 {
      call.send(message: bytes("message \(index)"))
      if index % 9 == 0 { wire.run() }
    }
    wire.run()
    #expect(outcome.status == nil)
    #expect(outcome.headers != nil)
    call.halfClose()
    wire.run()
    #expect(outcome.messages == (0..<100).flatMap { [bytes("message \($0)"), []] })
    #expect(outcome.status == GRPCStatus(.aborted, "done"))
  }

  @Test func queueDrainsAsTheClientReads() {
    var client = GRPCClientConfiguration(authority: "test")
    client.streamWindowBytes = 65_535
    let wire = Wire(client: client)
    let (call, outcome) = wire.start()
    wire.run()
    call.pauseReceiving()
    let served = wire.recorder.calls[0]
    for _ in 0..<30 { served.send(message: pattern(10_000)) }
    wire.run()
    #expect(served.queuedBytes > 200_000)
    #expect(outcome.messages.isEmpty)
    #expect(!wire.recorder.log.contains("writable"))
    call.resumeReceiving()
    wire.run()
    #expect(served.queuedBytes == 0)
    #expect(outcome.messages.count == 30)
    #expect(wire.recorder.log.filter { $0 == "writable" }.count == 1)
  }

  @Test func writableCallMaySendMore() {
    let wire = Wire()
    var left = 20
    wire.recorder.onWritable = { call in
      guard left > 0 else { return call.finish(.ok) }
      left -= 1
      call.send(message: pattern(100_000))
    }
    let (_, outcome) = wire.start()
    wire.run()
    wire.recorder.calls[0].send(message: pattern(100_000))
    wire.run()
    #expect(outcome.messages.count == 21)
    #expect(outcome.status == .ok)
  }

  @Test func serverWithholdsItsWindow() {
    var configuration = GRPCServerConfiguration()
    configuration.streamWindowBytes = 65_535
    let wire = Wire(server: configuration)
    wire.recorder.onMessage = { call, _ in call.pauseReceiving() }
    let (call, _) = wire.start()
    let (other, otherOutcome) = wire.start("/o.O/O")
    for _ in 0..<40 { call.send(message: pattern(10_000)) }
    call.halfClose()
    wire.run()
    #expect(wire.recorder.messages.count == 1)
    #expect(call.queuedBytes > 250_000)
    wire.recorder.onMessage = nil
    other.halfClose()
    wire.recorder.onHalfClose = { $0.reply(message: []) }
    wire.run()
    #expect(otherOutcome.status == .ok, "a paused call must not hold up its neighbours")
    wire.recorder.onHalfClose = nil
    wire.recorder.calls[0].resumeReceiving()
    wire.run()
    #expect(wire.recorder.messages.count == 40)
    #expect(wire.recorder.log.last == "half-closed")
  }

  @Test func pauseInMidChunkKeepsOrder() {
    let wire = Wire()
    wire.recorder.onMessage = { call, _ in call.pauseReceiving() }
    let (call, _) = wire.start()
    for index in 0..<5 { call.send(message: [UInt8(index)]) }
    call.halfClose()
    wire.run()
    for expected in 1...5 {
      #expect(wire.recorder.messages.count == expected)
      #expect(!wire.recorder.log.contains("half-closed"))
      wire.recorder.calls[0].resumeReceiving()
    }
    #expect(wire.recorder.messages == (0..<5).map { [UInt8($0)] })
    #expect(wire.recorder.log.last == "half-closed")
  }

  @Test func cancelFromEitherSide() {
    let wire = Wire()
    let (call, outcome) = wire.start()
    call.send(message: [1])
    wire.run()
    call.cancel()
    wire.run()
    #expect(outcome.status?.code == .cancelled)
    #expect(wire.recorder.log == ["start /s.S/M", "message 1", "cancelled"])
    let (_, second) = wire.start()
    wire.run()
    wire.recorder.calls[1].send(message: pattern(50_000))
    wire.recorder.calls[1].abort()
    wire.run()
    #expect(second.status?.code == .cancelled)
    #expect(second.ends == 1)
    #expect(wire.recorder.log.filter { $0 == "cancelled" }.count == 1)
    #expect(wire.server.openCallCount == 0)
  }

  @Test func abortAndCancelInMidFrame() {
    let wire = Wire()
    let (call, outcome) = wire.start()
    wire.run()
    wire.recorder.calls[0].send(message: pattern(60_000))
    // The limit ends this turn between two frames, one of them prepared.
    #expect(wire.server.takeOutput(limitBytes: 20_000).count < 60_000)
    wire.recorder.calls[0].abort()
    call.send(message: pattern(60_000))
    #expect(wire.client.takeOutput(limitBytes: 20_000).count < 60_000)
    call.cancel()
    wire.run()
    #expect(outcome.ends == 1)
    #expect(wire.server.openCallCount == 0)
  }

  @Test func lossOfTheConnectionEndsCallsOnce() {
    let wire = Wire()
    let (_, outcome) = wire.start()
    wire.run()
    wire.server.close()
    wire.server.close()
    wire.client.close()
    wire.client.close()
    #expect(wire.recorder.log == ["start /s.S/M", "cancelled"])
    #expect(outcome.status?.code == .unavailable)
    #expect(outcome.ends == 1)
    #expect(!wire.server.take([0], now: 1))
  }

  @Test func closeFromInsideAnEvent() {
    let wire = Wire()
    wire.recorder.onMessage = { [unowned wire] _, _ in wire.server.close() }
    let (call, _) = wire.start()
    let (other, _) = wire.start()
    call.send(message: [1])
    other.send(message: [2])
    wire.run()
    #expect(wire.recorder.messages.count == 1)
    #expect(wire.recorder.log.filter { $0 == "cancelled" }.count == 2)
    #expect(wire.server.isFinished)
  }
}
