import Base
import HTTP
import RaftActor

/// Single messages by `POST /raft`: for members whose streams are down, and for senders that are
/// not members yet.
final class PeerPipeline {
  enum Outcome {
    case sent
    /// Refused here: the queue is full, or the last attempt to connect has just failed.
    case dropped
    case failed(String)
    /// The other side says that this member was removed.
    case removed
  }

  private static let connectionsMax = 4
  private static let queueMax = 64
  private static let backoffMilliseconds: UInt64 = 200

  private let hub: PeerHub
  private let id: MemberID
  private let pool: PeerClientPool
  private var blockedUntil: UInt64 = 0
  var onOutcome: (Outcome) -> Void = { _ in }

  init(hub: PeerHub, id: MemberID, addresses: PeerAddresses) {
    self.hub = hub
    self.id = id
    pool = PeerClientPool(
      hub: hub, addresses: addresses, connectionsMax: Self.connectionsMax, queueMax: Self.queueMax)
  }

  func send(_ message: Message) {
    guard hub.now >= blockedUntil else { return onOutcome(.dropped) }
    let body = message.encoded()
    let count = body.count
    pool.submit(
      PeerCall(
        method: "POST", target: "/raft",
        headers: hub.raftHeaders + [HTTPField("Content-Type", "application/protobuf")],
        body: body, timeoutMilliseconds: UInt64(hub.configuration.streamTimeoutMilliseconds)
      ) { [weak self] in
        self?.didSend($0, count)
      })
  }

  private func didSend(_ result: Result<PeerResponse, PeerError>, _ count: Int) {
    switch result {
    case .success(let response) where response.status == 204:
      hub.countSent(count, to: id)
      onOutcome(.sent)
    case .success(let response) where response.status == 403: onOutcome(.removed)
    case .success(let response):
      let text = String(decoding: response.body.prefix(200), as: UTF8.self)
      onOutcome(.failed("\(response.status) \(text.split(separator: "\n").first ?? "")"))
    case .failure(.stopped): break
    case .failure(.overloaded): onOutcome(.dropped)
    case .failure(let error):
      blockedUntil = hub.now + Self.backoffMilliseconds
      onOutcome(.failed(error.description))
    }
  }

  func tick(now: UInt64) { pool.tick(now: now) }

  func stop() { pool.stop() }
}
