import Actors
import Base
import HTTP
import RaftActor

/// A connection that was accepted on the peer port: requests in turn, or one endless stream.
final class PeerListenerConnection {
  private static let idleMilliseconds: UInt64 = 300_000
  /// Silence in the middle of a request.
  private static let stallMilliseconds: UInt64 = 10_000
  /// Time for the client to read a last answer.
  private static let drainMilliseconds: UInt64 = 2000
  /// Requests that may be sent ahead on one connection.
  private static let pipelinedMax = 16

  private enum Phase {
    case serving
    /// This member writes a stream; what the client sends is of no interest.
    case streaming(PeerLink, PeerStreamKind)
    /// The last answer has been given.
    case draining
    case closed
  }

  private struct Incoming {
    let head: HTTP1RequestHead
    let route: PeerRoute
    /// The answer's place among those of this connection.
    let slot: UInt64
    let bodyBytesMax: Int
    var body: Bytes = []
    var receiver: SnapshotReceiver?
    /// Answered before its end: the rest is passed over.
    var isRefused = false
  }

  private struct Slot {
    let number: UInt64
    let minorVersion: Int
    var keepAlive: Bool
    let omitsBody: Bool
    var answer: Bytes?
  }

  let id: UInt64
  private let connection: StreamConnection
  private let hub: PeerHub
  private let codec = HTTP1ServerCodec()
  private var phase = Phase.serving
  private var incoming: Incoming?
  private var slots: [Slot] = []
  private var slotCount: UInt64 = 0
  private var lastHeard: UInt64
  private var heardSinceTick = false
  private var isPaused = false

  init(id: UInt64, connection: StreamConnection, hub: PeerHub) {
    self.id = id
    self.connection = connection
    self.hub = hub
    lastHeard = hub.now
  }

  func start() {
    connection.onClose = { self.didClose() }
    connection.startReading(onBytes: { self.receive($0) }, onEnd: { self.didEnd($0) })
  }

  // MARK: Reading

  private func receive(_ bytes: UnsafeRawBufferPointer) {
    heardSinceTick = true
    guard case .serving = phase else { return }
    do throws(HTTP1Error) {
      try codec.receive(bytes) { note($0) }
    } catch {
      // HTTP/2, TLS or noise: nothing that an answer would help.
      guard case .serving = phase else { return }
      hub.log(
        .debug, "rejected connection on peer port",
        [("remote-addr", connection.peerAddress), ("error", "\(error)")])
      connection.close()
    }
  }

  private func note(_ event: HTTP1ServerEvent) {
    guard case .serving = phase else { return }
    switch event {
    case .head(let head): begin(head)
    case .body(let bytes): append(bytes)
    case .end: end()
    }
  }

  private func begin(_ head: HTTP1RequestHead) {
    guard slots.count < Self.pipelinedMax else { return connection.close() }
    let decision = hub.decide(head)
    slotCount += 1
    slots.append(
      Slot(
        number: slotCount, minorVersion: head.minorVersion, keepAlive: head.keepAlive,
        omitsBody: head.method == "HEAD"))
    let isMessage = decision.route == .message
    let limit =
      isMessage ? hub.configuration.messageBytesMax : hub.configuration.requestBodyBytesMax
    incoming = Incoming(
      head: head, route: decision.route, slot: slotCount, bodyBytesMax: limit)
    if case .refuse(let refusal) = decision.route {
      // A body that is not wanted is not waited for either.
      if codecExpectsBody(head) { refuseEarly(refusal) }
      return
    }
    if decision.route == .snapshot { beginSnapshot() }
    if head.expectsContinue, slots.count == 1, incoming?.isRefused == false {
      connection.write(HTTP1Encoder.continueResponse)
    }
  }

  private func codecExpectsBody(_ head: HTTP1RequestHead) -> Bool {
    if head.headers.contains("Transfer-Encoding") { return true }
    return head.headers.first("Content-Length").map { $0 != "0" } ?? false
  }

  private func append(_ bytes: UnsafeRawBufferPointer) {
    guard let incoming, !incoming.isRefused else { return }
    if let receiver = incoming.receiver { return receiver.receive(bytes) }
    guard incoming.body.count + bytes.count <= incoming.bodyBytesMax else {
      return refuseEarly(PeerRefusal(status: 413, text: "http: request body too large"))
    }
    self.incoming?.body.append(contentsOf: bytes)
  }

  private func end() {
    guard let request = incoming, !request.isRefused else {
      incoming = nil
      return
    }
    if let receiver = request.receiver { return receiver.end() }
    incoming = nil
    switch request.route {
    case .stream(let kind, let from): attach(kind, from, request)
    case .message: receiveMessage(request)
    case .probing: answerProbe(request.slot)
    case .refuse(let refusal): refuse(refusal, slot: request.slot)
    case .snapshot: break
    case .other: forward(request)
    }
  }

  private func didEnd(_ error: StreamError?) {
    if error == nil, case .serving = phase, !slots.isEmpty, incoming == nil {
      // A client that sends no more may still wait for its answers.
      if let last = slots.indices.last { slots[last].keepAlive = false }
      return
    }
    connection.close()
  }

  private func didClose() {
    if case .streaming(let link, let kind) = phase { link.detach(connection, kind: kind) }
    incoming?.receiver?.abort()
    incoming = nil
    phase = .closed
    hub.didClose(self)
  }

  // MARK: Routes

  private func attach(_ kind: PeerStreamKind, _ from: MemberID, _ request: Incoming) {
    // An answer that is still owed would end up inside the stream.
    guard let link = hub.link(from), slots.count == 1, request.head.minorVersion == 1 else {
      return connection.close()
    }
    slots = []
    phase = .streaming(link, kind)
    var head: Bytes = []
    HTTP1Encoder.responseHead(
      status: 200,
      headers: hub.answerHeaders + [HTTPField("X-Server-Version", hub.configuration.serverVersion)],
      body: .chunked, to: &head)
    connection.write(head)
    link.attach(connection, kind: kind)
  }

  private func receiveMessage(_ request: Incoming) {
    let message: Message
    do throws(WireError) { message = try Message(decoding: request.body) } catch {
      return refuse(
        PeerRefusal(status: 400, text: "error unmarshalling raft message"), slot: request.slot)
    }
    if !message.isLinkHeartbeat {
      guard message.to == hub.configuration.id, !hub.isRemoved(message.from) else {
        hub.outlets.metrics.receiveFailed(message.from)
        return refuse(.processing, slot: request.slot, keepAlive: false)
      }
      guard message.kind != .snapshot else {
        return refuse(
          PeerRefusal(status: 400, text: "wrong raft message type"), slot: request.slot)
      }
      hub.countReceived(request.body.count, from: message.from)
      hub.link(message.from)?.heard()
      hub.receive(message, from: message.from)
    }
    answer(request.slot, status: 204, headers: hub.answerHeaders, body: [])
  }

  private func answerProbe(_ slot: UInt64) {
    let text = "{\"OK\":true,\"Now\":\"\(wallClockText())\"}\n"
    answer(
      slot, status: 200, headers: [HTTPField("Content-Type", "text/plain; charset=utf-8")],
      body: Bytes(text.utf8))
  }

  private func forward(_ request: Incoming) {
    let accepted = hub.forward(from: self, slot: request.slot) { id in
      PeerRequest(
        id: id, method: request.head.method, path: request.head.path, query: request.head.query,
        headers: request.head.headers, body: request.body, remote: connection.peerAddress)
    }
    if !accepted {
      refuse(PeerRefusal(status: 503, text: "too many requests"), slot: request.slot)
    }
  }

  private func beginSnapshot() {
    guard let slot = incoming?.slot, let head = incoming?.head else { return }
    let checksum = head.headers.first(SnapshotSender.checksumHeader)
    let receiver = hub.makeSnapshotReceiver(
      checksum: checksum.flatMap { UInt32($0, radix: 16) },
      onSlow: { [weak self] in self?.pause($0) },
      onEnd: { [weak self] in self?.endSnapshot($0, slot) })
    if let receiver {
      incoming?.receiver = receiver
    } else {
      refuseEarly(
        PeerRefusal(
          status: 500, text: "failed to save KV snapshot (too many snapshots at a time)"))
    }
  }

  private func endSnapshot(_ verdict: SnapshotReceiver.Verdict, _ slot: UInt64) {
    switch verdict {
    case .accepted:
      incoming = nil
      answer(slot, status: 204, headers: hub.answerHeaders, body: [])
    case .refused(let refusal): refuseEarly(refusal)
    }
  }

  private func pause(_ pauses: Bool) {
    isPaused = pauses
    if pauses { connection.pauseReading() } else { connection.resumeReading() }
    lastHeard = hub.now
  }

  // MARK: Answers

  /// Answers a request whose body has not ended, and takes no further one.
  private func refuseEarly(_ refusal: PeerRefusal) {
    guard let slot = incoming?.slot else { return }
    incoming?.isRefused = true
    if isPaused { pause(false) }
    refuse(refusal, slot: slot, keepAlive: false)
  }

  private func refuse(_ refusal: PeerRefusal, slot: UInt64, keepAlive: Bool = true) {
    answer(
      slot, status: refusal.status, headers: hub.answerHeaders + refusal.headers,
      body: refusal.body, keepAlive: keepAlive)
  }

  /// Gives the answer to a request; those to earlier requests go first.
  func answer(
    _ slot: UInt64, status: Int, headers: [HTTPField], body: Bytes, keepAlive: Bool = true
  ) {
    guard let index = slots.firstIndex(where: { $0.number == slot && $0.answer == nil }) else {
      return
    }
    slots[index].keepAlive = slots[index].keepAlive && keepAlive
    let slot = slots[index]
    var bytes: Bytes = []
    if status == 204 || status == 304 {
      HTTP1Encoder.responseHead(
        status: status, headers: headers, body: .none, keepAlive: slot.keepAlive,
        minorVersion: slot.minorVersion, to: &bytes)
    } else {
      HTTP1Encoder.response(
        status: status, headers: headers, body: body, keepAlive: slot.keepAlive,
        minorVersion: slot.minorVersion, omitsBody: slot.omitsBody, to: &bytes)
    }
    slots[index].answer = bytes
    sendAnswers()
  }

  private func sendAnswers() {
    while let first = slots.first, let bytes = first.answer {
      slots.removeFirst()
      connection.write(bytes)
      if !first.keepAlive { return drain() }
    }
  }

  /// Ends the connection such that the client can still read what it was sent.
  private func drain() {
    guard case .serving = phase else { return }
    phase = .draining
    slots = []
    lastHeard = hub.now
    if incoming == nil { connection.closeWhenFlushed() } else { connection.shutdown() }
  }

  // MARK: Time

  func tick(now: UInt64) {
    if heardSinceTick {
      heardSinceTick = false
      if case .draining = phase {} else { lastHeard = now }
    }
    let patience: UInt64
    switch phase {
    case .serving:
      let isWaitingForBytes = codec.isInMessage && !isPaused
      patience = isWaitingForBytes ? Self.stallMilliseconds : Self.idleMilliseconds
    case .draining: patience = Self.drainMilliseconds
    case .streaming, .closed: return
    }
    if now >= lastHeard + patience { connection.close() }
  }

  func close() { connection.close() }
}
