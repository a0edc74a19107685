import Base

/// A bounded set of connections to one member, and a bounded queue in front of them.
final class PeerClientPool {
  private let hub: PeerHub
  private let addresses: PeerAddresses
  private let connectionsMax: Int
  private let queueMax: Int
  private var connections: [PeerClientConnection] = []
  private var queue: [PeerCall] = []
  private var isStopped = false

  init(hub: PeerHub, addresses: PeerAddresses, connectionsMax: Int, queueMax: Int) {
    self.hub = hub
    self.addresses = addresses
    self.connectionsMax = connectionsMax
    self.queueMax = queueMax
  }

  /// Starts a call or queues it; a refused one is completed at once.
  func submit(_ call: PeerCall) {
    guard !isStopped else { return call.completion(.failure(.stopped)) }
    guard queue.count < queueMax else { return call.completion(.failure(.overloaded)) }
    queue.append(call)
    startNext()
  }

  private func startNext() {
    while !queue.isEmpty, !isStopped {
      if let idle = connections.first(where: { $0.isIdle && $0.url == addresses.current }) {
        idle.perform(queue.removeFirst())
      } else if let url = addresses.current, makeRoom() {
        let connection = PeerClientConnection(url: url, hub: hub) { [weak self] in
          self?.didChange($0)
        }
        connections.append(connection)
        connection.open(with: queue.removeFirst())
      } else if addresses.current == nil {
        queue.removeFirst().completion(.failure(.badURL("")))
      } else {
        return
      }
    }
  }

  /// Connections to a URL that is out of use give way.
  private func makeRoom() -> Bool {
    if connections.count < connectionsMax { return true }
    guard let stale = connections.first(where: { $0.isIdle }) else { return false }
    connections.removeAll { $0 === stale }
    stale.abort(.stopped)
    return true
  }

  private func didChange(_ connection: PeerClientConnection) {
    if connection.isClosed {
      connections.removeAll { $0 === connection }
      if connection.didNotConnect { addresses.failed(connection.url) }
    }
    startNext()
  }

  func tick(now: UInt64) {
    for connection in connections { connection.tick(now: now) }
  }

  /// Fails everything and closes all connections.
  func stop() {
    isStopped = true
    let waiting = queue
    queue = []
    for call in waiting { call.completion(.failure(.stopped)) }
    for connection in connections { connection.abort(.stopped) }
    connections = []
  }
}
