import Testing

@testable import Member

@Suite struct CommandLineTests {
  @Test func defaultsAreEtcds() throws {
    let (configuration, records) = try configuration([])
    #expect(configuration.name == "default")
    #expect(configuration.dataDirectory == "default.etcd")
    #expect(configuration.walDirectoryPath == "default.etcd/member/wal")
    #expect(configuration.listenClientURLs.map(\.description) == ["http://localhost:2379"])
    #expect(configuration.advertiseClientURLs.map(\.description) == ["http://localhost:2379"])
    #expect(configuration.initialCluster.map(\.name) == ["default"])
    #expect(configuration.heartbeatInterval == .milliseconds(100))
    #expect(configuration.electionTicks == 10)
    #expect(configuration.requestTimeout == .seconds(7))
    #expect(configuration.snapshotCount == 10_000)
    #expect(configuration.quotaBackendBytes == 2_147_483_648)
    #expect(configuration.maxConcurrentStreams == .max)
    #expect(configuration.keepaliveInterval == .seconds(7_200))
    #expect(configuration.watchProgressNotifyInterval == .seconds(600))
    #expect(configuration.autoCompaction == .off)
    #expect(configuration.preVote && configuration.strictReconfigCheck)
    #expect(configuration.featureGates.isEnabled(.fastLeaseKeepAlive))
    #expect(
      records.map(\.message).filter { $0.contains("data-dir") } == [
        "'data-dir' was empty; using default"
      ])
  }

  @Test(arguments: [
    ["--name", "n1"], ["-name", "n1"], ["--name=n1"], ["-name=n1"], ["--name=a", "--name", "n1"],
  ])
  func spellingsOfAFlag(arguments: [String]) throws {
    #expect(try parsed(arguments).name == "n1")
  }

  @Test func valuesMayHoldEqualsSigns() throws {
    let configuration = try parsed([
      "--name=n1", "--initial-cluster=n1=http://127.0.0.1:2380,n2=http://127.0.0.1:2480",
      "--initial-advertise-peer-urls=http://127.0.0.1:2380",
    ])
    #expect(configuration.initialCluster.map(\.name) == ["n1", "n2"])
  }

  @Test(arguments: [
    (["--pre-vote"], true), (["--pre-vote=false"], false), (["--pre-vote=F"], false),
    (["--pre-vote=0"], false), (["--pre-vote=false", "--pre-vote=T"], true),
  ])
  func boolWords(arguments: [String], expected: Bool) throws {
    #expect(try parsed(arguments).preVote == expected)
  }

  @Test(arguments: [
    (["--nosuch"], "flag provided but not defined: -nosuch"),
    (
      ["--snapshot-count", "foo"],
      #"invalid value "foo" for flag -snapshot-count: parse error"#
    ),
    (
      ["--snapshot-count=99999999999999999999"],
      #"invalid value "99999999999999999999" for flag -snapshot-count: value out of range"#
    ),
    (["--pre-vote=maybe"], #"invalid boolean value "maybe" for -pre-vote: parse error"#),
    (["--name"], "flag needs an argument: -name"),
    (["---name"], "bad flag syntax: ---name"),
    (["--=x"], "bad flag syntax: --=x"),
    (
      ["--listen-client-urls", "http://127.0.0.1"],
      #"invalid value "http://127.0.0.1" for flag -listen-client-urls: "#
        + #"URL address does not have the form "host:port": http://127.0.0.1"#
    ),
    (
      ["--listen-client-urls", "http://127.0.0.1:2379/"],
      #"invalid value "http://127.0.0.1:2379/" for flag -listen-client-urls: "#
        + "URL must not contain a path: http://127.0.0.1:2379/"
    ),
    (
      ["--listen-client-urls", "localhost:2379"],
      #"invalid value "localhost:2379" for flag -listen-client-urls: "#
        + "URL scheme must be http, https, unix, or unixs: localhost:2379"
    ),
    (
      ["--listen-client-urls=127.0.0.1:2379"],
      #"invalid value "127.0.0.1:2379" for flag -listen-client-urls: "#
        + #"parse "127.0.0.1:2379": first path segment in URL cannot contain colon"#
    ),
    (
      ["--initial-cluster-state=old"],
      #"invalid value "old" for flag -initial-cluster-state: invalid value"#
    ),
    (
      ["--max-concurrent-streams=x"],
      #"invalid value "x" for flag -max-concurrent-streams: "#
        + #"strconv.ParseUint: parsing "x": invalid syntax"#
    ),
    (
      ["--feature-gates=Nope=true"],
      #"invalid value "Nope=true" for flag -feature-gates: unrecognized feature gate: Nope"#
    ),
    (
      ["--feature-gates=AllBeta"],
      #"invalid value "AllBeta" for flag -feature-gates: missing bool value for AllBeta"#
    ),
    (
      ["--warning-apply-duration=5"],
      #"invalid value "5" for flag -warning-apply-duration: parse error"#
    ),
    (
      ["--cors=http://a.example"],
      #"invalid value "http://a.example" for flag -cors: "#
        + #"URL address does not have the form "host:port": http://a.example"#
    ),
  ])
  func malformedLinesExitWithTwo(arguments: [String], line: String) throws {
    let exit = try refusal(arguments)
    #expect(exit.exitCode == 2)
    #expect(exit.standardError.hasPrefix(line + "\nUsage:\n"))
    #expect(exit.standardOutput.isEmpty && exit.records.isEmpty)
  }

  @Test func aFlagsLaterMistakeIsFoundAfterEarlierFlags() throws {
    // The switch takes no separate value, so `false` ends the flags and `--nosuch` is not read.
    let exit = try refusal(["--pre-vote", "false", "--nosuch"])
    #expect(exit.reason == #""false" is not a valid flag"#)
    #expect(try refusal(["foo"]).reason == #""foo" is not a valid flag"#)
    #expect(try refusal(["--", "foo"]).reason == #""foo" is not a valid flag"#)
    #expect(try refusal(["foo"]).exitCode == 1)
  }

  @Test func leftoversAreSwallowed() throws {
    #expect(try parsed(["-v", "--force", "--snapshot=true", "--name=n1"]).name == "n1")
  }

  @Test func helpListsEveryFlag() throws {
    let exit = try refusal(["--help"])
    #expect(exit.exitCode == 0)
    #expect(exit.standardError.hasPrefix("Usage:"))
    for spec in FlagTable.all { #expect(exit.standardOutput.contains("  --\(spec.name) ")) }
    #expect(try refusal(["-h"]).standardOutput == exit.standardOutput)
  }

  @Test func versionHasEtcdsLinesAndOurs() throws {
    let exit = try refusal(["--name=x", "--version"])
    let lines = exit.standardOutput.split(separator: "\n")
    #expect(exit.exitCode == 0 && exit.standardError.isEmpty)
    #expect(lines.first == "etcd Version: 3.7.1")
    #expect(
      lines.dropFirst().map { $0.prefix { $0 != ":" } } == [
        "Git SHA", "Go Version", "Go OS/Arch", "Apus Version",
      ])
  }

  @Test func retiredSpellingsAreMappedWithAWarning() throws {
    let (configuration, records) = try configuration([
      "--experimental-watch-progress-notify-interval=5s", "--debug", "--enable-v2=false",
      "--proxy=off", "--experimental-txn-mode-write-with-shared-buffer=false",
      "--experimental-backend-bbolt-freelist-type", "map", "--logger=capnslog",
    ])
    #expect(configuration.watchProgressNotifyInterval == .seconds(5))
    #expect(configuration.logging.level == .debug)
    #expect(!configuration.featureGates.isEnabled(.txnModeWriteWithSharedBuffer))
    let warned = records.filter { $0.message == "flag of an earlier release is used" }
    #expect(
      warned.map { $0.text("flag") } == [
        "experimental-watch-progress-notify-interval", "debug", "enable-v2", "proxy",
        "experimental-txn-mode-write-with-shared-buffer",
        "experimental-backend-bbolt-freelist-type", "logger",
      ])
    #expect(try refusal(["--enable-v2"]).reason?.contains("there is no v2 API") == true)
    #expect(try refusal(["--proxy=on"]).exitCode == 1)
  }
}

@Suite struct EnvironmentTests {
  @Test func fillsInWhatTheLineLeavesOpen() throws {
    let (configuration, records) = try configuration(
      ["--name=n1"],
      [
        "ETCD_DATA_DIR": "/d", "ETCD_PRE_VOTE": "false", "ETCD_MAX_TXN_OPS": "", "HOME": "/x",
        "ETCD_PORT": "tcp://10.0.0.1:1", "ETCD_VERSION": "v3", "ETCD_UNSUPPORTED_ARCH": "riscv64",
      ])
    #expect(configuration.dataDirectory == "/d" && !configuration.preVote)
    #expect(configuration.maxTxnOps == 128)
    let used = records.filter { $0.message == "recognized and used environment variable" }
    #expect(used.map { $0.text("variable-name") } == ["ETCD_DATA_DIR", "ETCD_PRE_VOTE"])
    let unknown = records.filter { $0.message == "unrecognized environment variable" }
    #expect(unknown.map { $0.text("environment-variable") } == ["ETCD_PORT=tcp://10.0.0.1:1"])
    #expect(records.first?.message == "cannot set special environment variable")
  }

  @Test func aFlagGivenTwiceOverIsFatal() throws {
    let exit = try refusal(["--name=n1"], ["ETCD_NAME": "n2"])
    #expect(exit.exitCode == 1)
    #expect(exit.records.last?.level == .fatal)
    #expect(
      exit.records.last?.message
        == "conflicting environment variable is shadowed by corresponding command-line flag "
        + "(either unset environment variable or disable flag))")
    #expect(exit.records.last?.text("environment-variable") == "ETCD_NAME")
  }

  @Test func badValue() throws {
    let exit = try refusal([], ["ETCD_SNAPSHOT_COUNT": "V"])
    #expect(exit.exitCode == 1)
    #expect(exit.reason == #"invalid value "V" for ETCD_SNAPSHOT_COUNT: parse error"#)
  }

  @Test func retiredNamesAreRead() throws {
    let old = ["ETCD_EXPERIMENTAL_COMPACTION_BATCH_LIMIT": "7"]
    #expect(try parsed([], old).compactionBatchLimit == 7)
    #expect(try parsed(["--compaction-batch-limit=9"], old).compactionBatchLimit == 9)
    let both = old.merging(["ETCD_COMPACTION_BATCH_LIMIT": "8"]) { $1 }
    #expect(try parsed([], both).compactionBatchLimit == 8)
    #expect(try refusal(["--experimental-compaction-batch-limit=1"], both).exitCode == 1)
  }
}
