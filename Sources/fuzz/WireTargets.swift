import Base
import HTTP
import RaftActor

extension Bytes {
  /// Hands the bytes over in pieces, as a socket does.
  func inPieces(
    _ random: inout SeededGenerator, _ body: (UnsafeRawBufferPointer) -> Bool
  ) {
    let piece = [1, 7, 64, Swift.max(1, count)][Int.random(in: 0...3, using: &random)]
    withUnsafeBytes { all in
      var at = 0
      while at < all.count {
        let end = Swift.min(all.count, at + piece)
        guard body(UnsafeRawBufferPointer(rebasing: all[at..<end])) else { return }
        at = end
      }
    }
  }
}

/// What peers send each other: both stream forms, and the head of a snapshot.
struct PeerStreamTarget: FuzzTarget {
  static let name = "peer"

  static var corpus: [Bytes] {
    var entries: [Entry] = []
    for index in 5...9 as ClosedRange<LogIndex> {
      entries.append(Entry(term: 3, index: index, data: Bytes(repeating: UInt8(index), count: 40)))
    }
    let append = Message(
      kind: .append, to: 1, from: 2, term: 3, logTerm: 3, index: 4, entries: entries, commit: 4)
    let snapshot = Message(
      kind: .snapshot, to: 1, from: 2, term: 3,
      snapshot: Snapshot(
        metadata: SnapshotMetadata(
          index: 9, term: 3, confState: ConfState(voters: [1, 2, 3], learners: [4])),
        data: Bytes("{}".utf8)))
    var stream: Bytes = []
    for kind in [Message.Kind.heartbeat, .vote, .appendResponse, .readIndex, .preVote] {
      MessageStreamEncoder.append(
        Message(kind: kind, to: 1, from: 2, term: 3, logTerm: 2, index: 7, context: [1, 2, 3]),
        to: &stream)
    }
    MessageStreamEncoder.append(append, to: &stream)
    MessageStreamEncoder.appendLinkHeartbeat(to: &stream)
    var encoder = MsgAppV2Encoder()
    var appends: Bytes = []
    encoder.append(append, to: &appends)
    var next = append
    next.index = 9
    next.entries = [Entry(term: 3, index: 10, data: [1, 2, 3])]
    encoder.append(next, to: &appends)
    encoder.appendLinkHeartbeat(to: &appends)
    return [stream, appends, SnapshotHeaderDecoder.encode(snapshot)]
  }

  mutating func read(_ input: Bytes, _ random: inout SeededGenerator) {
    var messages = MessageStreamDecoder()
    input.inPieces(&random) { piece in (try? messages.feed(piece) { _ in }) != nil }
    var appends = MsgAppV2Decoder(local: 1, remote: 2)
    input.inPieces(&random) { piece in (try? appends.feed(piece) { _ in }) != nil }
    var snapshot = SnapshotHeaderDecoder()
    input.inPieces(&random) { piece in
      do { return try snapshot.feed(piece) == nil } catch { return false }
    }
  }
}

/// HTTP/2 with gRPC, both ends.
struct HTTP2Target: FuzzTarget {
  static let name = "http2"

  private final class Delegate: GRPCServerDelegate {
    func callStarted(_ call: ServerCall) {}
    func call(_ call: ServerCall, received message: UnsafeRawBufferPointer) {
      call.send(message: Bytes(message))
    }
    func callHalfClosed(_ call: ServerCall) { call.finish(.ok) }
    func callCancelled(_ call: ServerCall) {}
    func callWritable(_ call: ServerCall) {}
    func httpRequest(_ request: ServerCall, method: String) {}
    func httpRequest(_ request: ServerCall, received bytes: UnsafeRawBufferPointer) {}
    func httpRequestEnded(_ request: ServerCall) {
      request.respond(status: 404, headers: [], body: [])
    }
  }

  /// What a real client sends for two calls, and what a real server answers.
  private static let exchange: (client: Bytes, server: Bytes) = {
    let delegate = Delegate()
    let server = GRPCServerSession(configuration: GRPCServerConfiguration(), delegate: delegate)
    let client = GRPCClientSession(configuration: GRPCClientConfiguration(authority: "a"))
    var up: Bytes = []
    var down: Bytes = []
    for round in 0..<3 {
      let call = client.startCall(
        path: "/etcdserverpb.KV/Put", timeoutNanoseconds: 1_000_000_000, now: 1,
        compresses: round == 2)
      call.send(message: Bytes(repeating: UInt8(round), count: 100))
      call.halfClose()
      let sent = client.takeOutput()
      up += sent
      _ = sent.withUnsafeBytes { server.receive($0, now: 1) }
      let answered = server.takeOutput()
      down += answered
      _ = answered.withUnsafeBytes { client.receive($0, now: 1) }
    }
    client.close()
    server.close()
    return (up, down)
  }()

  static var corpus: [Bytes] { [exchange.client, exchange.server] }

  mutating func read(_ input: Bytes, _ random: inout SeededGenerator) {
    let delegate = Delegate()
    var configuration = GRPCServerConfiguration()
    configuration.routes = ["/etcdserverpb.KV/Put"]
    let server = GRPCServerSession(configuration: configuration, delegate: delegate)
    input.inPieces(&random) { piece in
      let goesOn = server.receive(piece, now: 1)
      _ = server.takeOutput()
      return goesOn
    }
    server.close()
    let client = GRPCClientSession(configuration: GRPCClientConfiguration(authority: "a"))
    for _ in 0..<2 {
      let call = client.startCall(path: "/etcdserverpb.KV/Put", now: 1)
      call.onMessage = { _ in }
    }
    _ = client.takeOutput()
    input.inPieces(&random) { piece in client.receive(piece, now: 1) }
    _ = client.takeOutput()
    client.close()
  }
}

/// HTTP/1.1, both ends.
struct HTTP1Target: FuzzTarget {
  static let name = "http1"

  static var corpus: [Bytes] {
    [
      "GET /health?serializable=true HTTP/1.1\r\nHost: a\r\nX-Thing: one\r\n\r\n",
      "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
      "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;e=1\r\ndefg\r\n0\r\nT: t\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: text/plain\r\n\r\nbody",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ].map { Bytes($0.utf8) }
  }

  mutating func read(_ input: Bytes, _ random: inout SeededGenerator) {
    let server = HTTP1ServerCodec(headBytesMax: 65_536)
    input.inPieces(&random) { piece in (try? server.receive(piece) { _ in }) != nil }
    let client = HTTP1ClientCodec(headBytesMax: 65_536)
    input.inPieces(&random) { piece in (try? client.receive(piece) { _ in }) != nil }
  }
}
