// put

import EtcdAPI
import EtcdClient
import FoundationEssentials

enum PutCommand {
  static let flags: [FlagSpec] = [
    FlagSpec("lease", .string, "0", "lease ID (in hexadecimal) to attach to the key"),
    .toggle("prev-kv", "return the previous key-value pair before modification"),
    .toggle("ignore-value", "updates the key using its current value"),
    .toggle("ignore-lease", "updates the key using its current lease"),
  ]

  static let spec = CommandSpec(
    "put", "[options] <key> <value> (<value> can also be given from stdin)",
    "Puts the given key into the store",
    details: """
      Puts the given key into the store.

      Without <value> all of standard input is the value, its last line end included. Insert '--'
      before a key or value that starts with '-': put <key> -- <value>.
      """,
    group: .keyValue, flags: flags, action: run)

  @Sendable
  private static func run(_ call: Invocation) async throws(CommandFailure) {
    let request = try request(call.positionals, call.flags, readValue: call.console.readAll)
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.put(request)
    }
    try session.show(
      simple: { $0.put(response) }, json: { JSONPrinter.put(response) },
      fields: { $0.put(response) }, protobuf: response)
  }

  /// - Parameter readValue: gives the value if the words have none.
  static func request(
    _ words: [String], _ flags: FlagValues, readValue: () -> [UInt8]
  ) throws(CommandFailure) -> Etcdserverpb_PutRequest {
    let missing = "put command needs 1 argument and input from stdin or 2 arguments"
    guard !words.isEmpty else { throw .badArguments(missing) }
    let ignoresValue = flags.bool("ignore-value")
    if ignoresValue, words.count > 1 {
      throw .badArguments("put command needs only 1 argument when 'ignore-value' is set")
    }
    var request = Etcdserverpb_PutRequest()
    request.key = Data(RawText.bytes(words[0]))
    if words.count > 1 {
      request.value = Data(RawText.bytes(words[1]))
    } else if !ignoresValue {
      let value = readValue()
      guard !value.isEmpty else { throw .badArguments(missing) }
      request.value = Data(value)
    }
    do throws(GoNumberError) {
      request.lease = try GoNumber.int64(flags.string("lease"), base: 16)
    } catch {
      throw .badArguments("bad lease ID (\(error.description)), expecting ID in Hex")
    }
    request.prevKv = flags.bool("prev-kv")
    request.ignoreValue = ignoresValue
    request.ignoreLease = flags.bool("ignore-lease")
    return request
  }
}
