// user add, delete, get, list, passwd, grant-role, revoke-role

import EtcdAPI
import EtcdClient

enum UserCommand {
  private static let interactive = FlagSpec(
    "interactive", .bool, "true",
    "Read password from stdin instead of interactive terminal")

  static let spec = CommandSpec(
    "user", "", "User related commands", group: .authentication,
    subcommands: [
      CommandSpec(
        "add", "<user name or user:password> [options]", "Adds a new user",
        flags: [
          interactive,
          FlagSpec("new-user-password", .string, "", "Supply password from the command line flag"),
          .toggle("no-password", "Create a user without password (CN based auth only)"),
        ], action: add),
      CommandSpec("delete", "<user name>", "Deletes a user", action: delete),
      CommandSpec(
        "get", "<user name> [options]", "Gets detailed information of a user",
        flags: [.toggle("detail", "Show permissions of roles granted to the user")], action: get),
      CommandSpec("list", "", "Lists all users", action: list),
      CommandSpec(
        "passwd", "<user name> [options]", "Changes password of user", flags: [interactive],
        action: passwd),
      CommandSpec(
        "grant-role", "<user name> <role name>", "Grants a role to a user", action: grantRole),
      CommandSpec(
        "revoke-role", "<user name> <role name>", "Revokes a role from a user",
        action: revokeRole),
    ])

  // MARK: Changes

  @Sendable
  private static func add(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 1 else {
      throw .badArguments("user add command requires user name as its argument")
    }
    let word = call.positionals[0]
    var request = Etcdserverpb_AuthUserAddRequest()
    request.name = word
    if call.flags.bool("no-password") {
      request.options.noPassword = true
    } else {
      request.options.noPassword = false
      try fillPassword(&request, word, call)
    }
    let wanted = request
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.userAdd(wanted, .patient)
    }
    try session.show("User \(wanted.name) created", response.header, response)
  }

  private static func fillPassword(
    _ request: inout Etcdserverpb_AuthUserAddRequest, _ word: String, _ call: Invocation
  ) throws(CommandFailure) {
    let given = call.flags.string("new-user-password")
    if !given.isEmpty {
      request.password = given
    } else if let colon = word.firstIndex(of: ":") {
      request.name = String(word[..<colon])
      request.password = String(word[word.index(after: colon)...])
      guard !request.name.isEmpty else { throw .badArguments("empty user name is not allowed") }
    } else {
      request.password = try askPassword(of: word, call)
    }
  }

  /// Twice from a terminal, or one word of the input.
  private static func askPassword(
    of user: String, _ call: Invocation
  ) throws(CommandFailure) -> String {
    guard call.flags.bool("interactive") else {
      let input = String(decoding: call.console.readAll(), as: UTF8.self)
      return String(input.split(whereSeparator: \.isWhitespace).first ?? "")
    }
    let password = try PasswordPrompt.ask("Password of \(user): ", call.console)
    guard !password.isEmpty else { throw .badArguments("empty password") }
    let again = try PasswordPrompt.ask(
      "Type password of \(user) again for confirmation: ", call.console)
    guard password == again else { throw .badArguments("given passwords are different") }
    return password
  }

  @Sendable
  private static func delete(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 1 else {
      throw .badArguments("user delete command requires user name as its argument")
    }
    let name = call.positionals[0]
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.userDelete(name, .patient)
    }
    try session.show("User \(name) deleted", response.header, response)
  }

  @Sendable
  private static func passwd(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 1 else {
      throw .badArguments("user passwd command requires user name as its argument")
    }
    var request = Etcdserverpb_AuthUserChangePasswordRequest()
    request.name = call.positionals[0]
    request.password = try askPassword(of: request.name, call)
    let wanted = request
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.userChangePassword(wanted, .patient)
    }
    try session.show("Password updated", response.header, response)
  }

  @Sendable
  private static func grantRole(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 2 else {
      throw .badArguments("user grant command requires user name and role name as its argument")
    }
    let (user, role) = (call.positionals[0], call.positionals[1])
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.userGrantRole(user: user, role: role, .patient)
    }
    try session.show("Role \(role) is granted to user \(user)", response.header, response)
  }

  @Sendable
  private static func revokeRole(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 2 else {
      throw .badArguments("user revoke-role requires user name and role name as its argument")
    }
    let (user, role) = (call.positionals[0], call.positionals[1])
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.userRevokeRole(user: user, role: role, .patient)
    }
    try session.show("Role \(role) is revoked from user \(user)", response.header, response)
  }

  // MARK: Questions

  @Sendable
  private static func get(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 1 else {
      throw .badArguments("user get command requires user name as its argument")
    }
    let name = call.positionals[0]
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.userGet(name, .patient)
    }
    guard call.flags.bool("detail") else {
      return try session.show(
        simple: { $0.user(name, response) }, json: { JSONPrinter.user(response) }, fields: nil,
        protobuf: response)
    }
    // In every form the first lines are plain.
    call.console.print("User: \(name)")
    for role in response.roles {
      call.console.print("")
      let details = try await reporting { () async throws(EtcdClientError) in
        try await session.client.roleGet(role, .patient)
      }
      try RoleCommand.show(session, role, details)
    }
  }

  @Sendable
  private static func list(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.isEmpty else {
      throw .badArguments("user list command requires no arguments")
    }
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.userList(.patient)
    }
    try session.show(
      simple: { $0.names(response.users) }, json: { JSONPrinter.users(response) }, fields: nil,
      protobuf: response)
  }
}

/// Asks for a password.
enum PasswordPrompt {
  static func ask(_ prompt: String, _ console: Console) throws(CommandFailure) -> String {
    console.write(Array(prompt.utf8))
    console.hidesInput(true)
    let line = console.readLine()
    console.hidesInput(false)
    console.print("")
    guard let line else { throw .badArguments("failed to ask password: EOF") }
    return String(decoding: line, as: UTF8.self)
  }
}
