import Actors
import Base
import HTTP
import RaftActor
import TLS

/// What reaches the transport from other threads and actors.
enum PeerInput: Sendable {
  case command(PeerCommand)
  case respond(id: UInt64, status: Int, headers: [HTTPField], body: Bytes)
  case snapshotFile(token: UInt64, SnapshotFile.Event)
  /// nil if the file could not be read.
  case checksum(token: UInt64, UInt32?)
}

/// The state of a ``PeerTransport``: its links, connections and what waits for the end of the turn.
///
/// Lives in the actor and is called by it, by the streams' callbacks and by the loop: one thread.
final class PeerHub {
  private static let tickMilliseconds = 100
  /// Senders that are not members, kept so that answers can reach them.
  private static let remotesMax = 32
  private static let snapshotReceiversMax = 4
  private static let requestsPendingMax = 4096
  private static let refusalLogMilliseconds: UInt64 = 5000

  private struct Remote {
    let id: MemberID
    var urls: [String]
    let addresses: PeerAddresses
    let pipeline: PeerPipeline
  }

  let configuration: PeerConfiguration
  let outlets: PeerOutlets
  let loop: EventLoop
  /// Back onto the loop from another thread.
  let post: @Sendable (PeerInput) -> Void
  /// Headers of every Raft request, and of every answer to one.
  let raftHeaders: [HTTPField]
  let answerHeaders: [HTTPField]
  private let router: PeerRouter
  private let scratch = TLSScratch()

  private var listeners: [Listener] = []
  private var timer: LoopTimer?
  /// Ascending by id.
  private var links: [PeerLink] = []
  private var remotes: [Remote] = []
  private var removed: Set<MemberID> = []
  private var connections: [UInt64: PeerListenerConnection] = [:]
  private var lastConnection: UInt64 = 0
  private var pendingRequests: [UInt64: (connection: UInt64, slot: UInt64)] = [:]
  private var lastRequest: UInt64 = 0
  private var calls: [PeerClientConnection] = []
  private var snapshotReceivers: [UInt64: SnapshotReceiver] = [:]
  private var lastSnapshotReceiver: UInt64 = 0
  private var fileExecutor: ThreadExecutor?
  private var checksums: [UInt64: (UInt32?) -> Void] = [:]
  private var lastChecksum: UInt64 = 0
  private var received: [Message] = []
  private var wasRemovedReported = false
  private var refusalLogDue: UInt64 = 0
  private var isStopped = false

  init(
    configuration: PeerConfiguration, outlets: PeerOutlets, loop: EventLoop,
    post: @escaping @Sendable (PeerInput) -> Void
  ) {
    guard let version = PeerVersion(configuration.serverVersion) else {
      preconditionFailure("the server version has to be X.Y.Z")
    }
    self.configuration = configuration
    self.outlets = outlets
    self.loop = loop
    self.post = post
    router = PeerRouter(
      id: configuration.id, clusterID: configuration.clusterID, version: version)
    answerHeaders = [HTTPField("X-Etcd-Cluster-ID", configuration.clusterID.hex)]
    raftHeaders = [
      HTTPField("X-Server-From", configuration.id.hex),
      HTTPField("X-Server-Version", configuration.serverVersion),
      HTTPField("X-Min-Cluster-Version", "3.0.0"),
      HTTPField("X-Etcd-Cluster-ID", configuration.clusterID.hex),
      HTTPField("X-PeerURLs", configuration.advertisedURLs.joined(separator: ",")),
    ]
  }

  /// Milliseconds of the monotonic clock.
  var now: UInt64 { loop.now / 1_000_000 }

  /// What a connection to `url` goes through; nil for a plain one.
  func security(for url: PeerURL) -> TLSDialer? {
    guard url.isSecure else { return nil }
    return TLSDialer(source: configuration.dialing, serverName: url.host, scratch: scratch)
  }

  func log(_ level: PeerLogLevel, _ text: String, _ fields: [(String, String)]) {
    outlets.log(level, text, fields)
  }

  // MARK: Life

  /// Opens the listeners and starts the clock.
  /// - Returns: the ports in use, in the order of the listen addresses.
  func open() throws(ListenError) -> [UInt16] {
    let addresses =
      configuration.secureListeners?() ?? configuration.listen.map { SecuredAddress(address: $0) }
    for address in addresses {
      do throws(ListenError) {
        listeners.append(
          try Listener.listen(
            on: address.address, loop: loop, security: address.security
          ) { [weak self] connection in
            guard let self else { return connection.close() }
            accept(connection)
          })
      } catch {
        for listener in listeners { listener.close() }
        listeners = []
        throw error
      }
    }
    loop.onTurnEnd { [weak self] in self?.endTurn() }
    let timer = LoopTimer(loop: loop) { [weak self] in self?.tick() }
    timer.schedule(
      afterMilliseconds: Self.tickMilliseconds, everyMilliseconds: Self.tickMilliseconds)
    self.timer = timer
    return listeners.map(\.boundPort)
  }

  func stop() {
    guard !isStopped else { return }
    endTurn()
    isStopped = true
    timer?.cancel()
    for listener in listeners { listener.close() }
    for link in links { link.stop() }
    links = []
    for remote in remotes { remote.pipeline.stop() }
    remotes = []
    for call in calls { call.abort(.stopped) }
    calls = []
    for connection in connections.values { connection.close() }
    for receiver in snapshotReceivers.values { receiver.abort() }
    // It has at most a few queued megabytes to finish.
    fileExecutor?.stop()
    fileExecutor = nil
    checksums = [:]
  }

  private func tick() {
    let now = now
    for link in links { link.tick(now: now) }
    for remote in remotes { remote.pipeline.tick(now: now) }
    for call in calls { call.tick(now: now) }
    for connection in connections.values { connection.tick(now: now) }
    if links.contains(where: { $0.isGraceOver(now: now) }) {
      for link in links where link.isGraceOver(now: now) {
        link.stop()
        log(
          .info, "removed remote peer",
          [("local-member-id", configuration.id.hex), ("removed-remote-peer-id", link.id.hex)])
      }
      links.removeAll { $0.isGraceOver(now: now) }
    }
  }

  /// Hands on what the turn has brought, and sends what it has produced.
  private func endTurn() {
    if !received.isEmpty {
      let batch = received
      received = []
      outlets.received(batch)
    }
    for link in links { link.flush() }
  }

  // MARK: Commands

  func handle(_ input: PeerInput) {
    guard !isStopped else { return handleStopped(input) }
    switch input {
    case .command(let command): handle(command)
    case .respond(let id, let status, let headers, let body):
      guard let place = pendingRequests.removeValue(forKey: id) else { return }
      connections[place.connection]?.answer(
        place.slot, status: status, headers: headers, body: body)
    case .snapshotFile(let token, let event): snapshotReceivers[token]?.handle(event)
    case .checksum(let token, let checksum): checksums.removeValue(forKey: token)?(checksum)
    }
  }

  private func handleStopped(_ input: PeerInput) {
    guard case .command(let command) = input else { return }
    switch command {
    case .snapshotFile(_, let path): SnapshotSender.discard(path)
    case .post(let id, _, _, _, _, _), .get(let id, _, _, _, _):
      outlets.response(id, .failure(.stopped))
    case .send, .members, .stop: break
    }
  }

  private func handle(_ command: PeerCommand) {
    switch command {
    case .send(let messages): for message in messages { send(message) }
    case .snapshotFile(let member, let path):
      if let link = link(member) {
        link.announceSnapshotFile(path)
      } else {
        SnapshotSender.discard(path)
      }
    case .members(let members, let removed): setMembers(members, removed)
    case .post(let id, let member, let path, let body, let contentType, let headers):
      postRequest(id, member, path, body, contentType, headers)
    case .get(let id, let url, let path, let body, let headers):
      getRequest(id, url, path, body, headers)
    case .stop: stop()
    }
  }

  private func send(_ message: Message) {
    if let link = link(message.to) {
      link.send(message)
    } else if message.kind == .snapshot {
      outlets.snapshotSent(message.to, false)
    } else if let remote = remotes.first(where: { $0.id == message.to }) {
      remote.pipeline.send(message)
    } else if message.to != configuration.id, !isRemoved(message.to) {
      log(
        .debug, "ignored message send request; unknown remote peer target",
        [("type", "\(message.kind)"), ("unknown-target-peer-id", message.to.hex)])
    }
  }

  private func postRequest(
    _ id: UInt64, _ member: MemberID, _ path: String, _ body: Bytes, _ contentType: String,
    _ headers: [HTTPField]
  ) {
    let outlets = outlets
    guard let link = link(member) else {
      return outlets.response(id, .failure(.unknownMember(member)))
    }
    link.request(
      PeerCall(
        method: "POST", target: path,
        headers: answerHeaders + [HTTPField("Content-Type", contentType)] + headers, body: body,
        timeoutMilliseconds: UInt64(configuration.requestTimeoutMilliseconds)
      ) { outlets.response(id, $0) })
  }

  private func getRequest(
    _ id: UInt64, _ url: String, _ path: String, _ body: Bytes, _ headers: [HTTPField]
  ) {
    let outlets = outlets
    guard let target = PeerURL(url) else {
      return outlets.response(id, .failure(.badURL(url)))
    }
    guard calls.count < Self.requestsPendingMax else {
      return outlets.response(id, .failure(.overloaded))
    }
    let connection = PeerClientConnection(url: target, hub: self) { [weak self] connection in
      // One request each: the URL may never be asked again.
      connection.abort(.stopped)
      self?.calls.removeAll { $0 === connection }
    }
    calls.append(connection)
    connection.open(
      with: PeerCall(
        method: "GET", target: path, headers: answerHeaders + headers, body: body,
        timeoutMilliseconds: UInt64(configuration.requestTimeoutMilliseconds)
      ) { outlets.response(id, $0) })
  }

  // MARK: Membership

  private func setMembers(_ members: [PeerMember], _ removedIDs: [MemberID]) {
    let now = now
    let others = members.filter { $0.id != configuration.id }
    removed.formUnion(removedIDs)
    for member in others { removed.remove(member.id) }
    for link in links where !others.contains(where: { $0.id == link.id }) {
      link.remove(now: now)
    }
    for member in others {
      dropRemotes { $0.id == member.id }
      if let link = links.first(where: { $0.id == member.id && !$0.isRemoved }) {
        link.update(member.urls)
      } else {
        add(member, now: now)
      }
    }
    dropRemotes { removed.contains($0.id) }
  }

  private func add(_ member: PeerMember, now: UInt64) {
    for link in links where link.id == member.id { link.stop() }
    links.removeAll { $0.id == member.id }
    let link = PeerLink(member: member, hub: self)
    let place = links.firstIndex { $0.id > member.id } ?? links.endIndex
    links.insert(link, at: place)
    log(
      .info, "added remote peer",
      [
        ("local-member-id", configuration.id.hex), ("remote-peer-id", member.id.hex),
        ("remote-peer-urls", member.urls.joined(separator: ",")),
      ])
    link.tick(now: now)
  }

  func link(_ id: MemberID) -> PeerLink? { links.first { $0.id == id } }

  func isRemoved(_ id: MemberID) -> Bool { removed.contains(id) }

  private func remember(_ sender: PeerSender) {
    guard sender.id != configuration.id, link(sender.id) == nil, !isRemoved(sender.id) else {
      return
    }
    if let known = remotes.firstIndex(where: { $0.id == sender.id }) {
      if remotes[known].urls != sender.urls {
        remotes[known].urls = sender.urls
        remotes[known].addresses.update(sender.urls)
      }
      return
    }
    if remotes.count >= Self.remotesMax { remotes.removeFirst().pipeline.stop() }
    let addresses = PeerAddresses(sender.urls)
    guard addresses.current != nil else { return }
    let pipeline = PeerPipeline(hub: self, id: sender.id, addresses: addresses)
    remotes.append(
      Remote(id: sender.id, urls: sender.urls, addresses: addresses, pipeline: pipeline))
  }

  private func dropRemotes(where isStale: (Remote) -> Bool) {
    for remote in remotes where isStale(remote) { remote.pipeline.stop() }
    remotes.removeAll(where: isStale)
  }

  /// A peer has answered that this member is out of the cluster.
  func wasRemoved(by peer: MemberID) {
    guard !wasRemovedReported else { return }
    wasRemovedReported = true
    log(
      .error, "the member has been permanently removed from the cluster",
      [("local-member-id", configuration.id.hex), ("remote-peer-id", peer.hex)])
    outlets.removedFromCluster()
  }

  // MARK: Receiving

  func receive(_ message: Message, from peer: MemberID) {
    guard message.to == configuration.id else {
      return outlets.metrics.receiveFailed(peer)
    }
    received.append(message)
  }

  func countReceived(_ count: Int, from peer: MemberID) {
    outlets.metrics.receivedBytes(peer, count)
  }

  func countSent(_ count: Int, to peer: MemberID) {
    if count > 0 { outlets.metrics.sentBytes(peer, count) }
  }

  // MARK: Accepted connections

  private func accept(_ connection: StreamConnection) {
    guard !isStopped, connections.count < configuration.connectionsMax else {
      return connection.close()
    }
    lastConnection += 1
    let accepted = PeerListenerConnection(id: lastConnection, connection: connection, hub: self)
    connections[lastConnection] = accepted
    accepted.start()
  }

  func didClose(_ connection: PeerListenerConnection) {
    connections.removeValue(forKey: connection.id)
    if pendingRequests.values.contains(where: { $0.connection == connection.id }) {
      pendingRequests = pendingRequests.filter { $0.value.connection != connection.id }
    }
  }

  /// The route of a request; its sender is remembered.
  func decide(_ head: HTTP1RequestHead) -> PeerDecision {
    let decision = router.decide(head) { id in
      if isRemoved(id) { return .removed }
      return link(id) == nil ? .unknown : .member
    }
    if let sender = decision.remember { remember(sender) }
    if case .refuse(let refusal) = decision.route { logRefusal(refusal, head) }
    return decision
  }

  /// At a bounded rate: whoever is refused asks again ten times a second.
  private func logRefusal(_ refusal: PeerRefusal, _ head: HTTP1RequestHead) {
    guard now >= refusalLogDue else { return }
    refusalLogDue = now + Self.refusalLogMilliseconds
    log(
      .warn, "refused request of remote peer",
      [
        ("local-member-id", configuration.id.hex),
        ("remote-peer-id", head.headers.first("X-Server-From") ?? ""), ("path", head.path),
        ("status", "\(refusal.status)"), ("error", refusal.text),
      ])
  }

  /// Hands a request to the rest of the member; false if too many wait there.
  func forward(
    from connection: PeerListenerConnection, slot: UInt64, _ make: (UInt64) -> PeerRequest
  ) -> Bool {
    guard pendingRequests.count < Self.requestsPendingMax else { return false }
    lastRequest += 1
    pendingRequests[lastRequest] = (connection.id, slot)
    outlets.request(make(lastRequest))
    return true
  }

  // MARK: Received snapshots

  /// nil if too many are under way, or there can be no thread for their files.
  /// - Parameter checksum: what the sender says of the file.
  func makeSnapshotReceiver(
    checksum: UInt32?, onSlow: @escaping (Bool) -> Void,
    onEnd: @escaping (SnapshotReceiver.Verdict) -> Void
  ) -> SnapshotReceiver? {
    guard snapshotReceivers.count < Self.snapshotReceiversMax else { return nil }
    guard let fileExecutor = snapshotThread() else { return nil }
    lastSnapshotReceiver += 1
    let receiver = SnapshotReceiver(
      token: lastSnapshotReceiver, checksum: checksum, hub: self, executor: fileExecutor,
      onSlow: onSlow, onEnd: onEnd)
    snapshotReceivers[lastSnapshotReceiver] = receiver
    return receiver
  }

  private func snapshotThread() -> ThreadExecutor? {
    if fileExecutor == nil { fileExecutor = try? ThreadExecutor(name: "snapshot") }
    return fileExecutor
  }

  /// Reads a file that is about to be sent, on the thread of such files. Not called back after `stop`.
  func checksum(of path: String, _ body: @escaping (UInt32?) -> Void) {
    lastChecksum += 1
    let token = lastChecksum
    checksums[token] = body
    let post = post
    guard let thread = snapshotThread() else { return post(.checksum(token: token, nil)) }
    thread.execute { post(.checksum(token: token, SnapshotFile.checksum(path))) }
  }

  func didReceiveSnapshot(_ message: Message, _ path: String) {
    // What came before it is delivered before it.
    endTurn()
    outlets.snapshotReceived(message, path)
  }

  func endSnapshotReceiver(_ token: UInt64) {
    snapshotReceivers.removeValue(forKey: token)
  }
}
