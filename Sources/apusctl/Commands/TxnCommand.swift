// txn

import EtcdAPI
import EtcdClient

enum TxnCommand {
  static let spec = CommandSpec(
    "txn", "[options]", "Txn processes all the requests in one transaction",
    details: """
      Txn processes all the requests in one transaction.

      Standard input has three sections, each ended by an empty line: comparisons, the requests if
      all of them hold, and the requests if not. Numbers are quoted as well.

        mod("key1") > "0"

        put key1 "overwrote-key1"

        put key1 "created-key1"

      Comparisons: ver|version, c|create, m|mod, val|value, lease with =, !=, <, >.
      Requests: get, put and del with the flags of these commands.
      """,
    group: .keyValue,
    flags: [.toggle("interactive", short: "i", "Input transaction in interactive mode")],
    action: run)

  @Sendable
  private static func run(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.isEmpty else {
      throw .badArguments("txn command does not accept argument")
    }
    let isInteractive = call.flags.bool("interactive")
    func section(_ prompt: String) throws(CommandFailure) -> [[UInt8]] {
      if isInteractive { call.console.print(prompt) }
      return try readSection(call.console)
    }
    var request = Etcdserverpb_TxnRequest()
    for line in try section("compares:") { request.compare.append(try TxnGrammar.compare(line)) }
    for line in try section("success requests (get, put, del):") {
      request.success.append(try await operation(line, call.console))
    }
    for line in try section("failure requests (get, put, del):") {
      request.failure.append(try await operation(line, call.console))
    }
    let session = try await call.connect()
    let transaction = request
    let response = try await reporting { () async throws(EtcdClientError) in
      try await session.client.txn(transaction, CallOptions(timeout: .never))
    }
    try session.show(
      simple: { $0.txn(response) }, json: { JSONPrinter.txn(response) },
      fields: { $0.txn(response) }, protobuf: response)
  }

  /// The lines up to an empty one, without blanks at their ends.
  private static func readSection(_ console: Console) throws(CommandFailure) -> [[UInt8]] {
    var lines: [[UInt8]] = []
    while let line = console.readLine() {
      let trimmed = WordSplitter.trim(line)
      if trimmed.isEmpty { return lines }
      lines.append(trimmed)
    }
    throw CommandFailure(CommandFailure.Code.invalidInput, "EOF")
  }

  private static func operation(
    _ line: [UInt8], _ console: Console
  ) async throws(CommandFailure) -> Etcdserverpb_RequestOp {
    let (operation, deletion) = try TxnGrammar.operation(line)
    if let deletion { await DelCommand.warn(deletion.positionals, deletion.flags, console) }
    return operation
  }
}
