import Base
import Testing

@testable import RaftActor

@Suite struct StreamTests {
  /// Feeds `bytes` in pieces of random size.
  private func pieces(
    _ bytes: Bytes, _ random: inout SeededGenerator, _ body: (UnsafeRawBufferPointer) throws -> Void
  ) rethrows {
    var start = 0
    while start < bytes.count {
      let end = min(bytes.count, start + Int.random(in: 1...40, using: &random))
      try bytes[start..<end].withUnsafeBytes { try body($0) }
      start = end
    }
  }

  @Test(arguments: 0..<10)
  func messageStreamInAnyPieces(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let messages = (0..<30).map { _ in MessageCodingTests.randomMessage(&random) }
    var bytes: Bytes = []
    for message in messages {
      MessageStreamEncoder.append(message, to: &bytes)
      MessageStreamEncoder.appendLinkHeartbeat(to: &bytes)
    }
    var decoder = MessageStreamDecoder()
    var received: [Message] = []
    try pieces(bytes, &random) { try decoder.feed($0) { received.append($0) } }
    #expect(received == messages)
    #expect(decoder.linkHeartbeatCount == messages.count)
  }

  @Test func messageStreamLimitsAndUnknownKinds() throws {
    var decoder = MessageStreamDecoder()
    var count = 0
    try hex("0000000000000002 083f 0000000000000004 08081001").withUnsafeBytes {
      try decoder.feed($0) { _ in count += 1 }
    }
    #expect(count == 1)
    #expect(decoder.ignoredCount == 1)
    #expect(throws: WireError.frameTooLong(bytes: 0x2000_0001, limit: 512 << 20)) {
      try hex("0000000020000001").withUnsafeBytes { try decoder.feed($0) { _ in } }
    }
  }

  @Test(arguments: 0..<10)
  func appendStreamInAnyPieces(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var encoder = MsgAppV2Encoder()
    var bytes: Bytes = []
    var messages: [Message] = []
    var term: Term = 4
    var index: LogIndex = 10
    for _ in 0..<60 {
      if Int.random(in: 0..<10, using: &random) == 0 { term += 1 }
      if Int.random(in: 0..<10, using: &random) == 0 { index += 3 }
      let entries = (0..<UInt64.random(in: 0...3, using: &random)).map {
        Entry(term: term, index: index + $0 + 1, data: Bytes(repeating: 1, count: Int($0) * 50))
      }
      let message = Message(
        kind: .append, to: 1, from: 2, term: term, logTerm: term, index: index, entries: entries,
        commit: index)
      index += LogIndex(entries.count)
      messages.append(message)
      encoder.append(message, to: &bytes)
      encoder.appendLinkHeartbeat(to: &bytes)
    }
    var decoder = MsgAppV2Decoder(local: 1, remote: 2)
    var received: [Message] = []
    try pieces(bytes, &random) { try decoder.feed($0) { received.append($0) } }
    #expect(received == messages)
    #expect(decoder.linkHeartbeatCount == messages.count)
  }

  @Test func appendStreamBytes() throws {
    var encoder = MsgAppV2Encoder()
    var bytes: Bytes = []
    let first = Message(
      kind: .append, to: 1, from: 2, term: 3, logTerm: 3, index: 4,
      entries: [Entry(term: 3, index: 5)], commit: 4)
    encoder.append(first, to: &bytes)
    #expect(
      bytes == hex("02 0000000000000014 0803 1001 1802 2003 2803 3004 3a04 1003 1805 4004"))
    bytes = []
    let commit = Message(
      kind: .append, to: 1, from: 2, term: 3, logTerm: 3, index: 5, commit: 6)
    encoder.append(commit, to: &bytes)
    #expect(bytes == hex("01 0000000000000000 0000000000000006"))
    bytes = []
    encoder.append(
      Message(
        kind: .append, to: 1, from: 2, term: 3, logTerm: 3, index: 5,
        entries: [Entry(term: 3, index: 6)], commit: 6), to: &bytes)
    #expect(
      bytes == hex("01 0000000000000001 0000000000000004 1003 1806 0000000000000006"))
  }

  @Test func appendStreamRefusesWhatDoesNotContinueIt() {
    var decoder = MsgAppV2Decoder(local: 1, remote: 2)
    #expect(throws: WireError.entryOutOfPlace(expected: 1, found: 6)) {
      try hex("01 0000000000000001 0000000000000004 1003 1806 0000000000000006").withUnsafeBytes {
        try decoder.feed($0) { _ in }
      }
    }
    var other = MsgAppV2Decoder(local: 1, remote: 2)
    #expect(throws: WireError.unknownFrameType(3)) {
      try hex("00 03").withUnsafeBytes { try other.feed($0) { _ in } }
    }
  }

  @Test func snapshotHeaderLeavesTheFile() throws {
    let message = Message(
      kind: .snapshot, to: 1, from: 2, term: 3,
      snapshot: Snapshot(metadata: SnapshotMetadata(index: 9, term: 3), data: [1, 2]))
    let header = SnapshotHeaderDecoder.encode(message)
    for split in 0...header.count {
      var decoder = SnapshotHeaderDecoder()
      let first = try header[..<split].withUnsafeBytes { try decoder.feed($0) }
      let result: (message: Message, consumed: Int)?
      if split < header.count {
        #expect(first == nil)
        result = try (header[split...] + [7, 8, 9]).withUnsafeBytes { try decoder.feed($0) }
      } else {
        result = first
      }
      #expect(result?.message == message)
      #expect(result?.consumed == (split < header.count ? header.count - split : header.count))
    }
  }
}
