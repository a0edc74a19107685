import Base
import Testing

@testable import HTTP

@Suite struct MessageQueueTests {
  /// A message in pieces is on the wire what it is in one.
  @Test func piecesMakeOneMessage() {
    let pieces: [[UInt8]] = [[1, 2, 3], [], [4], [5, 6, 7, 8]]
    let whole = GRPCMessageFramer.frame([1, 2, 3, 4, 5, 6, 7, 8])
    for step in [1, 2, 3, 5, 100] {
      var queue = MessageQueue()
      queue.append([9])
      queue.append(pieces[0], pieces[1...])
      queue.append([10, 11])
      var output: [UInt8] = []
      while queue.bytes > 0 { queue.write(min(step, queue.bytes), to: &output) }
      #expect(output == GRPCMessageFramer.frame([9]) + whole + GRPCMessageFramer.frame([10, 11]))
    }
    var queue = MessageQueue()
    queue.append(pieces[0], pieces[1...])
    #expect(queue.bytes == whole.count)
    var output: [UInt8] = []
    queue.write(queue.bytes, to: &output)
    #expect(output == whole)
  }

  /// Messages that come with their prefixes, among others.
  @Test func framedMessagesAreSentAsTheyAre() {
    let contents: [[UInt8]] = [[1, 2, 3], [], pattern(70_000), [4], pattern(300)]
    var messages = FramedMessages(expected: 70_000)
    for content in contents { messages.append { $0.raw(content) } }
    #expect(Array(messages) == contents && messages.count == 5 && messages.pieces.count == 2)
    #expect(messages.messageBytes == contents.reduce(0) { $0 + $1.count })
    let wire = contents.flatMap { GRPCMessageFramer.frame($0) }
    for step in [1, 7, 100_000] {
      var queue = MessageQueue()
      for piece in messages.pieces { queue.append(framed: piece) }
      queue.append([9])
      for piece in messages.pieces { queue.append(framed: piece) }
      var output: [UInt8] = []
      while queue.bytes > 0 { queue.write(min(step, queue.bytes), to: &output) }
      #expect(output == wire + GRPCMessageFramer.frame([9]) + wire)
    }
  }

  @Test(arguments: [false, true]) func framedMessagesReachTheClient(compressed: Bool) {
    let wire = Wire()
    let contents: [[UInt8]] = [[1, 2, 3], [], pattern(70_000), [4]]
    wire.recorder.onMessage = { call, _ in
      var messages = FramedMessages()
      for content in contents { messages.append { $0.raw(content) } }
      call.send(messages)
      call.send(FramedMessages())
      call.send(message: [5])
      call.finish(.ok)
    }
    let (call, outcome) = wire.start(compresses: compressed)
    call.send(message: [1])
    call.halfClose()
    wire.run()
    #expect(outcome.messages == contents + [[5]] && outcome.status == .ok)
  }
}
