// member list, add, remove, update, promote

import EtcdAPI
import EtcdClient
import SwiftProtobuf

enum MemberCommand {
  private static let peerURLs = FlagSpec(
    "peer-urls", .list, "", "comma separated peer URLs for the member")

  static let spec = CommandSpec(
    "member", "", "Membership related commands", group: .cluster,
    subcommands: [
      CommandSpec(
        "list", "", "Lists all members in the cluster",
        details: """
          Lists all members in the cluster.

          The columns of the simple form: ID, status, name, peer addresses, client addresses, is
          learner.
          """,
        flags: [FlagSpec("consistency", .string, "l", "Linearizable(l) or Serializable(s)")],
        action: list),
      CommandSpec(
        "add", "<memberName> [options]", "Adds a member into the cluster",
        flags: [peerURLs, .toggle("learner", "indicates if the new member is raft learner")],
        action: add),
      CommandSpec("remove", "<memberID>", "Removes a member from the cluster", action: remove),
      CommandSpec(
        "update", "<memberID> [options]", "Updates a member in the cluster", flags: [peerURLs],
        action: update),
      CommandSpec(
        "promote", "<memberID>", "Promotes a non-voting member in the cluster", action: promote),
    ])

  @Sendable
  private static func list(_ call: Invocation) async throws(CommandFailure) {
    let consistency = call.flags.string("consistency")
    guard consistency == "l" || consistency == "s" else {
      throw CommandFailure(
        CommandFailure.Code.badFeature,
        "unknown consistency flag \(GoText.quote(consistency))")
    }
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.memberList(linearizable: consistency == "l")
    }
    let table = Table.members(response.members)
    if session.format == .table { return call.console.write(table.drawn) }
    try session.show(
      simple: { $0.rows(table) },
      json: { JSONPrinter.members(response.header, response.members, hexIDs: session.isHex) },
      fields: { $0.members(response) }, protobuf: response)
  }

  private static func memberID(_ call: Invocation) throws(CommandFailure) -> UInt64 {
    guard call.positionals.count == 1 else { throw .badArguments("member ID is not provided") }
    do throws(GoNumberError) {
      return try GoNumber.uint64(call.positionals[0], base: 16)
    } catch {
      throw .badArguments("bad member ID arg (\(error.description)), expecting ID in Hex")
    }
  }

  private static func checkedPeerURLs(_ call: Invocation) throws(CommandFailure) -> [String] {
    let urls = call.flags.list("peer-urls")
    guard !urls.isEmpty else { throw .badArguments("member peer urls not provided") }
    return urls
  }

  private static func checkSchemes(_ urls: [String]) throws(CommandFailure) {
    let schemes = ["http://", "https://", "unix://", "unixs://"]
    for url in urls where !schemes.contains(where: { url.hasPrefix($0) }) {
      throw CommandFailure(
        CommandFailure.Code.error, "URL scheme must be http, https, unix, or unixs: \(url)")
    }
  }

  @Sendable
  private static func add(_ call: Invocation) async throws(CommandFailure) {
    guard let name = call.positionals.first else {
      throw .badArguments("member name not provided")
    }
    guard call.positionals.count == 1 else {
      let second = call.positionals[1]
      let hint = second.contains("://") ? ", did you mean --peer-urls=\(second)" : ""
      throw .badArguments("too many arguments\(hint)")
    }
    var request = Etcdserverpb_MemberAddRequest()
    request.peerUrls = try checkedPeerURLs(call)
    request.isLearner = call.flags.bool("learner")
    let session = try await call.connect()
    try checkSchemes(request.peerUrls)
    let wanted = request
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.memberAdd(wanted)
    }
    try session.show(
      simple: { $0.memberAdded(response, name: name, isLearner: wanted.isLearner) },
      json: {
        JSONPrinter.members(
          response.header, added: response.member, response.members, hexIDs: session.isHex)
      }, fields: nil, protobuf: response)
  }

  @Sendable
  private static func remove(_ call: Invocation) async throws(CommandFailure) {
    let id = try memberID(call)
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      var request = Etcdserverpb_MemberRemoveRequest()
      request.id = id
      return try await session.client.memberRemove(request)
    }
    try show(
      session, id, "removed from", response.header, members: response.members, protobuf: response)
  }

  @Sendable
  private static func update(_ call: Invocation) async throws(CommandFailure) {
    let id = try memberID(call)
    let urls = try checkedPeerURLs(call)
    let session = try await call.connect()
    try checkSchemes(urls)
    let response = try await reporting { () async throws(EtcdClientError) in
      var request = Etcdserverpb_MemberUpdateRequest()
      request.id = id
      request.peerUrls = urls
      return try await session.client.memberUpdate(request)
    }
    try show(
      session, id, "updated in", response.header, members: response.members, protobuf: response)
  }

  @Sendable
  private static func promote(_ call: Invocation) async throws(CommandFailure) {
    let id = try memberID(call)
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      var request = Etcdserverpb_MemberPromoteRequest()
      request.id = id
      return try await session.client.memberPromote(request)
    }
    try show(
      session, id, "promoted in", response.header, members: response.members, protobuf: response)
  }

  /// What a change of one member prints: a sentence, or the members that there are now.
  private static func show(
    _ session: Session, _ id: UInt64, _ change: String, _ header: Etcdserverpb_ResponseHeader,
    members: [Etcdserverpb_Member], protobuf: some Message
  ) throws(CommandFailure) {
    try session.show(
      simple: { $0.memberChanged(id, change, cluster: header.clusterID) },
      json: { JSONPrinter.members(header, members, hexIDs: session.isHex) },
      fields: nil, protobuf: protobuf)
  }
}
