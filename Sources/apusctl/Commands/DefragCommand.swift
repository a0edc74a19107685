// defrag

import EtcdClient

enum DefragCommand {
  static let spec = CommandSpec(
    "defrag", "", "Defragments the storage of the etcd members with given endpoints",
    group: .cluster, flags: [.toggle("cluster", "use all endpoints from the cluster member list")],
    action: run)

  @Sendable
  private static func run(_ call: Invocation) async throws(CommandFailure) {
    let session = try await call.connect(trimsEndpoints: call.flags.bool("cluster"))
    var hasFailed = false
    for endpoint in try await EndpointCommand.endpoints(call, session) {
      let start = ContinuousClock.now
      do throws(EtcdClientError) {
        _ = try await session.client.defragment(endpoint: endpoint)
        call.console.print(
          "Finished defragmenting etcd member[\(endpoint)]. took \(elapsed(since: start))")
      } catch {
        hasFailed = true
        call.console.printError(
          "Failed to defragment etcd member[\(endpoint)]. took \(elapsed(since: start)). (\(error))"
        )
      }
    }
    if hasFailed { throw CommandFailure(CommandFailure.Code.error, nil) }
  }

  private static func elapsed(since start: ContinuousClock.Instant) -> String {
    GoDuration.format(ContinuousClock.now - start)
  }
}
