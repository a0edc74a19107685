// del

import EtcdAPI
import EtcdClient
import FoundationEssentials

enum DelCommand {
  static let flags: [FlagSpec] = [
    .toggle("prefix", "delete keys with matching prefix"),
    .toggle("from-key", "delete keys that are greater than or equal to the given key"),
    .toggle("prev-kv", "return deleted key-value pairs"),
    .toggle("range", "delete a range of keys without the delay"),
  ]

  static let spec = CommandSpec(
    "del", "[options] <key> [range_end]",
    "Removes the specified key or range of keys [key, range_end)",
    group: .keyValue, flags: flags, action: run)

  @Sendable
  private static func run(_ call: Invocation) async throws(CommandFailure) {
    let request = try request(call.positionals, call.flags)
    await warn(call.positionals, call.flags, call.console)
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.deleteRange(request)
    }
    try session.show(
      simple: { $0.deleteRange(response) }, json: { JSONPrinter.deleteRange(response) },
      fields: { $0.deleteRange(response) }, protobuf: response)
  }

  static func request(
    _ words: [String], _ flags: FlagValues
  ) throws(CommandFailure) -> Etcdserverpb_DeleteRangeRequest {
    guard (1...2).contains(words.count) else {
      throw .badArguments(
        "del command needs one argument as key and an optional argument as range_end")
    }
    if flags.bool("prefix"), flags.bool("from-key") {
      throw .badArguments("`--prefix` and `--from-key` cannot be set at the same time, choose one")
    }
    if words.count > 1, flags.bool("prefix") || flags.bool("from-key") {
      throw .badArguments(
        "too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
    }
    var request = Etcdserverpb_DeleteRangeRequest()
    (request.key, request.rangeEnd) = KeyRange.resolve(
      key: words[0], end: words.count > 1 ? words[1] : nil, isPrefix: flags.bool("prefix"),
      isFromKey: flags.bool("from-key"))
    request.prevKv = flags.bool("prev-kv")
    return request
  }

  /// A second word is easily meant as a second key: two seconds to think again.
  static func warn(_ words: [String], _ flags: FlagValues, _ console: Console) async {
    guard words.count > 1, !flags.bool("range") else { return }
    console.printError(
      "Warning: Keys between \(GoText.quote(words[0])) and \(GoText.quote(words[1])) will be "
        + "deleted. Please interrupt the command within next 2 seconds to cancel. You can provide "
        + "`--range` flag to avoid the delay.")
    try? await Task.sleep(for: .seconds(2))
  }
}
