import Testing

@testable import HTTP

/// Sessions of one thread share the buffers of the header block that is being received.
@Suite struct SharedContextTests {
  @Test func blocksThatArriveInPiecesStayApart() {
    var configuration = GRPCServerConfiguration()
    configuration.routes = ["/s.S/A", "/s.S/B"]
    let context = GRPCServerContext(configuration)
    let wires = (0..<3).map { _ in Wire(context) }
    for wire in wires { wire.answerEachCall(with: []) }
    var streams = wires.enumerated().map { index, wire in
      let path = index == 2 ? "/s.S/C" : configuration.routes[index]
      for round in 0..<3 {
        let (call, _) = wire.start(path, metadata: [HTTPField("from", "\(index).\(round)")])
        call.halfClose()
      }
      return wire.client.takeOutput()[...]
    }
    // A few bytes of each in turn, so that every block is interrupted by parts of two others.
    while streams.contains(where: { !$0.isEmpty }) {
      for (index, wire) in wires.enumerated() {
        #expect(wire.server.take(Array(streams[index].prefix(7)), now: 1))
        streams[index] = streams[index].dropFirst(7)
      }
    }
    for (index, wire) in wires.enumerated() {
      #expect(
        wire.recorder.calls.map(\.route) == Array(repeating: index == 2 ? -1 : index, count: 3))
      #expect(wire.recorder.calls.map { $0.metadata("from") } == (0..<3).map { "\(index).\($0)" })
    }
  }

  @Test func equalFieldsOfDifferentSessionsShareTheirMemory() {
    let context = GRPCServerContext(GRPCServerConfiguration())
    let wires = (0..<2).map { _ in Wire(context) }
    for wire in wires {
      let (call, _) = wire.start(metadata: [HTTPField("token", "abc")])
      call.halfClose()
      wire.run()
    }
    let memory = wires.map { wire in
      wire.recorder.calls[0].fields.bytes.withUnsafeBytes { $0.baseAddress }
    }
    #expect(memory[0] == memory[1])
  }
}
