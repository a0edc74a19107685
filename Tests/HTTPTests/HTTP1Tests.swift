import Base
import HTTP
import Testing

@Suite struct HTTP1Tests {
  /// What a server codec says about `input`, fed `piece` bytes at a time.
  private func read(
    _ input: [UInt8], piece: Int = .max, headBytesMax: Int = 65_536
  ) -> (log: [String], heads: [HTTP1RequestHead], error: HTTP1Error?) {
    let codec = HTTP1ServerCodec(headBytesMax: headBytesMax)
    var log: [String] = []
    var heads: [HTTP1RequestHead] = []
    var body: [UInt8] = []
    do throws(HTTP1Error) {
      try feed(input, piece) { (bytes) throws(HTTP1Error) in
        try codec.receive(bytes) { event in
          switch event {
          case .head(let head):
            heads.append(head)
            log.append("\(head.method) \(head.target)")
          case .body(let bytes): body.append(contentsOf: bytes)
          case .end:
            log.append("end \(String(decoding: body, as: UTF8.self))")
            body = []
          }
        }
      }
    } catch {
      return (log, heads, error)
    }
    return (log, heads, nil)
  }

  private func feed(
    _ input: [UInt8], _ piece: Int,
    _ body: (UnsafeRawBufferPointer) throws(HTTP1Error) -> Void
  ) throws(HTTP1Error) {
    var at = 0
    while at < input.count {
      let end = piece >= input.count - at ? input.count : at + piece
      var failure: HTTP1Error?
      Array(input[at..<end]).withUnsafeBytes { bytes in
        do throws(HTTP1Error) { try body(bytes) } catch { failure = error }
      }
      if let failure { throw failure }
      at = end
    }
  }

  @Test(arguments: [1, 2, 3, 7, Int.max])
  func pipelinedRequestsInPieces(piece: Int) {
    let input = bytes(
      "GET /health?serializable=true HTTP/1.1\r\nHost: a\r\nX-Thing: one\r\nx-thing:two \r\n\r\n"
        + "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        + "Expect: 100-continue\r\n\r\nhello"
        + "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "3\r\nabc\r\n4;e=1\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n"
        + "GET /last HTTP/1.0\r\n\r\n")
    let (log, heads, error) = read(input, piece: piece)
    #expect(error == nil)
    #expect(
      log == [
        "GET /health?serializable=true", "end ", "POST /v3/kv/put", "end hello", "PUT /x",
        "end abcdefg", "GET /last", "end ",
      ])
    #expect(heads[0].path == "/health")
    #expect(heads[0].query == "serializable=true")
    #expect(heads[0].headers.all("X-THING") == ["one", "two"])
    #expect(heads.map(\.keepAlive) == [true, true, true, false])
    #expect(heads.map(\.expectsContinue) == [false, true, false, false])
    #expect(heads[2].headers.first("trailer") == nil)
    #expect(heads[3].minorVersion == 0)
  }

  @Test func upgradesAreIgnored() {
    let input = bytes(
      "GET /version HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        + "GET /again HTTP/1.1\r\nHost: a\r\n\r\n")
    let (log, _, error) = read(input)
    #expect(error == nil)
    #expect(log == ["GET /version", "end ", "GET /again", "end "])
  }

  @Test func limitsAndBrokenInput() {
    let long = "GET / HTTP/1.1\r\nX: \(String(repeating: "y", count: 500))\r\n\r\n"
    #expect(read(bytes(long), headBytesMax: 600).error == nil)
    #expect(read(bytes(long), headBytesMax: 500).error == .headTooLarge)
    #expect(read(bytes(long), piece: 1, headBytesMax: 500).error?.responseStatus == 431)
    #expect(read(bytes("\u{16}\u{3}\u{1}hello")).error?.responseStatus == 400)
    let smuggled = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"
    #expect(read(bytes(smuggled)).error != nil)
  }

  @Test(arguments: [1, Int.max])
  func nothingIsReadAfterTheLastRequest(piece: Int) {
    let input = "GET /a HTTP/1.1\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n"
    let (log, _, error) = read(bytes(input), piece: piece)
    #expect(log == ["GET /a", "end "])
    #expect(error == nil)
  }

  @Test func aBrokenCodecStaysBroken() {
    let codec = HTTP1ServerCodec()
    for input in ["\u{1}\u{2}", "GET / HTTP/1.1\r\n\r\n"] {
      #expect(throws: HTTP1Error.self) {
        try feed(bytes(input), .max) { (bytes) throws(HTTP1Error) in
          try codec.receive(bytes) { _ in Issue.record("an event after a fault") }
        }
      }
    }
  }

  private func readResponses(
    _ input: [UInt8], piece: Int = .max, ends: Bool = false, head: Bool = false
  ) throws(HTTP1Error) -> [String] {
    let codec = HTTP1ClientCodec()
    if head { codec.expectNoBody() }
    var log: [String] = []
    var body: [UInt8] = []
    let handler: (HTTP1ClientEvent) -> Void = { event in
      switch event {
      case .head(let head): log.append("\(head.status) \(head.reason) \(head.keepAlive)")
      case .body(let bytes): body.append(contentsOf: bytes)
      case .end:
        log.append("end \(String(decoding: body, as: UTF8.self))")
        body = []
      }
    }
    try feed(input, piece) { (bytes) throws(HTTP1Error) in try codec.receive(bytes, handler) }
    if ends { try codec.receiveEnd(handler) }
    return log
  }

  @Test(arguments: [1, 4, Int.max])
  func responses(piece: Int) throws {
    var input = HTTP1Encoder.continueResponse
    HTTP1Encoder.response(status: 200, body: bytes("ok\n"), to: &input)
    HTTP1Encoder.responseHead(status: 404, body: .chunked, to: &input)
    HTTP1Encoder.chunk(bytes("first "), to: &input)
    HTTP1Encoder.chunk([], to: &input)
    HTTP1Encoder.chunk(pattern(20).map { $0 % 26 + 97 }, to: &input)
    input += HTTP1Encoder.lastChunk
    HTTP1Encoder.responseHead(status: 200, body: .untilClose, to: &input)
    input += bytes("tail")
    #expect(
      try readResponses(input, piece: piece, ends: true) == [
        "200 OK true", "end ok\n", "404 Not Found true",
        "end first \(String(decoding: pattern(20).map { $0 % 26 + 97 }, as: UTF8.self))",
        "200 OK false", "end tail",
      ])
  }

  @Test func responsesToHEADAndCutOffOnes() throws {
    var input: [UInt8] = []
    HTTP1Encoder.response(status: 200, body: bytes("xyz"), omitsBody: true, to: &input)
    HTTP1Encoder.response(status: 503, body: bytes("abc"), to: &input)
    #expect(
      try readResponses(input, head: true) == [
        "200 OK true", "end ", "503 Service Unavailable true", "end abc",
      ])
    #expect(throws: HTTP1Error.unexpectedEnd) {
      try readResponses(input.dropLast(), ends: true, head: true)
    }
  }

  @Test func endlessStreamArrivesPieceByPiece() throws {
    let codec = HTTP1ClientCodec()
    var received = 0
    var input: [UInt8] = []
    HTTP1Encoder.responseHead(status: 200, body: .chunked, to: &input)
    for round in 0..<50 {
      HTTP1Encoder.chunk(pattern(round + 1), to: &input)
      try input.withUnsafeBytes {
        try codec.receive($0) { event in
          if case .body(let bytes) = event { received += bytes.count }
        }
      }
      input = []
      #expect(received == (round + 1) * (round + 2) / 2)
    }
    #expect(codec.isInMessage)
  }

  @Test func encodedRequestIsReadBack() {
    var output: [UInt8] = []
    HTTP1Encoder.requestHead(
      method: "POST", target: "/raft", host: "h:1",
      headers: [HTTPField("X-Evil", "a\r\nInjected: yes")], body: .length(2), keepAlive: false,
      to: &output)
    output += bytes("hi")
    let (log, heads, error) = read(output, piece: 1)
    #expect(error == nil)
    #expect(log == ["POST /raft", "end hi"])
    #expect(heads[0].headers.first("host") == "h:1")
    #expect(heads[0].headers.first("injected") == nil)
    #expect(!heads[0].keepAlive)
  }

  @Test func oldClientsGetNoChunks() {
    var output: [UInt8] = []
    let body = HTTP1Encoder.responseHead(
      status: 200, body: .chunked, minorVersion: 0, to: &output)
    #expect(body == .untilClose)
    let text = String(decoding: output, as: UTF8.self)
    #expect(text.contains("Connection: close"))
    #expect(!text.contains("chunked"))
  }
}

@Suite struct SnifferTests {
  @Test(arguments: [1, 5, 100])
  func decides(piece: Int) {
    #expect(decidePieces(Frame.preface, piece) == .http2)
    #expect(decidePieces(bytes("GET / HTTP/1.1\r\n"), piece) == .http1)
    #expect(decidePieces(bytes("PRIVATE / HTTP/1.1\r\n"), piece) == .http1)
    #expect(decidePieces(bytes("PUT / HTTP/1.1\r\n"), piece) == .http1)
    #expect(decidePieces(bytes("PRI * HTTP"), piece) == .needMore)
    #expect(decidePieces(bytes("PRI * HTTP/1.1\r\n\r\n"), piece) == .http1)
  }

  private func decidePieces(_ input: [UInt8], _ piece: Int) -> ProtocolSniffer.Decision {
    var sniffer = ProtocolSniffer()
    var decision = ProtocolSniffer.Decision.needMore
    var at = 0
    while at < input.count, decision == .needMore {
      let end = min(input.count, at + piece)
      decision = Array(input[at..<end]).withUnsafeBytes { sniffer.receive($0) }
      at = end
    }
    #expect(sniffer.takeBytes() == Array(input[..<at]), "nothing may be lost")
    return decision
  }
}
