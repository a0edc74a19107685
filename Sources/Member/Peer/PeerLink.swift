import Actors
import Base
import HTTP
import RaftActor

/// Everything between this member and one other: two streams each way, POSTs, snapshots, probes.
final class PeerLink {
  private static let probeMilliseconds: UInt64 = 4000
  /// Time for the last messages to a removed member: they tell it so.
  private static let graceMilliseconds: UInt64 = 1000
  private static let snapshotsMax = 4
  private static let refusalLogMilliseconds: UInt64 = 5000

  let id: MemberID
  let hub: PeerHub
  let addresses: PeerAddresses
  private let appendWriter: PeerStreamWriter
  private let messageWriter: PeerStreamWriter
  private let pipeline: PeerPipeline
  private let requests: PeerClientPool
  private var dialers: [PeerDialer] = []
  /// Announced for the next snapshot message.
  private var snapshotFile: String?
  private var snapshotSenders: [SnapshotSender] = []

  private(set) var isActive = false
  private var unreachableReported = false
  private var removedAt: UInt64?
  private var probeDue: UInt64
  private var isProbing = false
  private var unhealthyLogDue: UInt64 = 0
  private var refusalLogDue: UInt64 = 0

  init(member: PeerMember, hub: PeerHub) {
    id = member.id
    self.hub = hub
    addresses = PeerAddresses(member.urls)
    appendWriter = PeerStreamWriter(kind: .msgapp, configuration: hub.configuration)
    messageWriter = PeerStreamWriter(kind: .message, configuration: hub.configuration)
    pipeline = PeerPipeline(hub: hub, id: member.id, addresses: addresses)
    requests = PeerClientPool(hub: hub, addresses: addresses, connectionsMax: 4, queueMax: 256)
    probeDue = hub.now + Self.probeMilliseconds
    dialers = PeerStreamKind.allCases.map { PeerDialer(kind: $0, link: self) }
    pipeline.onOutcome = { [weak self] in self?.didPost($0) }
  }

  var isRemoved: Bool { removedAt != nil }

  // MARK: Sending

  func send(_ message: Message) {
    if message.kind == .snapshot { return sendSnapshot(message) }
    let outcome: PeerStreamWriter.Outcome
    if message.kind == .append, appendWriter.isAttached {
      outcome = appendWriter.send(message)
    } else {
      outcome = messageWriter.send(message)
    }
    switch outcome {
    case .sent: break
    case .dropped: dropped()
    case .detached:
      // Nobody listens there: a POST would meet the same refusal at more expense.
      if !isActive, dialers.allSatisfy(\.cannotConnect) {
        dropped()
      } else {
        pipeline.send(message)
      }
    }
  }

  private func dropped() {
    hub.outlets.metrics.sendFailed(id)
    reportUnreachable()
  }

  private func didPost(_ outcome: PeerPipeline.Outcome) {
    switch outcome {
    case .sent: activate()
    case .dropped: dropped()
    case .failed(let reason):
      dropped()
      deactivate("failed to post on pipeline: \(reason)")
    case .removed: hub.wasRemoved(by: id)
    }
  }

  /// Hands what this turn has encoded to the sockets.
  func flush() {
    if appendWriter.isDirty { hub.countSent(appendWriter.flush(), to: id) }
    if messageWriter.isDirty { hub.countSent(messageWriter.flush(), to: id) }
  }

  func request(_ call: PeerCall) { requests.submit(call) }

  // MARK: Snapshots

  /// Raft has one snapshot at a time on its way to a member, and may think better of it: a file
  /// that is still unclaimed belongs to no message any more.
  func announceSnapshotFile(_ path: String) {
    if let stale = snapshotFile, stale != path { SnapshotSender.discard(stale) }
    snapshotFile = path
  }

  private func sendSnapshot(_ message: Message) {
    guard let path = snapshotFile.take() else { return hub.outlets.snapshotSent(id, false) }
    guard let url = addresses.current, snapshotSenders.count < Self.snapshotsMax else {
      SnapshotSender.discard(path)
      return hub.outlets.snapshotSent(id, false)
    }
    let sender = SnapshotSender(message: message, path: path, url: url, to: id, hub: hub)
    snapshotSenders.append(sender)
    sender.start { [weak self] sender, succeeded in
      guard let self else { return }
      snapshotSenders.removeAll { $0 === sender }
      if succeeded { activate() } else { addresses.failed(sender.url) }
    }
  }

  // MARK: Streams

  private func writer(_ kind: PeerStreamKind) -> PeerStreamWriter {
    kind == .msgapp ? appendWriter : messageWriter
  }

  /// The other member has opened a stream for this one to write.
  func attach(_ connection: StreamConnection, kind: PeerStreamKind) {
    // What the stream that it replaces still held is lost.
    if writer(kind).isAttached { reportUnreachable() }
    writer(kind).attach(connection, now: hub.now)
    hub.log(
      .info, "established TCP streaming connection with remote peer",
      streamFields("stream-writer-type", kind))
    activate()
  }

  /// A connection given to `attach` has ended.
  func detach(_ connection: StreamConnection, kind: PeerStreamKind) {
    guard writer(kind).connection === connection else { return }
    lostWriter(kind, "EOF")
  }

  private func lostWriter(_ kind: PeerStreamKind, _ reason: String) {
    writer(kind).detach()
    hub.log(
      .warn, "lost TCP streaming connection with remote peer",
      streamFields("stream-writer-type", kind) + [("error", reason)])
    // What the socket still held may be lost.
    reportUnreachable()
    deactivate("failed to write on \(kind.name): \(reason)")
  }

  func didOpen(_ dialer: PeerDialer) {
    hub.log(
      .info, "established TCP streaming connection with remote peer",
      streamFields("stream-reader-type", dialer.kind))
    activate()
  }

  func didClose(_ dialer: PeerDialer, _ reason: String) {
    hub.log(
      .warn, "lost TCP streaming connection with remote peer",
      streamFields("stream-reader-type", dialer.kind) + [("error", reason)])
  }

  private func streamFields(_ name: String, _ kind: PeerStreamKind) -> [(String, String)] {
    [
      (name, kind.name), ("local-member-id", hub.configuration.id.hex),
      ("remote-peer-id", id.hex),
    ]
  }

  func didReceive(_ message: Message) {
    heard()
    hub.receive(message, from: id)
  }

  /// The member lives: the next loss is worth a report again.
  func heard() { unreachableReported = false }

  // MARK: Health

  func activate() {
    heard()
    if isActive { return }
    isActive = true
    hub.log(.info, "peer became active", [("peer-id", id.hex)])
    hub.outlets.linkChanged(id, true)
  }

  func deactivate(_ reason: String) {
    guard isActive else { return }
    isActive = false
    hub.log(
      .warn, "peer became inactive (message send to peer failed)",
      [("peer-id", id.hex), ("error", reason)])
    hub.outlets.linkChanged(id, false)
  }

  private func reportUnreachable() {
    if unreachableReported { return }
    unreachableReported = true
    hub.outlets.unreachable(id)
  }

  /// The peer has refused our stream: said at a bounded rate, since it is tried ten times a second.
  func didMeetRefusal(_ text: String) {
    guard hub.now >= refusalLogDue else { return }
    refusalLogDue = hub.now + Self.refusalLogMilliseconds
    let fields = [
      ("remote-peer-id", id.hex), ("local-member-cluster-id", hub.configuration.clusterID.hex),
      ("error", text),
    ]
    switch text {
    case PeerRefusal.incompatibleVersionText:
      hub.log(
        .warn, "request sent was ignored by remote peer due to server version incompatibility",
        fields)
    case PeerRefusal.clusterMismatchText:
      hub.log(
        .warn, "request sent was ignored by remote peer due to cluster ID mismatch", fields)
    default: hub.log(.warn, "request sent was refused by remote peer", fields)
    }
  }

  private func probe(now: UInt64) {
    guard now >= probeDue, !isProbing, !isRemoved else { return }
    probeDue = now + Self.probeMilliseconds
    isProbing = true
    let start = hub.loop.now
    let timeout = UInt64(hub.configuration.streamTimeoutMilliseconds)
    request(
      PeerCall(
        method: "GET", target: "/raft/probing", headers: [], body: [],
        timeoutMilliseconds: timeout
      ) { [weak self] in
        self?.didProbe($0, start)
      })
  }

  private func didProbe(_ result: Result<PeerResponse, PeerError>, _ start: UInt64) {
    isProbing = false
    let failure: String
    switch result {
    case .success(let response) where response.status == 200:
      return hub.outlets.metrics.roundTrip(id, Double(hub.loop.now - start) / 1e9)
    case .success(let response): failure = "unexpected status \(response.status)"
    case .failure(.stopped): return
    case .failure(let error): failure = error.description
    }
    guard hub.now >= unhealthyLogDue else { return }
    unhealthyLogDue = hub.now + Self.refusalLogMilliseconds
    hub.log(
      .warn, "prober detected unhealthy status",
      [
        ("round-tripper-name", "ROUND_TRIPPER_RAFT_MESSAGE"), ("remote-peer-id", id.hex),
        ("rtt", "0s"), ("error", failure),
      ])
  }

  // MARK: Life

  func update(_ urls: [String]) { addresses.update(urls) }

  func remove(now: UInt64) {
    if removedAt == nil { removedAt = now }
  }

  func tick(now: UInt64) {
    for dialer in dialers { dialer.tick(now: now) }
    for kind in PeerStreamKind.allCases where !writer(kind).tick(now: now) {
      lostWriter(kind, "i/o timeout")
    }
    pipeline.tick(now: now)
    requests.tick(now: now)
    for sender in snapshotSenders { sender.tick(now: now) }
    probe(now: now)
  }

  func isGraceOver(now: UInt64) -> Bool {
    removedAt.map { now >= $0 + Self.graceMilliseconds } ?? false
  }

  /// Closes everything; the link is of no use afterwards.
  func stop() {
    for dialer in dialers { dialer.stop() }
    dialers = []
    appendWriter.detach()
    messageWriter.detach()
    pipeline.stop()
    requests.stop()
    for sender in snapshotSenders { sender.abort() }
    snapshotSenders = []
    if let path = snapshotFile.take() { SnapshotSender.discard(path) }
    if isActive {
      isActive = false
      hub.outlets.linkChanged(id, false)
    }
  }
}
