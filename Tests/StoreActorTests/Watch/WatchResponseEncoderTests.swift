import Base
import StoreActor
import Testing

@Suite struct WatchResponseEncoderTests {
  private struct Response: Equatable {
    var cluster: UInt64 = 0
    var member: UInt64 = 0
    var revision: Int64 = 0
    var term: UInt64 = 0
    var watchID: Int64 = 0
    var created = false
    var canceled = false
    var compactRevision: Int64 = 0
    var reason = ""
    var fragment = false
    var events: [Event] = []
  }

  private struct Event: Equatable {
    var type: UInt64 = 0
    var keyValue: Bytes = []
    var previous: Bytes?
  }

  private func decode(_ bytes: Bytes) throws -> Response {
    var response = Response()
    try bytes.withUnsafeBytes { buffer in
      var reader = ProtobufReader(buffer)
      while let field = try reader.next() {
        switch field.number {
        case 1: try decodeHeader(field.buffer(), &response)
        case 2: response.watchID = try field.int64()
        case 3: response.created = try field.bool()
        case 4: response.canceled = try field.bool()
        case 5: response.compactRevision = try field.int64()
        case 6: response.reason = String(decoding: try field.bytes(), as: UTF8.self)
        case 7: response.fragment = try field.bool()
        case 11: response.events.append(try decodeEvent(field.buffer()))
        default: Issue.record("unknown field \(field.number)")
        }
      }
    }
    return response
  }

  private func decodeHeader(
    _ buffer: UnsafeRawBufferPointer, _ response: inout Response
  ) throws {
    var reader = ProtobufReader(buffer)
    while let field = try reader.next() {
      switch field.number {
      case 1: response.cluster = try field.uint64()
      case 2: response.member = try field.uint64()
      case 3: response.revision = try field.int64()
      case 4: response.term = try field.uint64()
      default: Issue.record("unknown header field \(field.number)")
      }
    }
  }

  private func decodeEvent(_ buffer: UnsafeRawBufferPointer) throws -> Event {
    var event = Event()
    var reader = ProtobufReader(buffer)
    while let field = try reader.next() {
      switch field.number {
      case 1: event.type = try field.uint64()
      case 2: event.keyValue = try field.bytes()
      case 3: event.previous = try field.bytes()
      default: Issue.record("unknown event field \(field.number)")
      }
    }
    return event
  }

  private let encoder = WatchResponseEncoder(
    cluster: .max, member: 0x8000_0000_0000_0001, fragmentBytes: 300)

  private func messages(_ output: WatchOutput, term: Term) -> [Bytes] {
    var encoder = encoder
    var framed = FramedMessages()
    encoder.frame(output, term: term, into: &framed)
    #expect(framed.count == Array(framed).count)
    return Array(framed)
  }

  private func expected(_ change: (inout Response) -> Void) -> Response {
    var response = Response(cluster: .max, member: 0x8000_0000_0000_0001, term: 3)
    change(&response)
    return response
  }

  private func single(_ output: WatchOutput) throws -> Response {
    let messages = messages(output, term: 3)
    try #require(messages.count == 1)
    return try decode(messages[0])
  }

  @Test func controlAnswers() throws {
    let created = expected {
      $0.revision = 9
      $0.watchID = 4
      $0.created = true
    }
    #expect(try single(.created(watchID: 4, revision: 9)) == created)
    let refused = expected {
      $0.revision = 9
      $0.watchID = -1
      $0.created = true
      $0.canceled = true
      $0.reason = "why"
    }
    #expect(try single(.refused(reason: "why", revision: 9)) == refused)
    let canceled = expected {
      $0.revision = 9
      $0.canceled = true
    }
    #expect(try single(.canceled(watchID: 0, revision: 9)) == canceled)
    let compacted = expected {
      $0.watchID = 2
      $0.canceled = true
      $0.compactRevision = 8
    }
    #expect(try single(.compacted(watchID: 2, compactRevision: 8)) == compacted)
    let progress = expected {
      $0.revision = 9
      $0.watchID = -1
    }
    #expect(try single(.progress(watchID: -1, revision: 9)) == progress)
  }

  /// Batches of a watcher that gets the given values, one revision.
  private func batch(_ values: [String], fragment: Bool) throws -> WatchBatch {
    var store = WatchedStore()
    store.write(WatchedStore.put("b", "old"))
    store.hub.openStream(id: 1)
    store.hub.create(
      stream: 1,
      request: WatchCreate("a", to: "z").with {
        $0.prevKV = true
        $0.fragment = fragment
      })
    _ = store.take()
    let puts = values.map { WatchedStore.put("k", $0) }
    store.write(puts + [WatchedStore.delete("b")])
    guard case .events(let batch) = try #require(store.take().last) else {
      throw ProtobufError.truncated
    }
    return batch
  }

  @Test func eventsAreSpliced() throws {
    let batch = try batch(["1"], fragment: false)
    let response = expected {
      $0.revision = 3
      $0.events = [
        Event(type: 0, keyValue: WatchedStore.keyValue(.put, "k", 3, "1"), previous: nil),
        Event(
          type: 1, keyValue: WatchedStore.keyValue(.delete, "b", 3, ""),
          previous: WatchedStore.keyValue(.put, "b", 2, "old")),
      ]
    }
    #expect(try single(.events(batch)) == response)
  }

  @Test func largeResponsesAreCutOnlyIfAllowed() throws {
    let values = [40, 40, 40, 500, 40, 40].map { String(repeating: "x", count: $0) }
    let whole = try batch(values, fragment: false)
    #expect(messages(.events(whole), term: 3).count == 1)
    let parts = try messages(.events(batch(values, fragment: true)), term: 3).map(decode)
    #expect(parts.map(\.events.count) == [3, 1, 3])
    #expect(parts.map(\.fragment) == [true, true, false])
    #expect(parts.allSatisfy { $0.revision == 3 && $0.term == 3 && $0.cluster == .max })
    #expect(
      parts.flatMap(\.events) == (try decode(messages(.events(whole), term: 3)[0]).events))
  }

  /// One encoder for many outputs, as a member has it: each gets its own header.
  @Test func headersAreThoseOfTheirOutputs() throws {
    var encoder = encoder
    var framed = FramedMessages()
    let batch = WatchOutput.events(try batch(["1"], fragment: false))
    let outputs: [(WatchOutput, Term)] = [
      (batch, 3), (.progress(watchID: 1, revision: 9), 3), (.progress(watchID: 2, revision: 9), 3),
      (.progress(watchID: 2, revision: 9), 4), (.compacted(watchID: 1, compactRevision: 8), 4),
      (batch, 4), (batch, 4),
    ]
    for (output, term) in outputs { encoder.frame(output, term: term, into: &framed) }
    #expect(Array(framed) == outputs.flatMap { messages($0, term: $1) })
    let headers = try framed.map(decode)
    #expect(headers.map(\.revision) == [3, 9, 9, 9, 0, 3, 3])
    #expect(headers.map(\.term) == [3, 3, 3, 4, 4, 4, 4])
  }
}
