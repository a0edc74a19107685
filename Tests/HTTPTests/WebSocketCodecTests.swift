import HTTP
import Testing

@Suite struct WebSocketCodecTests {
  /// A frame as a client sends it.
  private func frame(
    _ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true, masked: Bool = true
  ) -> [UInt8] {
    var bytes: [UInt8] = [(isFinal ? 0x80 : 0) | opcode]
    let flag: UInt8 = masked ? 0x80 : 0
    switch payload.count {
    case ...125: bytes.append(flag | UInt8(payload.count))
    case ...65_535:
      bytes.append(flag | 126)
      bytes += [UInt8(payload.count >> 8), UInt8(payload.count & 0xff)]
    default:
      bytes.append(flag | 127)
      bytes += (0..<8).reversed().map { UInt8(truncatingIfNeeded: payload.count >> ($0 * 8)) }
    }
    guard masked else { return bytes + payload }
    let mask: [UInt8] = [1, 2, 3, 250]
    return bytes + mask + payload.enumerated().map { $0.element ^ mask[$0.offset % 4] }
  }

  private func receive(
    _ bytes: [UInt8], piece: Int = .max, limit: Int = 1 << 20
  ) throws -> [WebSocketCodec.Event] {
    var codec = WebSocketCodec(messageBytesMax: limit)
    var events: [WebSocketCodec.Event] = []
    var at = 0
    while at < bytes.count {
      let end = piece == .max ? bytes.count : min(bytes.count, at + piece)
      events += try bytes[at..<end].withUnsafeBytes { try codec.receive($0) }
      at = end
    }
    return events
  }

  @Test(arguments: [1, 7, .max])
  func messagesOfEverySize(piece: Int) throws {
    for count in [0, 1, 125, 126, 300, 65_535, 65_536] where piece > 1 || count < 1000 {
      let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
      let bytes = frame(1, payload) + frame(2, [7])
      #expect(try receive(bytes, piece: piece) == [.message(payload), .message([7])])
    }
  }

  @Test func fragmentsAndControlsBetween() throws {
    let bytes =
      frame(1, [1], isFinal: false) + frame(9, [9]) + frame(0, [2], isFinal: false)
      + frame(10, []) + frame(0, [3]) + frame(8, [3, 232])
    #expect(try receive(bytes) == [.ping([9]), .message([1, 2, 3]), .close(1000)])
    #expect(try receive(frame(8, [])) == [.close(nil)])
  }

  @Test func faults() {
    let faulty = [
      frame(1, [1], masked: false), [0xf1, 0x80, 0, 0, 0, 0], frame(3, []), frame(0, [1]),
      frame(1, [], isFinal: false) + frame(1, []), frame(9, [], isFinal: false),
      frame(9, Array(repeating: 0, count: 126)),
    ]
    for bytes in faulty {
      #expect(throws: WebSocketCodec.Failure.protocolError) { try receive(bytes) }
    }
    #expect(throws: WebSocketCodec.Failure.messageTooLarge) {
      try receive(frame(1, Array(repeating: 0, count: 11)), limit: 10)
    }
    #expect(throws: WebSocketCodec.Failure.messageTooLarge) {
      try receive(
        frame(1, Array(repeating: 0, count: 6), isFinal: false)
          + frame(0, Array(repeating: 0, count: 6)), limit: 10)
    }
    // A length that no memory holds.
    #expect(throws: WebSocketCodec.Failure.messageTooLarge) {
      try receive([0x81, 0xff] + Array(repeating: 0xff, count: 12))
    }
  }

  @Test func framesOfOurs() {
    var output: [UInt8] = []
    WebSocketCodec.append(.text, [65], to: &output)
    WebSocketCodec.appendClose(1001, to: &output)
    #expect(output == [0x81, 1, 65, 0x88, 2, 3, 233])
    output = []
    WebSocketCodec.append(.text, Array(repeating: 1, count: 300), to: &output)
    #expect(output.prefix(4) == [0x81, 126, 1, 44])
    output = []
    WebSocketCodec.append(.text, Array(repeating: 1, count: 70_000), to: &output)
    #expect(output.prefix(10) == [0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70])
  }
}
