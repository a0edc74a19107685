import Base
import HTTP
import Testing

@Suite struct CodingTests {
  @Test func statusCodes() {
    #expect(GRPCStatus.Code.allCases.count == 17)
    #expect(GRPCStatus.Code(rawValue: 4)?.name == "DeadlineExceeded")
    #expect(GRPCStatus.Code(rawValue: 16)?.name == "Unauthenticated")
    #expect(
      "\(GRPCStatus(.unavailable, "etcdserver: no leader"))"
        == "rpc error: code = Unavailable desc = etcdserver: no leader")
  }

  @Test func percentEncoding() {
    let encoded = GRPCStatus.percentEncode("a b~%\n\u{e9}\u{7f}")
    #expect(String(decoding: encoded, as: UTF8.self) == "a b~%25%0A%C3%A9%7F")
    #expect(GRPCStatus.percentDecode(encoded) == "a b~%\n\u{e9}\u{7f}")
    #expect(GRPCStatus.percentDecode(bytes("50% of %4")) == "50% of %4")
    #expect(GRPCStatus.percentDecode(bytes("%zz%6a")) == "%zzj")
  }

  @Test func timeouts() {
    func parse(_ text: String) -> UInt64? {
      Array(text.utf8).withUnsafeBufferPointer { GRPCTimeout.parse($0) }
    }
    #expect(parse("5S") == 5_000_000_000)
    #expect(parse("99999999H") == .max, "more than 64 bits hold")
    #expect(parse("1000000H") == 3_600_000_000_000_000_000)
    #expect(parse("250m") == 250_000_000)
    #expect(parse("0n") == 0)
    for broken in ["", "S", "5", "123456789S", "-1S", "1.5S", "5s"] {
      #expect(parse(broken) == nil, "\(broken)")
    }
    for nanoseconds: UInt64 in [0, 1, 99_999_999, 100_000_000, 7_000_000_000, 1 << 50, .max] {
      let text = GRPCTimeout.format(nanoseconds: nanoseconds)
      #expect(text.utf8.count <= 9)
      // Hours, used only beyond 190 years, are rounded down.
      #expect(parse(text).map { $0 >= nanoseconds - nanoseconds / 1000 } ?? false, "\(text)")
    }
    #expect(GRPCTimeout.format(nanoseconds: 7_000_000_001) == "7000001u")
  }

  @Test func base64() {
    var generator = SeededGenerator(seed: 3)
    for count in 0..<50 {
      let data = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
      let text = Base64.encode(data)
      #expect(Base64.decode(text.utf8) == data)
      let padding = String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
      #expect(Base64.decode((text + padding).utf8) == data)
    }
    #expect(Base64.encode(bytes("any carnal pleas")) == "YW55IGNhcm5hbCBwbGVhcw")
    for broken in ["A", "AB=", "A=B=", "A*BC", "====", "AAAAA"] {
      #expect(Base64.decode(broken.utf8) == nil, "\(broken)")
    }
  }

  @Test func gzipRoundTripAndLimits() throws {
    for data in [[], [1], pattern(70_000)] as [[UInt8]] {
      let packed = data.withUnsafeBytes { Gzip.compress($0) }
      #expect(packed.prefix(2) == [0x1f, 0x8b])
      #expect(try packed.withUnsafeBytes { try Gzip.decompress($0, limit: data.count) } == data)
      let twice = packed + packed
      #expect(
        try twice.withUnsafeBytes { try Gzip.decompress($0, limit: 200_000) } == data + data)
      if !data.isEmpty {
        #expect(throws: Gzip.Failure.tooLarge) {
          try packed.withUnsafeBytes { try Gzip.decompress($0, limit: data.count - 1) }
        }
      }
      #expect(throws: Gzip.Failure.malformed) {
        try Array(packed.dropLast()).withUnsafeBytes { try Gzip.decompress($0, limit: 200_000) }
      }
    }
  }

  @Test func frames() {
    let frame = GRPCMessageFramer.frame(bytes("abc"), isCompressed: true)
    #expect(frame == [1, 0, 0, 0, 3] + bytes("abc"))
    let prefix = frame.withUnsafeBytes { GRPCMessageFramer.parsePrefix($0) }
    #expect(prefix?.flag == 1)
    #expect(prefix?.count == 3)
    let short: [UInt8] = [0, 0, 0, 0]
    #expect(short.withUnsafeBytes { GRPCMessageFramer.parsePrefix($0) } == nil)
  }
}

@Suite struct FuzzTests {
  /// The bytes a client sends in a conversation with a bit of everything.
  private func conversation() -> [UInt8] {
    let client = GRPCClientSession(configuration: GRPCClientConfiguration(authority: "fuzz"))
    for index in 0..<6 {
      let call = client.startCall(
        path: "/s.S/M\(index)", metadata: [HTTPField("token", "t\(index)")],
        timeoutNanoseconds: 1_000_000, now: 0, compresses: index % 2 == 0)
      call.send(message: pattern(50 * index))
      call.send(message: [1, 2, 3])
      if index != 3 { call.halfClose() }
    }
    let first = client.takeOutput()
    client.close()
    return first
  }

  @Test(arguments: UInt64(0)..<40)
  func mutatedInputNeverCrashesTheServer(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let original = conversation()
    for _ in 0..<40 {
      var input = original
      for _ in 0..<Int.random(in: 1...8, using: &generator) {
        mutate(&input, &generator)
      }
      let recorder = Recorder()
      recorder.onMessage = { call, message in
        if message.count < 100 { call.send(message: message) } else { call.pauseReceiving() }
      }
      recorder.onHalfClose = { $0.finish(.ok) }
      var configuration = GRPCServerConfiguration()
      configuration.acceptsHTTP = seed % 2 == 0
      let session = GRPCServerSession(configuration: configuration, delegate: recorder)
      var at = 0
      while at < input.count {
        let end = min(input.count, at + Int.random(in: 1...400, using: &generator))
        let isOpen = session.take(Array(input[at..<end]), now: UInt64(at))
        _ = session.takeOutput()
        if !isOpen { break }
        at = end
      }
      session.close()
      let starts = recorder.calls.count
      #expect(recorder.calls.allSatisfy { $0.isFinished }, "seed \(seed)")
      #expect(recorder.log.filter { $0 == "cancelled" }.count <= starts + 6)
    }
  }

  @Test(arguments: UInt64(0)..<20)
  func mutatedInputNeverCrashesTheClient(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let recorder = Recorder()
    recorder.onHalfClose = { call in
      call.send(message: pattern(300))
      call.finish(GRPCStatus(call.id % 4 == 1 ? .ok : .aborted, "x"))
    }
    let server = GRPCServerSession(configuration: GRPCServerConfiguration(), delegate: recorder)
    _ = server.take(conversation())
    let original = server.takeOutput()
    server.close()
    for _ in 0..<40 {
      var input = original
      for _ in 0..<Int.random(in: 1...8, using: &generator) { mutate(&input, &generator) }
      let client = GRPCClientSession(configuration: GRPCClientConfiguration(authority: "fuzz"))
      let outcomes = (0..<6).map { _ in Outcome(client.startCall(path: "/s.S/M", now: 0)) }
      _ = client.takeOutput()
      _ = input.withUnsafeBytes { client.receive($0, now: 0) }
      _ = client.takeOutput()
      client.close()
      #expect(outcomes.allSatisfy { $0.ends == 1 }, "seed \(seed)")
    }
  }

  @Test(arguments: UInt64(0)..<20)
  func mutatedHTTP1NeverCrashes(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let original = bytes(
      "POST /v3/kv/put?x=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
        + "PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    for _ in 0..<100 {
      var input = original
      for _ in 0..<Int.random(in: 1...6, using: &generator) { mutate(&input, &generator) }
      let codec = HTTP1ServerCodec(headBytesMax: 200)
      var ends = 0
      var heads = 0
      try? input.withUnsafeBytes {
        try codec.receive($0) { event in
          if case .head = event { heads += 1 }
          if case .end = event { ends += 1 }
        }
      }
      #expect(ends <= heads)
    }
  }

  private func mutate(_ bytes: inout [UInt8], _ generator: inout SeededGenerator) {
    guard !bytes.isEmpty else { return }
    let at = Int.random(in: 0..<bytes.count, using: &generator)
    switch Int.random(in: 0..<5, using: &generator) {
    case 0: bytes[at] = UInt8.random(in: 0...255, using: &generator)
    case 1: bytes[at] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
    case 2: bytes.remove(at: at)
    case 3: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: at)
    default:
      let end = min(bytes.count, at + Int.random(in: 1...30, using: &generator))
      bytes.insert(contentsOf: bytes[at..<end], at: at)
    }
  }
}
