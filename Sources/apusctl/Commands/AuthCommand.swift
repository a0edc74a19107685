// auth enable, disable, status

import EtcdAPI
import EtcdClient

enum AuthCommand {
  static let spec = CommandSpec(
    "auth", "", "Enable or disable authentication", group: .authentication,
    subcommands: [
      CommandSpec("enable", "", "Enables authentication", action: enable),
      CommandSpec("disable", "", "Disables authentication", action: disable),
      CommandSpec("status", "", "Returns authentication status", action: status),
    ])

  private static func refuseArguments(_ call: Invocation) throws(CommandFailure) {
    guard call.positionals.isEmpty else {
      let name = call.path.last?.name ?? ""
      throw .badArguments("auth \(name) command does not accept any arguments")
    }
  }

  /// Gives root its role first if that is missing.
  @Sendable
  private static func enable(_ call: Invocation) async throws(CommandFailure) {
    try refuseArguments(call)
    let client = try await call.connect().client
    try await reporting { () async throws(EtcdClientError) in
      do throws(EtcdClientError) {
        _ = try await client.authEnable()
      } catch {
        guard error.matches(.rootRoleMissing) else { throw error }
        do throws(EtcdClientError) {
          _ = try await client.roleAdd("root")
        } catch {
          guard error.matches(.roleExists) else { throw error }
        }
        _ = try await client.userGrantRole(user: "root", role: "root")
        _ = try await client.authEnable()
      }
    }
    call.console.print("Authentication Enabled")
  }

  @Sendable
  private static func disable(_ call: Invocation) async throws(CommandFailure) {
    try refuseArguments(call)
    let client = try await call.connect().client
    _ = try await reporting { () async throws(EtcdClientError) in try await client.authDisable() }
    call.console.print("Authentication Disabled")
  }

  @Sendable
  private static func status(_ call: Invocation) async throws(CommandFailure) {
    try refuseArguments(call)
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.authStatus()
    }
    try session.show(
      simple: { $0.authStatus(response) }, json: { JSONPrinter.authStatus(response) }, fields: nil,
      protobuf: response)
  }
}
