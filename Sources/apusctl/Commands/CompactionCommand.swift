// compaction

import EtcdAPI
import EtcdClient

enum CompactionCommand {
  static let spec = CommandSpec(
    "compaction", "[options] <revision>", "Compacts the event history in etcd", group: .keyValue,
    flags: [
      .toggle("physical", "wait until the compacted revisions have been removed from the store")
    ], action: run)

  @Sendable
  private static func run(_ call: Invocation) async throws(CommandFailure) {
    guard call.positionals.count == 1 else {
      throw .badArguments("compaction command needs 1 argument")
    }
    var request = Etcdserverpb_CompactionRequest()
    do throws(GoNumberError) {
      request.revision = try GoNumber.int64(call.positionals[0], base: 10)
    } catch {
      throw CommandFailure(CommandFailure.Code.error, error.description)
    }
    request.physical = call.flags.bool("physical")
    let session = try await call.connect()
    let compaction = request
    _ = try await reporting { () async throws(EtcdClientError) in
      try await session.client.compact(compaction)
    }
    call.console.print("compacted revision \(request.revision)")
  }
}
