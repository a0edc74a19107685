import Actors
import EtcdAPI
import EtcdClient
import HTTP
import Synchronization

/// A gRPC server on a loopback port whose answers a test writes. Handlers run on its loop thread.
final class FakeServer: @unchecked Sendable {
  typealias Handler = @Sendable (FakeServer, ServerCall, [UInt8]) -> Void

  let loop: EventLoop
  let endpoint: Endpoint
  private let listener: Listener
  private let seen = Mutex<[String]>([])
  // Loop thread only.
  fileprivate let handler: Handler
  fileprivate var connections: [FakeConnection] = []

  /// - Parameter handler: called with each message of each call.
  init(port: UInt16 = 0, handler: @escaping Handler) throws {
    self.handler = handler
    loop = try EventLoop()
    let box = Accepted()
    listener = try Listener.listen(on: .tcp(host: "127.0.0.1", port: port), loop: loop) {
      box.server?.accept($0)
    }
    endpoint = try Endpoint(listener.localAddress)
    box.server = self
    try loop.start(name: "fake-server")
  }

  private final class Accepted {
    weak var server: FakeServer?
  }

  var port: UInt16 { listener.boundPort }

  /// What has happened, in order: `path` per message, `cancelled path`.
  var log: [String] { seen.withLock { $0 } }

  func note(_ text: String) { seen.withLock { $0.append(text) } }

  private func accept(_ stream: StreamConnection) {
    note("connect")
    connections.append(FakeConnection(self, stream))
  }

  /// Cuts every connection, as a dying member does. Loop thread only.
  func dropConnections() {
    let dropped = connections
    connections = []
    for connection in dropped { connection.end() }
  }

  func stop() { loop.stopAndJoin() }
}

private final class FakeConnection: GRPCServerDelegate {
  private weak let server: FakeServer?
  private let stream: StreamConnection
  private var session: GRPCServerSession?

  init(_ server: FakeServer, _ stream: StreamConnection) {
    self.server = server
    self.stream = stream
    session = GRPCServerSession(configuration: GRPCServerConfiguration(), delegate: self)
    stream.onWritable = { self.flush() }
    stream.startReading(
      onBytes: { bytes in
        let isAlive = self.session?.receive(bytes, now: monotonicNanoseconds()) ?? false
        self.flush()
        if !isAlive { self.end() }
      }, onEnd: { _ in self.end() })
    flush()
  }

  func flush() {
    guard let session else { return }
    while stream.isWritable, session.wantsWrite { stream.write(session.takeOutput()) }
  }

  func end() {
    guard let session else { return }
    self.session = nil
    session.close()
    stream.close()
  }

  func callStarted(_ call: ServerCall) {}
  func call(_ call: ServerCall, received message: UnsafeRawBufferPointer) {
    guard let server else { return }
    server.note(call.path)
    server.handler(server, call, Array(message))
    server.loop.execute { [weak server] in
      for connection in server?.connections ?? [] { connection.flush() }
    }
  }
  func callHalfClosed(_ call: ServerCall) {}
  func callCancelled(_ call: ServerCall) { server?.note("cancelled \(call.path)") }
  func callWritable(_ call: ServerCall) {}
  func httpRequest(_ request: ServerCall, method: String) {}
  func httpRequest(_ request: ServerCall, received bytes: UnsafeRawBufferPointer) {}
  func httpRequestEnded(_ request: ServerCall) {}
}

/// Waits until `condition` holds, at most three seconds.
func eventually(_ condition: () -> Bool) async -> Bool {
  for _ in 0..<600 {
    if condition() { return true }
    try? await Task.sleep(for: .milliseconds(5))
  }
  return condition()
}
