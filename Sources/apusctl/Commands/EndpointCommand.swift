// endpoint health, status, hashkv

import EtcdAPI
import EtcdClient
import FoundationEssentials

enum EndpointCommand {
  private static let clusterFlag = FlagSpec.toggle(
    "cluster", "use all endpoints from the cluster member list")

  static let spec = CommandSpec(
    "endpoint", "", "Endpoint related commands", group: .cluster, flags: [clusterFlag],
    subcommands: [
      CommandSpec(
        "health", "", "Checks the healthiness of endpoints specified in `--endpoints` flag",
        flags: [clusterFlag], action: health),
      CommandSpec(
        "status", "", "Prints out the status of endpoints specified in `--endpoints` flag",
        details: """
          Prints out the status of endpoints specified in `--endpoints` flag.

          The columns of the simple form: endpoint, ID, version, storage version, db size, in use,
          percentage not in use, quota, is leader, is learner, raft term, raft index, raft applied
          index, errors, downgrade target version, downgrade enabled.
          """, flags: [clusterFlag], action: status),
      CommandSpec(
        "hashkv", "", "Prints the KV history hash for each endpoint in --endpoints",
        flags: [
          clusterFlag,
          FlagSpec("rev", .int64, "0", "maximum revision to hash (default: latest revision)"),
        ], action: hashKV),
    ])

  /// The endpoints to ask: those given, or with `--cluster` every client URL of every member.
  static func endpoints(
    _ call: Invocation, _ session: Session
  ) async throws(CommandFailure) -> [Endpoint] {
    guard call.flags.bool("cluster") else { return session.endpoints }
    let prefix = "failed to fetch endpoints from etcd cluster member list: "
    do throws(EtcdClientError) {
      let response = try await session.client.memberList()
      var endpoints: [Endpoint] = []
      for url in response.members.flatMap(\.clientUrls) { endpoints.append(try Endpoint(url)) }
      return endpoints
    } catch {
      throw CommandFailure(CommandFailure.Code.error, prefix + error.description)
    }
  }

  // MARK: health

  @Sendable
  private static func health(_ call: Invocation) async throws(CommandFailure) {
    let session = try await call.connect(trimsEndpoints: call.flags.bool("cluster"))
    let endpoints = try await endpoints(call, session)
    // In order of completion, like etcdctl.
    let rows = await withTaskGroup(of: EndpointHealth.self) { group in
      for endpoint in endpoints {
        group.addTask { await check(endpoint, session.client) }
      }
      var rows: [EndpointHealth] = []
      for await row in group { rows.append(row) }
      return rows
    }
    switch session.format {
    case .simple:
      for row in rows {
        let line = SimplePrinter.health(row)
        if row.error.isEmpty { call.console.print(line) } else { call.console.printError(line) }
      }
    case .json: call.console.print(JSONPrinter.health(rows))
    case .fields:
      var printer = FieldsPrinter(hexIDs: session.isHex)
      for row in rows { printer.health(row) }
      call.console.write(printer.bytes)
    case .table: call.console.write(Table.health(rows).drawn)
    case .protobuf: throw session.unsupported
    }
    if rows.contains(where: { !$0.error.isEmpty }) {
      throw CommandFailure(CommandFailure.Code.error, "unhealthy cluster")
    }
  }

  private static func check(_ endpoint: Endpoint, _ client: EtcdClient) async -> EndpointHealth {
    let start = ContinuousClock.now
    var error = ""
    do throws(EtcdClientError) {
      var request = Etcdserverpb_RangeRequest()
      request.key = Data("health".utf8)
      _ = try await client.range(request, CallOptions(endpoint: endpoint))
    } catch {
      // Whoever is told that has reached a working quorum.
      return await finish(error.code == .permissionDenied ? "" : error.description)
    }
    return await finish(error)

    func finish(_ reason: String) async -> EndpointHealth {
      let took = GoDuration.format(ContinuousClock.now - start)
      error = reason
      if reason.isEmpty { error = await alarms(endpoint, client) }
      return EndpointHealth(
        endpoint: endpoint.description, isHealthy: error.isEmpty, took: took, error: error)
    }
  }

  private static func alarms(_ endpoint: Endpoint, _ client: EtcdClient) async -> String {
    do throws(EtcdClientError) {
      let response = try await client.alarm(
        Etcdserverpb_AlarmRequest(), CallOptions(endpoint: endpoint))
      guard !response.alarms.isEmpty else { return "" }
      return "Active Alarm(s): "
        + response.alarms.map { SimplePrinter.alarmName($0.alarm) + " " }.joined()
    } catch {
      return "Unable to fetch the alarm list"
    }
  }

  // MARK: status

  @Sendable
  private static func status(_ call: Invocation) async throws(CommandFailure) {
    let session = try await call.connect(trimsEndpoints: call.flags.bool("cluster"))
    var rows: [EndpointStatus] = []
    var hasFailed = false
    for endpoint in try await endpoints(call, session) {
      do throws(EtcdClientError) {
        let response = try await session.client.status(endpoint: endpoint)
        rows.append(EndpointStatus(endpoint: endpoint.description, response: response))
      } catch {
        hasFailed = true
        call.console.printError("Failed to get the status of endpoint \(endpoint) (\(error))")
      }
    }
    let shown = rows
    try show(
      Table.status(rows), json: { JSONPrinter.status(shown) },
      fields: { for row in shown { $0.status(row) } }, session)
    if hasFailed { throw CommandFailure(CommandFailure.Code.error, nil) }
  }

  // MARK: hashkv

  @Sendable
  private static func hashKV(_ call: Invocation) async throws(CommandFailure) {
    let revision = call.flags.int64("rev")
    let session = try await call.connect(trimsEndpoints: call.flags.bool("cluster"))
    var rows: [EndpointHash] = []
    var lastError: EtcdClientError?
    for endpoint in try await endpoints(call, session) {
      do throws(EtcdClientError) {
        let response = try await session.client.hashKV(endpoint: endpoint, revision: revision)
        rows.append(EndpointHash(endpoint: endpoint.description, response: response))
      } catch {
        lastError = error
        call.console.printError("Failed to get the hash of endpoint \(endpoint) (\(error))")
      }
    }
    let shown = rows
    try show(
      Table.hashKV(rows), json: { JSONPrinter.hashKV(shown) },
      fields: { for row in shown { $0.hashKV(row) } }, session)
    if let lastError { throw CommandFailure(lastError) }
  }

  private static func show(
    _ table: Table, json: () -> String, fields: @escaping (inout FieldsPrinter) -> Void,
    _ session: Session
  ) throws(CommandFailure) {
    if session.format == .table { return session.console.write(table.drawn) }
    try session.show(simple: { $0.rows(table) }, json: json, fields: fields, protobuf: nil)
  }
}
