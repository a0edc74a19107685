// All the ways to the cluster: which connection the next attempt of a call uses.

import Actors
import TLS

/// A request for a connection that is to carry one attempt of a call.
final class Pick {
  let channel: Channel?
  fileprivate var body: ((Transport) -> Void)?

  fileprivate init(channel: Channel?, body: @escaping (Transport) -> Void) {
    self.channel = channel
    self.body = body
  }

  /// The body is not called any more.
  func cancel() { body = nil }
}

/// Something under way on the loop that ends when the client closes.
protocol ClientOperation: AnyObject {
  func cancel(_ error: EtcdClientError)
}

/// Round robin over the endpoints' channels. Loop thread only, checked; hence the unchecked
/// conformance.
final class ChannelPool: @unchecked Sendable {
  let loop: EventLoop
  let options: EtcdClientOptions
  /// How many endpoints the round robin goes over.
  let endpointCount: Int
  let tokens: TokenSource
  private var balanced: [Channel] = []
  /// Channels to members that were named by a call and are none of the client's endpoints.
  private var named: [Endpoint: Channel] = [:]
  private var next = 0
  private var waiting: [Pick] = []
  private var operations: [UInt64: any ClientOperation] = [:]
  private var lastOperation: UInt64 = 0
  private var isClosed = false

  init(endpoints: [Endpoint], options: EtcdClientOptions, loop: EventLoop) {
    self.options = options
    self.loop = loop
    endpointCount = endpoints.count
    tokens = TokenSource(options.identity)
    // As in etcd's client the first endpoint decides for all.
    let isSecure = endpoints.first.map(usesTLS) ?? false
    balanced = endpoints.map { makeChannel($0, isSecure: isSecure) }
  }

  private func usesTLS(_ endpoint: Endpoint) -> Bool { endpoint.isSecure ?? (options.tls != nil) }

  private func makeChannel(_ endpoint: Endpoint, isSecure: Bool) -> Channel {
    Channel(
      endpoint: endpoint, options: options, loop: loop, security: isSecure ? security : nil
    ) { [weak self] in self?.serve() }
  }

  private var security: TLSContextSource {
    options.tls ?? TLSContextSource(.client, EtcdClientOptions.tlsDefaults)
  }

  /// Calls `body` with a connection, at once or when there is one.
  func pick(_ endpoint: Endpoint?, _ body: @escaping (Transport) -> Void) -> Pick {
    loop.preconditionOnLoop()
    let pick = Pick(channel: endpoint.map(channel), body: body)
    waiting.append(pick)
    serve()
    return pick
  }

  /// Why a call waits, for an error text: the first failed channel's reason.
  func connectionError(_ endpoint: Endpoint?) -> String? {
    let channels = endpoint.map { [channel($0)] } ?? balanced
    return channels.lazy.compactMap(\.lastError).first
  }

  private func channel(_ endpoint: Endpoint) -> Channel {
    if let known = balanced.first(where: { $0.endpoint == endpoint }) { return known }
    if let known = named[endpoint] { return known }
    let channel = makeChannel(endpoint, isSecure: usesTLS(endpoint))
    named[endpoint] = channel
    return channel
  }

  private func serve() {
    guard !isClosed, !waiting.isEmpty else { return }
    // Bodies start calls, whose ends may pick again: those join a list of their own.
    var picks: [Pick] = []
    swap(&picks, &waiting)
    var left: [Pick] = []
    for pick in picks {
      guard let body = pick.body else { continue }
      if let transport = transport(for: pick) {
        pick.body = nil
        body(transport)
      } else {
        left.append(pick)
      }
    }
    waiting = left + waiting
    for pick in waiting where pick.body != nil {
      if let channel = pick.channel {
        channel.connectIfIdle()
      } else {
        for channel in balanced { channel.connectIfIdle() }
      }
    }
  }

  private func transport(for pick: Pick) -> Transport? {
    if let channel = pick.channel { return channel.readyTransport }
    for offset in 0..<balanced.count {
      let index = (next + offset) % balanced.count
      if let transport = balanced[index].readyTransport {
        next = (index + 1) % balanced.count
        return transport
      }
    }
    return nil
  }

  // MARK: Operations

  /// Keeps `operation` alive until ``remove(_:)`` and ends it when the client closes.
  func add(_ operation: any ClientOperation) -> UInt64 {
    loop.preconditionOnLoop()
    lastOperation += 1
    operations[lastOperation] = operation
    return lastOperation
  }

  func remove(_ id: UInt64) { operations[id] = nil }

  /// Ends every operation and connection. Idempotent.
  func close() {
    loop.preconditionOnLoop()
    isClosed = true
    for (_, operation) in operations.sorted(by: { $0.key < $1.key }) {
      operation.cancel(.closed)
    }
    operations = [:]
    waiting = []
    for channel in balanced { channel.close() }
    for (_, channel) in named.sorted(by: { $0.key.description < $1.key.description }) {
      channel.close()
    }
  }
}
