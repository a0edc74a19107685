// move-leader

import EtcdAPI
import EtcdClient

enum MoveLeaderCommand {
  static let spec = CommandSpec(
    "move-leader", "<transferee-member-id>",
    "Transfers leadership to another etcd cluster member.", group: .cluster, action: run)

  @Sendable
  private static func run(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 1 else {
      throw .badArguments("move-leader command needs 1 argument")
    }
    let target: UInt64
    do throws(GoNumberError) {
      target = try GoNumber.uint64(call.positionals[0], base: 16)
    } catch {
      throw .badArguments(error.description)
    }
    let session = try await call.connect()
    let (leader, endpoint) = try await leader(session)
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.moveLeader(to: target, CallOptions(endpoint: endpoint))
    }
    try session.show(
      simple: { _ in },
      json: { JSONPrinter.headerOnly(response.header, isPresent: response.hasHeader) },
      fields: nil, protobuf: response)
    if session.format == .simple {
      call.console.print(
        "Leadership transferred from \(Shown.hex(leader)) to \(Shown.hex(target))")
    }
  }

  /// The leader, and its endpoint among those given.
  private static func leader(
    _ session: Session
  ) async throws(CommandFailure) -> (id: UInt64, Endpoint) {
    for endpoint in session.endpoints {
      let status = try await reporting { () async throws(EtcdClientError) in
        try await session.client.status(endpoint: endpoint)
      }
      if status.leader == status.header.memberID { return (status.leader, endpoint) }
    }
    let given = session.endpoints.map(\.description).joined(separator: " ")
    throw .badArguments("no leader endpoint given at [\(given)]")
  }
}
