import Glibc
import HTTP
import Testing

/// Prints how fast the sessions are; off unless `APUS_MEASURE` is set. Build for release.
@Suite(.enabled(if: getenv("APUS_MEASURE") != nil))
struct MeasureTests {
  @Test func unaryCost() {
    let rounds = 3000
    let perRound = 64
    var configuration = GRPCServerConfiguration()
    configuration.routes = ["/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put"]
    let responder = Responder()
    let server = GRPCServerSession(configuration: configuration, delegate: responder)
    let client = GRPCClientSession(configuration: GRPCClientConfiguration(authority: "m"))
    let question = pattern(256)
    var ended = 0
    var serverNanoseconds: UInt64 = 0
    let begin = cpuNanoseconds()
    var output: [UInt8] = []
    for _ in 0..<rounds {
      for _ in 0..<perRound {
        let call = client.startCall(
          path: "/etcdserverpb.KV/Put", metadata: [HTTPField("client-api-version", "3.7")], now: 1)
        call.onEnd = { status, _ in if status.isOK { ended += 1 } }
        call.send(message: question)
        call.halfClose()
      }
      let input = client.takeOutput()
      let before = cpuNanoseconds()
      _ = input.withUnsafeBytes { server.receive($0, now: 1) }
      output.removeAll(keepingCapacity: true)
      server.appendOutput(to: &output)
      serverNanoseconds += cpuNanoseconds() - before
      _ = output.withUnsafeBytes { client.receive($0, now: 1) }
    }
    let total = cpuNanoseconds() - begin
    client.close()
    server.close()
    let calls = UInt64(rounds * perRound)
    #expect(ended == Int(calls))
    print("unary, 256 B: server \(serverNanoseconds / calls) ns, both \(total / calls) ns a call")
  }

  private final class Responder: GRPCServerDelegate {
    let answer = pattern(30)
    func callStarted(_ call: ServerCall) {}
    func call(_ call: ServerCall, received message: UnsafeRawBufferPointer) {
      call.tag = message.count
    }
    func callHalfClosed(_ call: ServerCall) { call.reply(message: answer) }
    func callCancelled(_ call: ServerCall) {}
    func callWritable(_ call: ServerCall) {}
    func httpRequest(_ request: ServerCall, method: String) {}
    func httpRequest(_ request: ServerCall, received bytes: UnsafeRawBufferPointer) {}
    func httpRequestEnded(_ request: ServerCall) {}
  }

  private func cpuNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
