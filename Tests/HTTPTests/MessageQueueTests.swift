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
}
