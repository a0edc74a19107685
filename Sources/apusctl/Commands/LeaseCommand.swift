// lease grant, revoke, timetolive, list, keep-alive

import EtcdAPI
import EtcdClient

enum LeaseCommand {
  static let spec = CommandSpec(
    "lease", "", "Lease related commands", group: .keyValue,
    subcommands: [
      CommandSpec("grant", "<ttl>", "Creates leases", action: grant),
      CommandSpec("revoke", "<leaseID>", "Revokes leases", action: revoke),
      CommandSpec(
        "timetolive", "<leaseID> [options]", "Get lease information",
        flags: [.toggle("keys", "Get keys attached to this lease")], action: timeToLive),
      CommandSpec("list", "", "List all active leases", action: list),
      CommandSpec(
        "keep-alive", "[options] <leaseID>", "Keeps leases alive (renew)",
        flags: [.toggle("once", "Resets the keep-alive time to its original value and exits")],
        action: keepAlive),
    ])

  private static func leaseID(
    _ call: Invocation, missing: String
  ) throws(CommandFailure) -> Int64 {
    guard call.positionals.count == 1 else { throw .badArguments(missing) }
    do throws(GoNumberError) {
      return try GoNumber.int64(call.positionals[0], base: 16)
    } catch {
      throw .badArguments("bad lease ID arg (\(error.description)), expecting ID in Hex")
    }
  }

  @Sendable
  private static func grant(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 1 else {
      throw .badArguments("lease grant command needs TTL argument")
    }
    var request = Etcdserverpb_LeaseGrantRequest()
    do throws(GoNumberError) {
      request.ttl = try GoNumber.int64(call.positionals[0], base: 10)
    } catch {
      throw .badArguments("bad TTL (\(error.description))")
    }
    let session = try await call.connect()
    let wanted = request
    let response = try await reporting(prefix: "failed to grant lease") {
      () async throws(EtcdClientError) in
      try await session.client.leaseGrant(wanted)
    }
    try session.show(
      simple: { $0.leaseGrant(response) }, json: { JSONPrinter.leaseGrant(response) },
      fields: { $0.lease(response.header, id: response.id, ttl: response.ttl) },
      protobuf: response.header)
  }

  @Sendable
  private static func revoke(_ call: Invocation) async throws(CommandFailure) {
    let id = try leaseID(call, missing: "lease revoke command needs 1 argument")
    let session = try await call.connect()
    let response = try await reporting(prefix: "failed to revoke lease") {
      () async throws(EtcdClientError) in
      var request = Etcdserverpb_LeaseRevokeRequest()
      request.id = id
      return try await session.client.leaseRevoke(request)
    }
    try session.show(
      simple: { $0.leaseRevoke(id: id) },
      json: { JSONPrinter.headerOnly(response.header, isPresent: response.hasHeader) },
      fields: { $0.header(response.header) }, protobuf: nil)
  }

  @Sendable
  private static func timeToLive(_ call: Invocation) async throws(CommandFailure) {
    let id = try leaseID(
      call, missing: "lease timetolive command needs lease ID as argument")
    let showsKeys = call.flags.bool("keys")
    let session = try await call.connect()
    let response = try await reporting(code: CommandFailure.Code.badConnection) {
      () async throws(EtcdClientError) in
      var request = Etcdserverpb_LeaseTimeToLiveRequest()
      request.id = id
      request.keys = showsKeys
      return try await session.client.leaseTimeToLive(request, CallOptions(timeout: .never))
    }
    try session.show(
      simple: { $0.timeToLive(response, showsKeys: showsKeys) },
      json: { JSONPrinter.timeToLive(response) }, fields: { $0.timeToLive(response) },
      protobuf: response.header)
  }

  @Sendable
  private static func list(_ call: Invocation) async throws(CommandFailure) {
    let session = try await call.connect()
    let response = try await reporting(code: CommandFailure.Code.badConnection) {
      () async throws(EtcdClientError) in
      try await session.client.leaseLeases(CallOptions(timeout: .never))
    }
    try session.show(
      simple: { $0.leases(response) }, json: { JSONPrinter.leases(response) },
      fields: { $0.leases(response) }, protobuf: response.header)
  }

  @Sendable
  private static func keepAlive(_ call: Invocation) async throws(CommandFailure) {
    let id = try leaseID(
      call, missing: "lease keep-alive command needs lease ID as argument")
    let session = try await call.connect()
    if call.flags.bool("once") {
      let response = try await reporting(code: CommandFailure.Code.badConnection) {
        () async throws(EtcdClientError) in
        try await session.client.leaseKeepAliveOnce(id: id)
      }
      return try show(response, session)
    }
    let stream = try await reporting(code: CommandFailure.Code.badConnection) {
      () async throws(EtcdClientError) in
      try session.client.leaseKeepAlive(id: id)
    }
    while true {
      let response = try await reporting(code: CommandFailure.Code.badConnection) {
        () async throws(EtcdClientError) in
        try await stream.next()
      }
      guard let response else { break }
      try show(response, session)
    }
    if session.format == .simple {
      call.console.print("lease \(Shown.lease(id)) expired or revoked.")
    }
  }

  private static func show(
    _ response: Etcdserverpb_LeaseKeepAliveResponse, _ session: Session
  ) throws(CommandFailure) {
    try session.show(
      simple: { $0.keepAlive(response) }, json: { JSONPrinter.keepAlive(response) },
      fields: { $0.lease(response.header, id: response.id, ttl: response.ttl) },
      protobuf: response.header)
  }
}
