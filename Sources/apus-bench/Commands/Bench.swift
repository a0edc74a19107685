// The command line.

import ArgumentParser

@main
struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus-bench",
    abstract: "Puts load on servers that speak etcd's API, and measures their answers.",
    discussion: """
      Closed loop by default: every connection keeps --streams calls in flight. With --rate, calls \
      are sent by the clock, and a slow server shows in the times instead of slowing the clock.
      Ends with 1 if every call failed, or no connection came about; single failures are counted.

      Examples:

        apus-bench put -c 16 -s 64 -d 5
        apus-bench put -c 16 -s 64 --rate 20000 --json
        apus-bench txn --puts 100 --sequential --key-space 1000000 --total 10000 -c 4 -s 8
        apus-bench range -c 128 --serializable --span 100
        apus-bench watch --watchers 200
        apus-bench put -e https://10.0.0.1:2379 --cacert ca.pem --user root:secret
      """,
    version: "apus-bench 0.1.0",
    subcommands: [
      PutCommand.self, RangeCommand.self, TxnCommand.self, MixedCommand.self, WatchCommand.self,
      LeaseGrantCommand.self,
      LeaseKeepAliveCommand.self,
    ])
}

struct PutCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "put",
    abstract: "Puts of one key each.")

  @OptionGroup var server: ServerOptions
  @OptionGroup var load: LoadOptions
  @OptionGroup var keys: KeyOptions
  @OptionGroup var output: OutputOptions

  @Option(help: "Attach every key to this lease, which must exist; 0 for none.")
  var lease: UInt64 = 0

  func run() async throws {
    var workload = keys.workload(.put)
    workload.lease = lease
    try await execute("put", workload, server, load, output)
  }
}

/// What reads ask for.
struct ReadOptions: ParsableArguments {
  @Flag(help: "Serializable reads: answered by the member alone.")
  var serializable = false

  @Option(help: "Keys in each range; 1 reads a single key.")
  var span = 1

  @Option(help: "Limit of each range; 0 for none.")
  var limit = 0

  @Flag(help: "Ask for keys without values.")
  var keysOnly = false

  @Flag(help: "Ask for the count alone.")
  var countOnly = false

  func validate() throws {
    guard span > 0, limit >= 0 else { throw ValidationError("--span must be at least 1") }
  }

  func apply(to workload: inout Workload) {
    workload.isSerializable = serializable
    workload.span = span
    workload.limit = limit
    workload.keysOnly = keysOnly
    workload.countOnly = countOnly
  }
}

struct RangeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "range",
    abstract: "Reads of one key, or of a range of keys. Fill the key space first.")

  @OptionGroup var server: ServerOptions
  @OptionGroup var load: LoadOptions
  @OptionGroup var keys: KeyOptions
  @OptionGroup var read: ReadOptions
  @OptionGroup var output: OutputOptions

  func run() async throws {
    var workload = keys.workload(.range)
    read.apply(to: &workload)
    try await execute("range", workload, server, load, output)
  }
}

struct TxnCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "txn",
    abstract: "Transactions that compare a key's version and put; all of them succeed.",
    discussion: "With --puts 100 --sequential, the fast way to fill a key space.")

  @OptionGroup var server: ServerOptions
  @OptionGroup var load: LoadOptions
  @OptionGroup var keys: KeyOptions
  @OptionGroup var output: OutputOptions

  @Option(help: "Puts in each transaction, of keys with consecutive numbers.")
  var puts = 1

  func validate() throws {
    guard puts > 0, puts <= keys.keySpace else {
      throw ValidationError("--puts must be at least 1 and at most --key-space")
    }
  }

  func run() async throws {
    try await execute("txn", keys.workload(.txn(puts: puts)), server, load, output)
  }
}

struct MixedCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mixed",
    abstract: "Reads and puts on the same keys.")

  @OptionGroup var server: ServerOptions
  @OptionGroup var load: LoadOptions
  @OptionGroup var keys: KeyOptions
  @OptionGroup var read: ReadOptions
  @OptionGroup var output: OutputOptions

  @Option(help: "The share of reads, from 0 to 1.")
  var reads = 0.9

  func validate() throws {
    guard (0...1).contains(reads) else { throw ValidationError("--reads lies between 0 and 1") }
  }

  func run() async throws {
    var workload = keys.workload(.mixed(readShare: reads))
    read.apply(to: &workload)
    try await execute("mixed", workload, server, load, output)
  }
}

struct LeaseGrantCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lease-grant",
    abstract: "Grants of leases with numbers of their own, one after the other from --first.")

  @OptionGroup var server: ServerOptions
  @OptionGroup var load: LoadOptions
  @OptionGroup var output: OutputOptions

  @Option(help: "The number of the first lease.")
  var first: UInt64 = 1_000_000

  @Option(help: "Seconds that leases live.")
  var ttl = 3600

  func run() async throws {
    var workload = KeyOptions.plain(.leaseGrant(ttl: ttl))
    workload.leaseBase = first
    try await execute("lease-grant", workload, server, load, output)
  }
}

struct LeaseKeepAliveCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lease-keepalive",
    abstract: "Keepalives of random leases, each on a stream of its own.",
    discussion: "Grant the leases first, with lease-grant and the same --first.")

  @OptionGroup var server: ServerOptions
  @OptionGroup var load: LoadOptions
  @OptionGroup var output: OutputOptions

  @Option(help: "The number of the first lease.")
  var first: UInt64 = 1_000_000

  @Option(help: "How many leases there are.")
  var leases = 1000

  func validate() throws {
    guard leases > 0 else { throw ValidationError("--leases must be at least 1") }
  }

  func run() async throws {
    var workload = KeyOptions.plain(.leaseKeepAlive)
    workload.leaseBase = first
    workload.keySpace = leases
    try await execute("lease-keepalive", workload, server, load, output)
  }
}

extension KeyOptions {
  /// A load that has no keys.
  static func plain(_ kind: Workload.Kind) -> Workload {
    Workload(kind: kind, keys: KeyShape(prefix: "", keyBytes: 1, space: 1), keySpace: 1)
  }
}
