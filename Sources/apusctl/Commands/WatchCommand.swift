// watch

import EtcdAPI
import EtcdClient

enum WatchCommand {
  static let flags: [FlagSpec] = [
    .toggle("interactive", short: "i", "Interactive mode (not available yet)"),
    .toggle("prefix", "Watch on a prefix if prefix is set"),
    .toggle("prev-kv", "get the previous key-value pair before the event happens"),
    .toggle("progress-notify", "get periodic watch progress notification from server"),
    FlagSpec("rev", .int64, "0", "Revision to start watching"),
  ]

  static let spec = CommandSpec(
    "watch", "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    "Watches events stream on keys or prefixes",
    details: """
      Watches events stream on keys or prefixes.

      The command after '--' is run once per event, with ETCD_WATCH_REVISION,
      ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment. The key and
      the range end may also come from ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END.
      """,
    group: .keyValue, flags: flags, action: run)

  private static let keyVariable = "ETCDCTL_WATCH_KEY"
  private static let endVariable = "ETCDCTL_WATCH_RANGE_END"

  /// What is watched, and what is run for each event.
  struct Target: Equatable {
    var key: String
    var end: String?
    var command: [String] = []
  }

  @Sendable
  private static func run(_ call: Invocation) async throws(CommandFailure) {
    if call.flags.bool("interactive") {
      throw .badArguments("watch --interactive is not available in apusctl yet")
    }
    let target = try target(
      call.positionals, dashIndex: call.dashIndex, environment: call.environment)
    let isPrefix = call.flags.bool("prefix")
    if isPrefix, target.end != nil {
      throw .badArguments("`range_end` and `--prefix` are mutually exclusive")
    }
    var request = Etcdserverpb_WatchCreateRequest()
    (request.key, request.rangeEnd) = KeyRange.resolve(
      key: target.key, end: target.end, isPrefix: isPrefix, isFromKey: false)
    request.startRevision = call.flags.int64("rev")
    request.prevKv = call.flags.bool("prev-kv")
    request.progressNotify = call.flags.bool("progress-notify")
    let session = try await call.connect(knownVariables: [keyVariable, endVariable])
    let create = request
    let stream = try await reporting { () async throws(EtcdClientError) in
      try session.client.watch(create, requireLeader: true)
    }
    try await follow(stream, target.command, session)
  }

  /// Takes the words apart.
  ///
  /// - Throws: exit code 128.
  static func target(
    _ words: [String], dashIndex: Int?, environment: [String: String]
  ) throws(CommandFailure) -> Target {
    let keys = Array(words[..<(dashIndex ?? words.count)])
    let command = Array(words[(dashIndex ?? words.count)...])
    let key = environment[keyVariable] ?? ""
    let end = environment[endVariable] ?? ""
    if key.isEmpty, !end.isEmpty {
      throw .badArguments("\(keyVariable) is empty but got \(endVariable)=\(GoText.quote(end))")
    }
    if dashIndex != nil, command.isEmpty {
      throw .badArguments("bad number of arguments (found separator --, but no commands)")
    }
    guard key.isEmpty else {
      guard keys.isEmpty else {
        throw .badArguments("bad number of arguments (found conflicting environment key)")
      }
      return Target(key: key, end: end.isEmpty ? nil : end, command: command)
    }
    guard let first = keys.first else { throw .badArguments("bad number of arguments") }
    return Target(key: first, end: keys.count == 2 ? keys[1] : nil, command: command)
  }

  /// Prints responses until the server ends the watch, which is a failure.
  private static func follow(
    _ stream: WatchStream, _ command: [String], _ session: Session
  ) async throws(CommandFailure) {
    let console = session.console
    while let response = try await next(stream, console) {
      if response.canceled {
        console.printError("watch was canceled (\(reason(response)))")
        if session.format == .json { console.print(JSONPrinter.watch(response)) }
        break
      }
      if response.events.isEmpty { console.print("progress notify: \(response.header.revision)") }
      try session.show(
        simple: { $0.watch(response) }, json: { JSONPrinter.watch(response) },
        fields: { $0.watch(response) }, protobuf: response)
      guard !command.isEmpty else { continue }
      for event in response.events {
        try ExecCommand.run(
          command, variables: variables(event, revision: response.header.revision), console)
      }
    }
    throw CommandFailure(CommandFailure.Code.interrupted, ended)
  }

  private static let ended = "watch is canceled by the server"

  private static func next(
    _ stream: WatchStream, _ console: Console
  ) async throws(CommandFailure) -> Etcdserverpb_WatchResponse? {
    do throws(EtcdClientError) {
      return try await stream.next()
    } catch {
      console.printError("watch was canceled (\(error))")
      throw CommandFailure(CommandFailure.Code.interrupted, ended)
    }
  }

  static func reason(_ response: Etcdserverpb_WatchResponse) -> String {
    if response.compactRevision != 0 { return EtcdError.compacted.message }
    return response.cancelReason.isEmpty ? EtcdError.watchCanceled.message : response.cancelReason
  }

  /// What the command learns about an event.
  static func variables(_ event: Mvccpb_Event, revision: Int64) -> [String] {
    [
      "ETCD_WATCH_REVISION=\(revision)",
      "ETCD_WATCH_EVENT_TYPE=\(GoText.quote(SimplePrinter.eventName(event.type)))",
      "ETCD_WATCH_KEY=\(GoText.quote(event.kv.key))",
      "ETCD_WATCH_VALUE=\(GoText.quote(event.kv.value))",
    ]
  }
}
