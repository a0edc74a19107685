import Actors
import Base
import HTTP
import RaftActor

/// The incoming half of a link: a stream that this member opens to another one, and reads.
///
/// Opens it again for ever, at most once in each `redialMilliseconds`.
final class PeerDialer {
  static let redialMilliseconds: UInt64 = 100
  /// Body of a refusal that is looked at.
  private static let refusalBytesMax = 1024

  private enum Phase {
    /// Until `dialDue`.
    case waiting
    case connecting(Connector)
    /// The answer's head has not come yet, or it was a refusal whose text is awaited.
    case opening(StreamConnection)
    case streaming(StreamConnection)
    case stopped
  }

  let kind: PeerStreamKind
  private let link: PeerLink
  private let hub: PeerHub
  private var phase = Phase.waiting
  private var dialDue: UInt64 = 0
  private var url: PeerURL?
  private var codec = HTTP1ClientCodec()
  private var messages = MessageStreamDecoder()
  private var appends: MsgAppV2Decoder
  private var lastHeard: UInt64 = 0
  private var heardSinceTick = false
  private var refusal: (status: Int, body: Bytes)?
  /// Why the bytes under way end the stream.
  private var failure: String?
  /// The last attempt did not even reach the port.
  private(set) var cannotConnect = false

  init(kind: PeerStreamKind, link: PeerLink) {
    self.kind = kind
    self.link = link
    hub = link.hub
    appends = MsgAppV2Decoder(local: hub.configuration.id, remote: link.id)
  }

  var isStreaming: Bool { if case .streaming = phase { true } else { false } }

  func tick(now: UInt64) {
    switch phase {
    case .waiting:
      if now >= dialDue { dial(now) }
    case .opening, .streaming:
      if heardSinceTick {
        heardSinceTick = false
        lastHeard = now
      } else if now >= lastHeard + UInt64(hub.configuration.streamTimeoutMilliseconds) {
        lost("i/o timeout")
      }
    case .connecting, .stopped: break
    }
  }

  func stop() {
    closeConnection()
    phase = .stopped
  }

  private func closeConnection() {
    switch phase {
    case .connecting(let connector): connector.cancel()
    case .opening(let connection), .streaming(let connection): connection.close()
    case .waiting, .stopped: break
    }
  }

  // MARK: Opening

  private func dial(_ now: UInt64) {
    dialDue = now + Self.redialMilliseconds
    guard !link.isRemoved, let url = link.addresses.current else { return }
    self.url = url
    let connector = Connector.connect(
      to: url.address, timeoutMilliseconds: hub.configuration.dialTimeoutMilliseconds,
      loop: hub.loop, security: hub.security(for: url)
    ) { result in
      self.didConnect(result, url)
    }
    phase = .connecting(connector)
  }

  private func didConnect(_ result: Result<StreamConnection, StreamError>, _ url: PeerURL) {
    switch result {
    case .failure(let error):
      cannotConnect = true
      phase = .waiting
      failed(error.description)
    case .success(let connection):
      cannotConnect = false
      phase = .opening(connection)
      codec = HTTP1ClientCodec()
      messages = MessageStreamDecoder()
      appends = MsgAppV2Decoder(local: hub.configuration.id, remote: link.id)
      refusal = nil
      failure = nil
      lastHeard = hub.now
      connection.startReading(onBytes: { self.receive($0) }, onEnd: { self.didEnd($0) })
      connection.write(request(to: url))
    }
  }

  private func request(to url: PeerURL) -> Bytes {
    var bytes: Bytes = []
    HTTP1Encoder.requestHead(
      method: "GET", target: kind.path + hub.configuration.id.hex, host: url.authority,
      headers: hub.raftHeaders + [HTTPField("X-Raft-To", link.id.hex)], to: &bytes)
    return bytes
  }

  // MARK: Reading

  private func receive(_ bytes: UnsafeRawBufferPointer) {
    heardSinceTick = true
    do throws(HTTP1Error) {
      try codec.receive(bytes) { note($0) }
    } catch {
      if failure == nil { failure = "\(error)" }
    }
    if isStreaming { hub.countReceived(bytes.count, from: link.id) }
    if let failure { lost(failure) }
  }

  private func note(_ event: HTTP1ClientEvent) {
    // After the first failure the rest of the bytes means nothing.
    guard failure == nil else { return }
    switch event {
    case .head(let head): noteHead(head)
    case .body(let bytes):
      if refusal != nil {
        let room = Self.refusalBytesMax - (refusal?.body.count ?? 0)
        refusal?.body.append(contentsOf: bytes.prefix(max(0, room)))
      } else {
        decode(bytes)
      }
    case .end:
      if let refusal { failure = explain(refusal.status, refusal.body) } else { failure = "EOF" }
    }
  }

  private func noteHead(_ head: HTTP1ResponseHead) {
    guard head.status == 200 else {
      refusal = (head.status, [])
      return
    }
    let version = head.headers.first("X-Server-Version").map { PeerVersion($0) } ?? .absent
    guard let version, version >= .oldestWithStreams else {
      failure = "unsupported stream type"
      return
    }
    guard case .opening(let connection) = phase else { return }
    phase = .streaming(connection)
    link.didOpen(self)
  }

  private func decode(_ bytes: UnsafeRawBufferPointer) {
    do throws(WireError) {
      switch kind {
      case .message: try messages.feed(bytes) { link.didReceive($0) }
      case .msgapp: try appends.feed(bytes) { link.didReceive($0) }
      }
    } catch {
      failure = "\(error)"
    }
  }

  /// Etcd's reading of a refusal.
  private func explain(_ status: Int, _ body: Bytes) -> String {
    let text = String(decoding: body, as: UTF8.self).split(separator: "\n").first ?? ""
    switch status {
    case 410:
      hub.wasRemoved(by: link.id)
      return "the member has been permanently removed from the cluster"
    case 404: return "peer \(link.id.hex) failed to find local node \(hub.configuration.id.hex)"
    case 412:
      link.didMeetRefusal(String(text))
      return String(text)
    default: return "unhandled error \"\(text)\" when http status code is \(status)"
    }
  }

  // MARK: Ending

  private func didEnd(_ error: StreamError?) {
    if failure == nil, let refusal { failure = explain(refusal.status, refusal.body) }
    lost(failure ?? error?.description ?? "EOF")
  }

  private func lost(_ reason: String) {
    let wasStreaming = isStreaming
    closeConnection()
    if case .stopped = phase { return }
    phase = .waiting
    if wasStreaming { link.didClose(self, reason) }
    failed(reason)
  }

  private func failed(_ reason: String) {
    if let url { link.addresses.failed(url) }
    link.deactivate("failed to dial \(hub.configuration.id.hex) on \(kind.name): \(reason)")
    // Without a wait, unless the last attempt was a moment ago.
    let now = hub.now
    if now >= dialDue, case .waiting = phase { dial(now) }
  }
}
