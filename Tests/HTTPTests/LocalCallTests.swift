import HTTP
import Testing

@Suite struct LocalCallTests {
  private final class Owner: LocalCallOwner {
    var log: [String] = []
    var queuedBytes = 5
    func call(_ call: ServerCall, sent message: [UInt8]) { log.append("sent \(message)") }
    func call(_ call: ServerCall, finished status: GRPCStatus) {
      log.append("finished \(status.code.name)")
    }
    func callResumed(_ call: ServerCall) { log.append("resumed") }
  }

  private func makeCall(_ owner: Owner) -> ServerCall {
    ServerCall(
      path: "/a/b", route: 3, deadline: nil, fields: HeaderFields([HTTPField("token", "t")]),
      owner: owner)
  }

  @Test func repliesReachTheOwner() {
    let owner = Owner()
    let call = makeCall(owner)
    #expect(call.metadata("token") == "t")
    #expect(call.queuedBytes == 5)
    call.reply(message: [1])
    call.reply(message: [2])
    call.finish(.ok)
    #expect(call.isFinished)
    #expect(call.queuedBytes == 0)
    #expect(owner.log == ["sent [1]", "finished OK"])
  }

  @Test func streams() {
    let owner = Owner()
    let call = makeCall(owner)
    call.send(message: [1])
    call.pauseReceiving()
    #expect(call.isPaused)
    call.resumeReceiving()
    call.resumeReceiving()
    call.finish(GRPCStatus(.unavailable, "gone"))
    call.send(message: [2])
    #expect(owner.log == ["sent [1]", "resumed", "finished Unavailable"])
  }

  @Test func aCancelledCallIsSilent() {
    let owner = Owner()
    let call = makeCall(owner)
    let first = call.cancelLocally()
    let second = call.cancelLocally()
    #expect(first)
    #expect(!second)
    #expect(call.isCancelled)
    call.reply(message: [1])
    #expect(owner.log.isEmpty)
  }
}
