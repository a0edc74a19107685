// Where a load goes, and what its connections show of themselves.

import Actors
import EtcdAPI
import EtcdClient
import TLS

/// The servers of a load.
struct LoadTarget: Sendable {
  var endpoints: [Endpoint]
  /// Nil for plain connections.
  var tls: TLSContextSource?
  /// Goes with every call; nil if nobody has logged in.
  var token: String?

  /// The servers for connections of one loop.
  func servers() -> [LoadServer] {
    let scratch = TLSScratch()
    return endpoints.map { endpoint in
      let dialer = tls.map {
        TLSDialer(source: $0, serverName: endpoint.serverName, scratch: scratch)
      }
      return LoadServer(endpoint: endpoint, security: dialer, token: token)
    }
  }
}

/// What stands on the command line about servers, before any of them was asked.
struct LoadAccess {
  var endpoints: [Endpoint]
  var tls: TLSContextSource?
  var user: (name: String, password: String)?

  /// Logs in, and looks for the leader if the load is for it alone.
  func open(leaderOnly: Bool) async throws -> LoadTarget {
    var target = LoadTarget(endpoints: endpoints, tls: tls)
    guard leaderOnly || user != nil else { return target }
    var options = EtcdClientOptions()
    options.tls = tls
    if let user { options.identity = .password(user: user.name, password: user.password) }
    let client = try EtcdClient(endpoints: endpoints, options: options)
    defer { client.close() }
    target.token = try await token(client)
    if leaderOnly { target.endpoints = [try await leader(client)] }
    return target
  }

  /// Nil also if the servers do not ask for users.
  private func token(_ client: EtcdClient) async throws -> String? {
    guard let user else { return nil }
    do {
      return try await client.authenticate(user: user.name, password: user.password).token
    } catch let error where error.matches(.authNotEnabled) {
      return nil
    }
  }

  private func leader(_ client: EtcdClient) async throws -> Endpoint {
    for endpoint in endpoints {
      let status = try await client.status(endpoint: endpoint)
      if status.leader != 0, status.leader == status.header.memberID { return endpoint }
    }
    let names = endpoints.map(\.description).joined(separator: ",")
    throw LoadError(description: "none of \(names) leads")
  }
}
