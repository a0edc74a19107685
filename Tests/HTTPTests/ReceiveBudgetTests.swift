import HTTP
import Testing

@Suite struct ReceiveBudgetTests {
  /// A message of which only the first part has come: the prefix announces 3000 bytes.
  private let half = [0, 0, 0, 0x0b, 0xb8] + [UInt8](repeating: 7, count: 600)

  @Test func unfinishedMessagesShareABudget() {
    var configuration = GRPCServerConfiguration()
    let budget = ReceiveBudget(limitBytes: 1500)
    configuration.receiveBudget = budget
    let recorder = Recorder()
    let session = GRPCServerSession(configuration: configuration, delegate: recorder)
    recorder.onMessage = { call, _ in call.reply(message: [1]) }
    _ = session.take(Frame.preface)
    for stream in [1, 3, 5] as [UInt32] {
      _ = session.take(Frame.request(stream) + Frame.data(stream, half))
    }
    // The third one had no room.
    #expect(recorder.log.filter { $0 == "cancelled" }.count == 1)
    #expect(recorder.calls.map(\.isCancelled) == [false, false, true])
    #expect(budget.heldBytes == 2 * half.count)
    // The first two go on to their ends.
    for stream in [1, 3] as [UInt32] {
      _ = session.take(Frame.data(stream, [UInt8](repeating: 7, count: 2400), ends: true))
    }
    #expect(recorder.messages.map(\.count) == [3000, 3000])
    #expect(budget.heldBytes == 0)
    session.close()
  }

  @Test func whatIsHeldIsGivenBackWithTheConnection() {
    var configuration = GRPCServerConfiguration()
    let budget = ReceiveBudget(limitBytes: 10_000)
    configuration.receiveBudget = budget
    let recorder = Recorder()
    let session = GRPCServerSession(configuration: configuration, delegate: recorder)
    _ = session.take(Frame.preface + Frame.request(1) + Frame.data(1, half))
    _ = session.take(Frame.request(3) + Frame.data(3, half))
    recorder.calls[0].finish(GRPCStatus(.internal, "x"))
    #expect(budget.heldBytes == half.count)
    session.close()
    #expect(budget.heldBytes == 0)
  }

  @Test func changes() {
    let budget = ReceiveBudget(limitBytes: 10)
    let all = [
      budget.change(from: 0, to: 10), budget.change(from: 10, to: 11),
      budget.change(from: 10, to: 4), budget.change(from: 0, to: 7), budget.change(from: 0, to: 6),
    ]
    #expect(all == [true, false, true, false, true])
    #expect(budget.heldBytes == 10)
  }
}
