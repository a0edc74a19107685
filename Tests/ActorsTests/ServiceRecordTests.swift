import Testing

@testable import Actors

@Suite struct ServiceRecordTests {
  /// A message with a question and two records, whose names point back into it.
  private let message: [UInt8] =
    [0, 7, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]
    + [1, 115, 4, 116, 101, 115, 116, 0, 0, 33, 0, 1]  // s.test SRV IN
    + [0xC0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 11, 0, 5, 0, 9, 0x09, 0x4C, 2, 109, 49, 0xC0, 14]
    + [0xC0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 7, 0, 1, 0, 0, 0x09, 0x4B, 0]

  @Test func recordsOfAMessage() {
    #expect(
      BlockingResolver.records(in: message[...]) == [
        ServiceRecord(host: "m1.test.", port: 2380, priority: 5, weight: 9),
        ServiceRecord(host: ".", port: 2379, priority: 1, weight: 0),
      ])
  }

  @Test func brokenMessagesHaveNone() {
    for end in message.indices {
      #expect(BlockingResolver.records(in: message[..<end]).isEmpty, "\(end) bytes")
    }
    var looping = message
    looping[12...13] = [0xC0, 12]
    #expect(BlockingResolver.records(in: looping[...]).isEmpty)
  }

  @Test func addressesAreTheirOwn() throws {
    #expect(try BlockingResolver.address(of: "127.0.0.1") == "127.0.0.1")
    #expect(try BlockingResolver.address(of: "::1") == "::1")
    #expect(throws: NameError.self) { try BlockingResolver.address(of: "no such host") }
  }
}
