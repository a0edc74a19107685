import Actors
import Base
import HTTP

/// One request to a peer, and who waits for its answer.
struct PeerCall {
  var method: String
  var target: String
  var headers: [HTTPField]
  var body: Bytes
  var timeoutMilliseconds: UInt64
  /// Called exactly once.
  var completion: (Result<PeerResponse, PeerError>) -> Void
}

/// A connection to a peer's port that carries one request at a time.
final class PeerClientConnection {
  /// Largest body of an answer.
  private static let responseBytesMax = 8 << 20
  /// An unused connection is closed long before a server would do so.
  private static let idleMilliseconds: UInt64 = 30_000

  private enum Phase {
    case connecting(Connector)
    case open(StreamConnection)
    case closed
  }

  let url: PeerURL
  private let hub: PeerHub
  /// Called when the connection can take another call, and when it has ended.
  private let onChange: (PeerClientConnection) -> Void
  private var phase = Phase.closed
  private let codec = HTTP1ClientCodec()
  private var call: PeerCall?
  private var deadline: UInt64 = 0
  private var idleSince: UInt64 = 0
  private var head: HTTP1ResponseHead?
  private var body: Bytes = []
  private var isComplete = false
  private var isTooLarge = false
  /// The connection could not be made: the URL is at fault, not the request.
  private(set) var didNotConnect = false

  init(url: PeerURL, hub: PeerHub, onChange: @escaping (PeerClientConnection) -> Void) {
    self.url = url
    self.hub = hub
    self.onChange = onChange
  }

  var isClosed: Bool { if case .closed = phase { true } else { false } }
  var isIdle: Bool { call == nil && !isClosed }

  /// Connects, then performs `call`.
  func open(with call: PeerCall) {
    begin(call)
    let connector = Connector.connect(
      to: url.address, timeoutMilliseconds: hub.configuration.dialTimeoutMilliseconds,
      loop: hub.loop, security: hub.security(for: url)
    ) { result in
      self.didConnect(result)
    }
    phase = .connecting(connector)
  }

  /// Performs `call` on an idle connection.
  func perform(_ call: PeerCall) {
    begin(call)
    sendRequest()
  }

  private func begin(_ call: PeerCall) {
    precondition(self.call == nil, "a peer connection carries one request at a time")
    self.call = call
    deadline = hub.now + call.timeoutMilliseconds
  }

  private func didConnect(_ result: Result<StreamConnection, StreamError>) {
    switch result {
    case .failure(let error):
      didNotConnect = true
      end(.connection(error.description))
    case .success(let connection):
      phase = .open(connection)
      connection.startReading(
        onBytes: { self.receive($0) },
        onEnd: { self.didEnd($0) })
      sendRequest()
    }
  }

  private func sendRequest() {
    guard let call, case .open(let connection) = phase else { return }
    head = nil
    body = []
    isComplete = false
    isTooLarge = false
    var bytes: Bytes = []
    bytes.reserveCapacity(call.body.count + 512)
    let framing: HTTP1Encoder.Body =
      call.method == "GET" && call.body.isEmpty ? .none : .length(call.body.count)
    HTTP1Encoder.requestHead(
      method: call.method, target: call.target, host: url.authority, headers: call.headers,
      body: framing, to: &bytes)
    bytes.append(contentsOf: call.body)
    connection.write(bytes)
  }

  private func receive(_ bytes: UnsafeRawBufferPointer) {
    guard call != nil else { return end(.badResponse("unsolicited bytes")) }
    do throws(HTTP1Error) {
      try codec.receive(bytes) { note($0) }
    } catch {
      // What follows a complete last answer does not matter.
      if !isComplete { return end(.badResponse("\(error)")) }
    }
    if isTooLarge { return end(.badResponse("body too large")) }
    if isComplete { finishCall() }
  }

  private func note(_ event: HTTP1ClientEvent) {
    switch event {
    case .head(let head): self.head = head
    case .body(let bytes):
      if body.count + bytes.count > Self.responseBytesMax {
        isTooLarge = true
      } else {
        body.append(contentsOf: bytes)
      }
    case .end: isComplete = true
    }
  }

  private func didEnd(_ error: StreamError?) {
    if call != nil, error == nil {
      try? codec.receiveEnd { note($0) }
      if isComplete {
        finishCall()
        if !isClosed { end(.connection("EOF")) }
        return
      }
    }
    end(.connection(error?.description ?? "EOF"))
  }

  private func finishCall() {
    guard let head, let call else { return }
    self.call = nil
    idleSince = hub.now
    let response = PeerResponse(status: head.status, headers: head.headers, body: body)
    body = []
    if !head.keepAlive { close() }
    call.completion(.success(response))
    onChange(self)
  }

  private func end(_ error: PeerError) {
    close()
    if let call {
      self.call = nil
      call.completion(.failure(error))
    }
    onChange(self)
  }

  private func close() {
    switch phase {
    case .connecting(let connector): connector.cancel()
    case .open(let connection): connection.close()
    case .closed: break
    }
    phase = .closed
  }

  /// Ends the connection and fails its call.
  func abort(_ error: PeerError) {
    if !isClosed { end(error) }
  }

  func tick(now: UInt64) {
    if call != nil {
      if now >= deadline { abort(.timeout) }
    } else if now >= idleSince + Self.idleMilliseconds {
      abort(.connection("idle"))
    }
  }
}
