// get

import EtcdAPI
import EtcdClient
import FoundationEssentials

enum GetCommand {
  static let flags: [FlagSpec] = [
    FlagSpec("consistency", .string, "l", "Linearizable(l) or Serializable(s)"),
    FlagSpec("order", .string, "", "Order of results; ASCEND or DESCEND"),
    FlagSpec("sort-by", .string, "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
    FlagSpec("limit", .int64, "0", "Maximum number of results"),
    FlagSpec("rev", .int64, "0", "Specify the kv revision"),
    FlagSpec("min-create-rev", .int64, "0", "Minimum create revision"),
    FlagSpec("max-create-rev", .int64, "0", "Maximum create revision"),
    FlagSpec("min-mod-rev", .int64, "0", "Minimum modification revision"),
    FlagSpec("max-mod-rev", .int64, "0", "Maximum modification revision"),
    .toggle("prefix", "Get keys with matching prefix"),
    .toggle("from-key", "Get keys that are greater than or equal to the given key"),
    .toggle("keys-only", "Get only the keys"),
    .toggle("count-only", "Get only the count"),
    .toggle("print-value-only", "Only write values when using the \"simple\" output format"),
    .toggle("stream", "Accepted for compatibility; results come in one answer"),
  ]

  static let spec = CommandSpec(
    "get", "[options] <key> [range_end]", "Gets the key or a range of keys", group: .keyValue,
    flags: flags, action: run)

  @Sendable
  private static func run(_ call: Invocation) async throws(CommandFailure) {
    let request = try request(call.positionals, call.flags)
    let session = try await call.connect()
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.range(request)
    }
    let valuesOnly = call.flags.bool("print-value-only")
    if call.flags.bool("count-only"), session.format != .fields {
      throw .badArguments("--count-only is only for `--write-out=fields`")
    }
    if valuesOnly, session.format != .simple {
      throw .badArguments("print-value-only is only for `--write-out=simple`")
    }
    try session.show(
      simple: {
        $0.valuesOnly = valuesOnly
        $0.range(response)
      }, json: { JSONPrinter.range(response) }, fields: { $0.range(response) },
      protobuf: response)
  }

  /// The request that the words ask for; used for operations of transactions too.
  static func request(
    _ words: [String], _ flags: FlagValues
  ) throws(CommandFailure) -> Etcdserverpb_RangeRequest {
    try checkArguments(words, flags)
    var request = Etcdserverpb_RangeRequest()
    switch flags.string("consistency") {
    case "l": break
    case "s": request.serializable = true
    case let other: throw badFeature("unknown consistency flag \(GoText.quote(other))")
    }
    (request.key, request.rangeEnd) = KeyRange.resolve(
      key: words[0], end: words.count > 1 ? words[1] : nil, isPrefix: flags.bool("prefix"),
      isFromKey: flags.bool("from-key"))
    request.limit = flags.int64("limit")
    request.revision = max(flags.int64("rev"), 0)
    request.keysOnly = flags.bool("keys-only")
    request.countOnly = flags.bool("count-only")
    try setOrder(&request, flags)
    try setRevisionBounds(&request, flags)
    return request
  }

  private static func badFeature(_ message: String) -> CommandFailure {
    CommandFailure(CommandFailure.Code.badFeature, message)
  }

  private static func checkArguments(
    _ words: [String], _ flags: FlagValues
  ) throws(CommandFailure) {
    guard !words.isEmpty else {
      throw .badArguments(
        "get command needs one argument as key and an optional argument as range_end")
    }
    if flags.bool("prefix"), flags.bool("from-key") {
      throw .badArguments("`--prefix` and `--from-key` cannot be set at the same time, choose one")
    }
    if flags.bool("keys-only"), flags.bool("count-only") {
      throw .badArguments(
        "`--keys-only` and `--count-only` cannot be set at the same time, choose one")
    }
    if words.count > 1, flags.bool("prefix") || flags.bool("from-key") {
      throw .badArguments(
        "too many arguments, only accept one argument when `--prefix` or `--from-key` is set")
    }
  }

  private static func setOrder(
    _ request: inout Etcdserverpb_RangeRequest, _ flags: FlagValues
  ) throws(CommandFailure) {
    let order = flags.string("order")
    switch order.uppercased() {
    case "": request.sortOrder = .none
    case "ASCEND": request.sortOrder = .ascend
    case "DESCEND": request.sortOrder = .descend
    default: throw badFeature("bad sort order \(order)")
    }
    let target = flags.string("sort-by")
    switch target.uppercased() {
    case "", "KEY": request.sortTarget = .key
    case "CREATE": request.sortTarget = .create
    case "MODIFY": request.sortTarget = .mod
    case "VALUE": request.sortTarget = .value
    case "VERSION": request.sortTarget = .version
    default: throw badFeature("bad sort target \(target)")
    }
    // This is the order of the store anyway, and unsorted a limit can stop early.
    if request.sortTarget == .key, request.sortOrder == .ascend { request.sortOrder = .none }
  }

  private static func setRevisionBounds(
    _ request: inout Etcdserverpb_RangeRequest, _ flags: FlagValues
  ) throws(CommandFailure) {
    let bounds = ["create", "mod"].map { kind in
      (flags.int64("min-\(kind)-rev"), flags.int64("max-\(kind)-rev"))
    }
    for ((low, high), kind) in zip(bounds, ["Create", "Mod"]) where high > 0 && low > high {
      throw badFeature("getMin\(kind)Rev(=\(low)) > getMax\(kind)Rev(=\(high))")
    }
    (request.minCreateRevision, request.maxCreateRevision) = bounds[0]
    (request.minModRevision, request.maxModRevision) = bounds[1]
  }
}
