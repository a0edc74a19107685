// role add, delete, get, list, grant-permission, revoke-permission

import EtcdAPI
import EtcdClient
import FoundationEssentials

enum RoleCommand {
  static let spec = CommandSpec(
    "role", "", "Role related commands", group: .authentication,
    subcommands: [
      CommandSpec("add", "<role name>", "Adds a new role", action: add),
      CommandSpec("delete", "<role name>", "Deletes a role", action: delete),
      CommandSpec("get", "<role name>", "Gets detailed information of a role", action: get),
      CommandSpec("list", "", "Lists all roles", action: list),
      CommandSpec(
        "grant-permission", "[options] <role name> <permission type> <key> [endkey]",
        "Grants a key to a role",
        flags: [
          .toggle("prefix", "grant a prefix permission"),
          .toggle(
            "from-key",
            "grant a permission of keys that are greater than or equal to the given key "
              + "using byte compare"),
        ], action: grant),
      CommandSpec(
        "revoke-permission", "[options] <role name> <key> [endkey]", "Revokes a key from a role",
        flags: [
          .toggle("prefix", "revoke a prefix permission"),
          .toggle(
            "from-key",
            "revoke a permission of keys that are greater than or equal to the given key "
              + "using byte compare"),
        ], action: revoke),
    ])

  private static func name(
    _ call: Invocation, _ command: String
  ) throws(CommandFailure) -> String {
    guard call.positionals.count == 1 else {
      throw .badArguments("role \(command) command requires role name as its argument")
    }
    return call.positionals[0]
  }

  @Sendable
  private static func add(_ call: Invocation) async throws(CommandFailure) {
    let name = try name(call, "add")
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.roleAdd(name, .patient)
    }
    try session.show("Role \(name) created", response.header, response)
  }

  @Sendable
  private static func delete(_ call: Invocation) async throws(CommandFailure) {
    let name = try name(call, "delete")
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.roleDelete(name, .patient)
    }
    try session.show("Role \(name) deleted", response.header, response)
  }

  @Sendable
  private static func get(_ call: Invocation) async throws(CommandFailure) {
    let name = try name(call, "get")
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.roleGet(name, .patient)
    }
    try show(session, name, response)
  }

  @Sendable
  private static func list(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.isEmpty else {
      throw .badArguments("role list command requires no arguments")
    }
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.roleList(.patient)
    }
    try session.show(
      simple: { $0.names(response.roles) }, json: { JSONPrinter.roles(response) },
      fields: { $0.roles(response) }, protobuf: response)
  }

  // MARK: Permissions

  @Sendable
  private static func grant(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count >= 3 else {
      throw .badArguments(
        "role grant command requires role name, permission type, and key [endkey] as its "
          + "argument")
    }
    var request = Etcdserverpb_AuthRoleGrantPermissionRequest()
    request.name = call.positionals[0]
    switch call.positionals[1].uppercased() {
    case "READ": request.perm.permType = .read
    case "WRITE": request.perm.permType = .write
    case "READWRITE": request.perm.permType = .readwrite
    default: throw .badArguments("invalid permission type: \(call.positionals[1])")
    }
    (request.perm.key, request.perm.rangeEnd) = try range(call.positionals[2...], call.flags)
    let wanted = request
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.roleGrantPermission(wanted, .patient)
    }
    try session.show("Role \(wanted.name) updated", response.header, response)
  }

  @Sendable
  private static func revoke(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count >= 2 else {
      throw .badArguments(
        "role revoke-permission command requires role name and key [endkey] as its argument")
    }
    var request = Etcdserverpb_AuthRoleRevokePermissionRequest()
    request.role = call.positionals[0]
    (request.key, request.rangeEnd) = try range(call.positionals[1...], call.flags)
    let wanted = request
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.roleRevokePermission(wanted, .patient)
    }
    try session.show(
      simple: { $0.permissionRevoked(wanted) },
      json: { JSONPrinter.headerOnly(response.header, isPresent: true) },
      fields: { $0.header(response.header) }, protobuf: response)
  }

  /// The keys that the words and flags name.
  private static func range(
    _ words: ArraySlice<String>, _ flags: FlagValues
  ) throws(CommandFailure) -> (Data, Data) {
    let isPrefix = flags.bool("prefix")
    let isFromKey = flags.bool("from-key")
    let key = words.first ?? ""
    if isPrefix, isFromKey, words.count == 1 || key.isEmpty {
      throw .badArguments("--from-key and --prefix flags are mutually exclusive")
    }
    if key.isEmpty, isPrefix || isFromKey { return (KeyRange.zero, KeyRange.zero) }
    if words.count > 1 {
      if isPrefix { throw .badArguments("unexpected endkey argument with --prefix flag") }
      if isFromKey { throw .badArguments("unexpected endkey argument with --from-key flag") }
    }
    let (resolved, end) = KeyRange.resolve(
      key: key, end: words.dropFirst().first, isPrefix: isPrefix, isFromKey: isFromKey)
    return (key.isEmpty ? KeyRange.zero : resolved, end)
  }

  // MARK: Output

  static func show(
    _ session: Session, _ name: String, _ response: Etcdserverpb_AuthRoleGetResponse
  ) throws(CommandFailure) {
    try session.show(
      simple: { $0.role(name, response) }, json: { JSONPrinter.role(response) },
      fields: { $0.role(response) }, protobuf: response)
  }
}
