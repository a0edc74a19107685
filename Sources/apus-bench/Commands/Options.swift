// Flags that several commands share.

import Actors
import ArgumentParser
import EtcdAPI
import EtcdClient
import Glibc
import TLS

/// Which servers.
struct ServerOptions: ParsableArguments {
  @Option(
    name: .shortAndLong,
    help: """
      Servers, separated by commas: HOST:PORT, http://HOST:PORT, https://HOST:PORT, unix:PATH. The \
      first one decides for all whether they are reached over TLS.
      """)
  var endpoints = "127.0.0.1:2379"

  @Flag(help: "Send everything to the member that leads.")
  var targetLeader = false

  @Option(
    help: ArgumentHelp(
      "Verify certificates of servers with the roots in this file; turns on TLS.", valueName: "file"
    ))
  var cacert: String?

  @Option(
    help: ArgumentHelp("The client's certificate; turns on TLS.", valueName: "file"))
  var cert: String?

  @Option(help: ArgumentHelp("The key to the client's certificate.", valueName: "file"))
  var key: String?

  @Flag(help: "Accept any certificate of a server; turns on TLS.")
  var insecureSkipTLSVerify = false

  @Option(
    help: ArgumentHelp(
      """
      For servers with authentication: logs in once, before the load, and shows the token with \
      every call.
      """, valueName: "name[:password]"))
  var user: String?

  @Option(help: "The password of --user, if it is not part of it.")
  var password: String?

  func validate() throws {
    guard (cert == nil) == (key == nil) else {
      throw ValidationError("--cert and --key go together")
    }
    guard password == nil || user != nil else {
      throw ValidationError("--password goes with --user")
    }
  }

  /// The servers of the load, the leader alone if that was asked for.
  func resolve() async throws -> LoadTarget {
    let all = try endpoints.split(separator: ",").map { try Endpoint(String($0)) }
    guard let first = all.first else { throw ValidationError("--endpoints names no server") }
    let hasFlags = cacert != nil || cert != nil || insecureSkipTLSVerify
    let access = LoadAccess(
      endpoints: all, tls: first.isSecure ?? hasFlags ? try tlsSource() : nil, user: try login())
    return try await access.open(leaderOnly: targetLeader)
  }

  private func tlsSource() throws -> TLSContextSource {
    var settings = EtcdClientOptions.tlsDefaults
    settings.certificateFile = cert ?? ""
    settings.keyFile = key ?? ""
    settings.trustedCAFile = cacert ?? ""
    settings.verifiesPeer = !insecureSkipTLSVerify
    let source = TLSContextSource(.client, settings)
    // A file that is missing or broken is told before the first connection.
    _ = try source.current()
    return source
  }

  private func login() throws -> (name: String, password: String)? {
    guard let user else { return nil }
    if let password { return (user, password) }
    guard let colon = user.firstIndex(of: ":") else {
      throw ValidationError("--user needs a password: NAME:PASSWORD, or --password")
    }
    return (String(user[..<colon]), String(user[user.index(after: colon)...]))
  }
}

/// How hard and how long.
struct LoadOptions: ParsableArguments {
  @Option(name: .shortAndLong, help: "Connections, spread over the servers in turn.")
  var connections = 1

  @Option(
    name: .shortAndLong,
    help: "Calls in flight on each connection; with --rate, at most so many.")
  var streams = 1

  @Option(help: "Threads of the generator, each with its share of the connections.")
  var threads = 1

  @Option(
    help: """
      Calls per second, sent by the clock whether or not earlier ones were answered; a call's time \
      counts from when it was due. 0 sends the next call when one is answered.
      """)
  var rate = 0.0

  @Option(name: .shortAndLong, help: "Seconds to measure.")
  var duration = 5.0

  @Option(help: "Seconds of load before the measurement.")
  var warmUp = 0.0

  @Option(help: "End after so many calls; 0 for no such end. --duration does not apply then.")
  var total = 0

  func validate() throws {
    guard connections > 0, streams > 0, threads > 0 else {
      throw ValidationError("--connections, --streams and --threads must be at least 1")
    }
    guard duration > 0, warmUp >= 0, rate >= 0, total >= 0, duration < 1e6, warmUp < 1e6 else {
      throw ValidationError("--duration must be positive, --warm-up, --rate, --total not negative")
    }
  }

  func plan(_ target: LoadTarget) -> LoadPlan {
    LoadPlan(
      target: target, connections: connections, streams: streams, workers: threads,
      rate: rate, warmUpNanoseconds: UInt64(warmUp * 1e9),
      durationNanoseconds: total > 0 ? UInt64(Int64.max) / 2 : UInt64(duration * 1e9),
      total: total)
  }
}

/// What keys and values look like.
struct KeyOptions: ParsableArguments {
  @Option(help: "What all keys begin with.")
  var prefix = "bench/"

  @Option(help: "Bytes of a key; more if the prefix and the number need them.")
  var keySize = 32

  @Option(help: "Different keys: numbers from 0 below this.")
  var keySpace = 100_000

  @Option(help: "Bytes of a value.")
  var valueSize = 256

  @Flag(help: "Keys one after the other instead of at random.")
  var sequential = false

  @Option(help: "Of the random choices.")
  var seed: UInt64 = 1

  func validate() throws {
    guard keySpace > 0, keySpace <= 1 << 32, valueSize >= 0, keySize > 0 else {
      throw ValidationError("--key-space and --key-size must be positive")
    }
  }

  func workload(_ kind: Workload.Kind) -> Workload {
    var load = Workload(
      kind: kind, keys: KeyShape(prefix: prefix, keyBytes: keySize, space: keySpace),
      keySpace: keySpace)
    load.isSequential = sequential
    load.seed = seed
    // Printable and without pattern, so that nothing is gained by compression.
    var state = seed &+ 88_172_645_463_325_252
    load.value = (0..<valueSize).map { _ in
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return 33 + UInt8(state % 94)
    }
    return load
  }
}

/// How results are shown.
struct OutputOptions: ParsableArguments {
  @Flag(help: "Print one JSON object (times in microseconds) instead of a table.")
  var json = false

  @Flag(help: "No progress line on standard error.")
  var quiet = false

  var progress: Progress { Progress(isShown: !quiet) }

  /// Prints the report. Exits with 1 if there were failures and nothing succeeded.
  func show(_ report: Report) throws {
    print(json ? report.json : report.table, terminator: json ? "\n" : "")
    if report.hasFailures && report.rows.isEmpty { throw ExitCode(1) }
  }
}

/// Runs a load and shows its report.
func execute(
  _ command: String, _ workload: Workload, _ server: ServerOptions, _ load: LoadOptions,
  _ output: OutputOptions
) async throws {
  DescriptorLimit.raise()
  let plan = load.plan(try await server.resolve())
  let before = processorSeconds()
  let result = try await LoadRunner.run(workload, plan, progress: output.progress)
  var report = Report(command: command, result, generatorCPU: processorSeconds() - before)
  if plan.rate > 0 { report.facts.append(("offered_per_second", .number(plan.rate))) }
  try output.show(report)
}
