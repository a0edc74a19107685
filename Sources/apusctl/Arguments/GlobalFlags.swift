// The flags that every command has, and the variables that stand for them.

enum GlobalFlags {
  static let all: [FlagSpec] = [
    FlagSpec(
      "auth-jwt-token", .string, "",
      "JWT token used for authentication (if this option is used, --user and --password should "
        + "not be set)"),
    FlagSpec("cacert", .string, "", "verify certificates of servers with this CA bundle"),
    FlagSpec("cert", .string, "", "identify this client with this certificate file"),
    FlagSpec("command-timeout", .duration, "5s", "timeout for commands that finish on their own"),
    FlagSpec("debug", .bool, "false", "print the settings to standard error"),
    FlagSpec("dial-timeout", .duration, "2s", "dial timeout for client connections"),
    FlagSpec(
      "discovery-srv", .string, "", short: "d",
      "domain to query for SRV records (not supported yet)"
    ),
    FlagSpec(
      "discovery-srv-name", .string, "", "service name for DNS discovery (not supported yet)"),
    FlagSpec("endpoints", .list, "127.0.0.1:2379", "addresses of the members, host:port or URL"),
    FlagSpec("hex", .bool, "false", "print byte strings as hex encoded strings"),
    FlagSpec("insecure-discovery", .bool, "true", "accept insecure SRV records"),
    FlagSpec("insecure-skip-tls-verify", .bool, "false", "accept any certificate of a server"),
    FlagSpec("insecure-transport", .bool, "true", "disable transport security"),
    FlagSpec("keepalive-time", .duration, "2s", "keepalive time for client connections"),
    FlagSpec("keepalive-timeout", .duration, "6s", "keepalive timeout for client connections"),
    FlagSpec("key", .string, "", "the key of the client's certificate"),
    FlagSpec("max-recv-bytes", .int64, "0", "limit of a received message; 0 for 2 GiB"),
    FlagSpec("max-request-bytes", .int64, "0", "limit of a sent message; 0 for 2 MiB"),
    FlagSpec(
      "password", .string, "",
      "password for authentication (if this option is used, --user option shouldn't include password)"
    ),
    FlagSpec(
      "user", .string, "",
      "username[:password] for authentication (prompt if password is not supplied)"),
    FlagSpec(
      "write-out", .string, "simple", short: "w",
      "output format: fields, json, protobuf, simple, table"),
  ]

  static func variable(_ flag: String) -> String {
    "ETCDCTL_" + flag.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
  }

  /// Fills flags from the environment.
  ///
  /// - Parameter known: other variables that the command reads itself.
  /// - Returns: `NAME=value` of variables that mean nothing.
  /// - Throws: exit code 1 if a variable is there besides its flag.
  static func apply(
    _ environment: [String: String], to flags: inout FlagValues, known: [String]
  ) throws(EnvironmentConflict) -> [String] {
    var used: Set<String> = Set(known)
    for flag in all {
      let name = variable(flag.name)
      guard let value = environment[name] else { continue }
      if flags.isSet(flag.name) { throw EnvironmentConflict(variable: name) }
      guard !value.isEmpty else { continue }
      used.insert(name)
      do throws(FlagError) {
        try flags.set(flag.name, value)
      } catch {
        // As in etcdctl, a bad value counts as the zero value.
        try? flags.set(flag.name, zeroText(flag.kind))
      }
    }
    return environment.keys.filter { $0.hasPrefix("ETCDCTL_") && !used.contains($0) }.sorted()
      .map { "\($0)=\(environment[$0] ?? "")" }
  }

  private static func zeroText(_ kind: FlagSpec.Kind) -> String {
    switch kind {
    case .bool: "false"
    case .int64, .duration: "0"
    case .string, .list: ""
    }
  }
}

/// A variable that stands besides its flag.
struct EnvironmentConflict: Error, Equatable {
  let variable: String
}
