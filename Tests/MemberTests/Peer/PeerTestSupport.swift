import Actors
import Base
import Glibc
import HTTP
import RaftActor
import Synchronization
import Testing

@testable import Member

/// A transport, its loop (if it has one of its own) and everything it has said.
final class TestPeer: Sendable {
  struct News {
    var received: [Message] = []
    var unreachable: [MemberID] = []
    var snapshotsSent: [Bool] = []
    var snapshots: [(message: Message, path: String)] = []
    var requests: [PeerRequest] = []
    var responses: [UInt64: Result<PeerResponse, PeerError>] = [:]
    var active: [MemberID: Bool] = [:]
    var removed = 0
    var log: [(text: String, fields: [(String, String)])] = []
    var roundTrips = 0
    var sentBytes = 0
    var receivedBytes = 0

    func logged(_ text: String, _ field: String? = nil) -> Int {
      log.count { entry in
        entry.text == text && (field == nil || entry.fields.contains { $0.0 == field })
      }
    }

    /// Streams that have been opened to this member so far.
    var writersAttached: Int {
      logged("established TCP streaming connection with remote peer", "stream-writer-type")
    }
  }

  static let clusterID: ClusterID = 0xc1

  let id: MemberID
  let port: UInt16
  let directory: String
  let transport: PeerTransport
  private let shared: Shared
  private let ownLoop: EventLoop?

  private final class Shared: Sendable {
    let news = Mutex(News())
  }

  /// - Parameter loop: a loop that has not been started; nil makes and starts one.
  init(
    _ id: MemberID, port: UInt16 = freePort(), clusterID: ClusterID = TestPeer.clusterID,
    loop: EventLoop? = nil, adjust: (inout PeerConfiguration) -> Void = { _ in }
  ) throws {
    self.id = id
    self.port = port
    directory = try makeDirectory()
    let shared = Shared()
    self.shared = shared
    var configuration = PeerConfiguration(
      id: id, clusterID: clusterID, advertisedURLs: ["http://127.0.0.1:\(port)"],
      listen: [.tcp(host: "127.0.0.1", port: port)], snapshotDirectory: directory)
    adjust(&configuration)
    ownLoop = loop == nil ? try EventLoop() : nil
    guard let chosen = loop ?? ownLoop else { throw SetupError() }
    transport = PeerTransport(
      configuration: configuration, outlets: Self.outlets(shared), loop: chosen)
    #expect(try transport.start() == [port])
    try ownLoop?.start(name: "peer \(id.hex)")
  }

  private static func outlets(_ shared: Shared) -> PeerOutlets {
    var metrics = PeerMetrics()
    metrics.roundTrip = { _, _ in shared.news.withLock { $0.roundTrips += 1 } }
    metrics.sentBytes = { _, count in shared.news.withLock { $0.sentBytes += count } }
    metrics.receivedBytes = { _, count in shared.news.withLock { $0.receivedBytes += count } }
    return PeerOutlets(
      received: { batch in shared.news.withLock { $0.received += batch } },
      unreachable: { id in shared.news.withLock { $0.unreachable.append(id) } },
      snapshotSent: { _, done in shared.news.withLock { $0.snapshotsSent.append(done) } },
      snapshotReceived: { message, path in
        shared.news.withLock { $0.snapshots.append((message, path)) }
      },
      request: { request in shared.news.withLock { $0.requests.append(request) } },
      response: { id, result in shared.news.withLock { $0.responses[id] = result } },
      linkChanged: { id, active in shared.news.withLock { $0.active[id] = active } },
      removedFromCluster: { shared.news.withLock { $0.removed += 1 } },
      log: { _, text, fields in shared.news.withLock { $0.log.append((text, fields)) } },
      metrics: metrics)
  }

  var member: PeerMember { PeerMember(id: id, urls: ["http://127.0.0.1:\(port)"]) }

  var news: News { shared.news.withLock { $0 } }

  func submit(_ command: PeerCommand) { #expect(transport.submit(command)) }

  func join(_ peers: [TestPeer], removed: [MemberID] = []) {
    submit(.members(peers.map(\.member), removed: removed))
  }

  /// Waits until the condition holds; records an issue after `seconds`.
  @discardableResult
  func wait(
    _ what: String, seconds: Double = 5, sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: (News) -> Bool
  ) -> Bool {
    let deadline = monotonicNanoseconds() + UInt64(seconds * 1e9)
    while monotonicNanoseconds() < deadline {
      if condition(news) { return true }
      usleep(2000)
    }
    Issue.record("member \(id.hex) waited in vain: \(what)", sourceLocation: sourceLocation)
    return false
  }

  func stop() {
    transport.submit(.stop)
    ownLoop?.stopAndJoin()
    removeDirectory(directory)
  }
}

struct SetupError: Error {}

/// Runs `body` with peers that know each other and whose streams are all attached.
func withPeers(
  _ count: Int, sharedLoop: Bool = false, adjust: (inout PeerConfiguration) -> Void = { _ in },
  _ body: ([TestPeer]) throws -> Void
) throws {
  let loop = sharedLoop ? try EventLoop() : nil
  let peers = try (1...count).map { try TestPeer(MemberID($0), loop: loop, adjust: adjust) }
  try loop?.start(name: "peers")
  defer {
    for peer in peers { peer.stop() }
    loop?.stopAndJoin()
  }
  for peer in peers { peer.join(peers) }
  for peer in peers {
    peer.wait("streams") { $0.writersAttached >= 2 * (count - 1) }
  }
  try body(peers)
}

/// A TCP port that was free a moment ago.
func freePort() -> UInt16 {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
  defer { close(descriptor) }
  var address = loopback(0)
  var length = socklen_t(MemoryLayout<sockaddr_in>.size)
  withUnsafeMutablePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      _ = bind(descriptor, $0, length)
      getsockname(descriptor, $0, &length)
    }
  }
  return UInt16(bigEndian: address.sin_port)
}

private func loopback(_ port: UInt16) -> sockaddr_in {
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = port.bigEndian
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  return address
}

func makeDirectory() throws -> String {
  var template = Array("/tmp/apus-peer-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else { throw SetupError() }
  return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Names in a directory, sorted.
func files(in directory: String) -> [String] {
  guard let folder = opendir(directory) else { return [] }
  defer { closedir(folder) }
  var names: [String] = []
  while let entry = readdir(folder) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
      String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    if name != "." && name != ".." { names.append(name) }
  }
  return names.sorted()
}

func removeDirectory(_ directory: String) {
  for name in files(in: directory) { unlink("\(directory)/\(name)") }
  rmdir(directory)
}

/// A blocking TCP client.
final class RawClient {
  private let descriptor: Int32

  init(_ port: UInt16) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = loopback(port)
    var limit = timeval(tv_sec: 3, tv_usec: 0)
    setsockopt(
      descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    if status != 0 { throw SetupError() }
  }

  deinit { close(descriptor) }

  func send(_ text: String) { send(Bytes(text.utf8)) }

  func send(_ bytes: Bytes) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count <= 0 { return }
      rest = rest.dropFirst(count)
    }
  }

  /// What has arrived, at most `limit` bytes; empty at the end; nil after three silent seconds.
  func receive(_ limit: Int = 65536) -> Bytes? {
    var buffer = Bytes(repeating: 0, count: limit)
    let count = read(descriptor, &buffer, limit)
    if count < 0 { return errno == EAGAIN ? nil : [] }
    return Bytes(buffer[..<count])
  }

  /// Reads until the text contains `marker`, or nothing more comes.
  func receive(until marker: String) -> String {
    var bytes: Bytes = []
    while true {
      let text = String(decoding: bytes, as: UTF8.self)
      if text.contains(marker) { return text }
      guard let more = receive(), !more.isEmpty else { return text }
      bytes += more
    }
  }

  /// True if the other side has closed, after any bytes.
  func isAtEnd() -> Bool {
    while let bytes = receive() {
      if bytes.isEmpty { return true }
    }
    return false
  }
}
