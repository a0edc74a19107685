import Testing

@testable import Member

@Suite struct ValidationTests {
  @Test(arguments: [
    (
      ["--listen-peer-urls=http://example.com:2380"],
      "expected IP in URL for binding (http://example.com:2380)"
    ),
    (
      ["--listen-client-urls=http://127.0.0.1:1"],
      "--advertise-client-urls is required when --listen-client-urls is set explicitly"
    ),
    (
      ["--initial-advertise-peer-urls=http://:2380"],
      #"--initial-advertise-peer-urls "http://:2380" must be "host:port" "#
        + "(unexpected empty host (http://:2380))"
    ),
    (
      ["--initial-cluster=a=http://h:1", "--discovery-srv=example.com"],
      "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", "
        + "\"discovery-endpoints\" or \"discovery-srv\""
    ),
    (["--discovery-token=x"], "both --discovery-token and --discovery-endpoints must be set"),
    (["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
    (["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
    (
      ["--heartbeat-interval=300"],
      "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]"
    ),
    (
      ["--election-timeout=50001"],
      "--election-timeout[50001ms] is too long, and should be set less than 50000ms"
    ),
    (["--auto-compaction-mode="], "undefined auto-compaction-mode"),
    (["--auto-compaction-mode=x"], #"unknown auto-compaction-mode "x""#),
    (
      ["--auto-compaction-retention=5x"],
      #"error parsing CompactionRetention: time: unknown unit "x" in duration "5x""#
    ),
    (
      ["--feature-gates=LeaseCheckpointPersist=true"],
      "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
    ),
    (["--compact-hash-check-time=0s"], "--compact-hash-check-time must be >0 (set to 0s)"),
    (["--tls-min-version=x"], #"unexpected TLS version "x" (must be one of: TLS1.2, TLS1.3)"#),
    (
      ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
      "min version (TLS1.3) is greater than max version (TLS1.2)"
    ),
    (["--logger=x"], #"unknown logger option "x""#),
    (["--log-format=x"], "unknown log format: x, supported values json, console"),
    (
      ["--log-outputs=default,stdout"], #"multi logoutput for "default" is not supported yet"#
    ),
    (
      ["--listen-peer-urls=https://127.0.0.1:2380"],
      "cannot listen on TLS for 127.0.0.1:2380: KeyFile and CertFile are not presented"
    ),
    (
      ["--listen-metrics-urls=https://127.0.0.1:1"],
      "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"
    ),
    (
      ["--discovery-fallback=proxy"],
      #"v2 proxy is deprecated, and --discovery-fallback can't be configured as "proxy""#
    ),
    (
      ["--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,X"],
      #"unexpected TLS cipher suite "X""#
    ),
    (
      ["--tls-min-version=TLS1.3", "--cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
      "cipher suites cannot be configured when only TLS1.3 is enabled"
    ),
    (
      ["--auto-tls", "--self-signed-cert-validity=0"],
      "selfSignedCertValidity is invalid,it should be greater than 0"
    ),
    (
      ["--peer-cert-allowed-cn=b,a", "--peer-cert-allowed-hostname=h"],
      "AllowedCNs and AllowedHostnames are mutually exclusive "
        + #"(cns=["a" "b"], hostnames=["h"])"#
    ),
    (
      ["--peer-client-cert-file=/c"],
      "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: /c]"
    ),
    (
      ["--feature-gates=AllAlpha=true"],
      "feature gate StopGRPCServiceOnDefrag is known but not implemented yet in this version; "
        + "remove it to start"
    ),
    (
      ["--experimental-stop-grpc-service-on-defrag"],
      "feature gate StopGRPCServiceOnDefrag is known but not implemented yet in this version; "
        + "remove it to start"
    ),
    (
      ["--initial-cluster=default"],
      "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "
    ),
  ])
  func refusals(arguments: [String], reason: String) throws {
    let exit = try refusal(arguments)
    #expect(exit.exitCode == 1)
    #expect(exit.reason == reason)
    #expect(exit.standardError.isEmpty)
  }

  @Test func ofTwoMistakesTheEarlierCheckSpeaks() throws {
    let exit = try refusal(["--auto-compaction-mode=x", "--heartbeat-interval=0", "--auto-tls"])
    #expect(exit.reason == "--heartbeat-interval must be >0 (set to 0ms)")
    #expect(exit.records.map(\.message).suffix(2) == ["Running: ", "failed to verify flags"])
  }

  @Test func missingAdvertiseURLsGetASecondLine() throws {
    let exit = try refusal(["--listen-client-urls=http://127.0.0.1:1"])
    #expect(exit.records.last?.message == "advertise client URLs are not set")
  }

  @Test func unknownLevelExitsWithTwo() throws {
    let exit = try refusal(["--log-level=foo"])
    #expect(exit.exitCode == 2)
    #expect(exit.standardError == "unrecognized level: \"foo\"\n")
  }

  @Test func everyUnfinishedFlagAcceptsItsDefault() throws {
    for spec in FlagTable.all where spec.support == .unfinished {
      _ = try parsed(["--\(spec.name)=\(spec.defaultText)"])
    }
  }

  @Test func acceptedFlagsAreSaidOnce() throws {
    let (_, records) = try configuration([
      "--raft-read-timeout=9s", "--max-snapshots=3", "--enable-pprof=0",
    ])
    let said = records.filter { $0.message == "flag is accepted but has no effect" }
    #expect(said.map { $0.text("flag") } == ["raft-read-timeout"])
    #expect(
      records.contains {
        $0.message == "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."
      })
  }

  @Test func zeroesTakeTheirMeaning() throws {
    let configuration = try parsed([
      "--snapshot-count=0", "--warning-unary-request-duration=0s", "--quota-backend-bytes=-1",
      "--watch-progress-notify-interval=1ms", "--compaction-batch-limit=0x10",
      "--grpc-keepalive-interval=0s",
    ])
    #expect(configuration.snapshotCount == 10_000)
    #expect(configuration.warningUnaryRequestDuration == .milliseconds(300))
    #expect(configuration.quotaBackendBytes == -1)
    #expect(configuration.watchProgressNotifyInterval == .milliseconds(100))
    #expect(configuration.compactionBatchLimit == 16)
    #expect(configuration.keepaliveInterval == .zero)
  }

  @Test(arguments: [
    (
      ["--auto-compaction-retention=2"],
      MemberConfiguration.AutoCompaction.periodic(.seconds(7_200))
    ),
    (["--auto-compaction-retention=30m"], .periodic(.seconds(1_800))),
    (["--auto-compaction-mode=revision", "--auto-compaction-retention=1000"], .revision(1_000)),
    (["--auto-compaction-mode=revision"], .off),
  ])
  func retention(arguments: [String], expected: MemberConfiguration.AutoCompaction) throws {
    #expect(try parsed(arguments).autoCompaction == expected)
  }

  @Test func theNameReachesTheDefaultCluster() throws {
    let configuration = try parsed([
      "--name=n1", "--initial-advertise-peer-urls=http://10.0.0.1:2380,http://10.0.0.1:2381",
    ])
    #expect(configuration.dataDirectory == "n1.etcd")
    #expect(configuration.initialCluster.map(\.name) == ["n1"])
    #expect(
      configuration.initialCluster[0].peerURLs.map(\.description) == [
        "http://10.0.0.1:2380", "http://10.0.0.1:2381",
      ])
  }

  @Test func theDefaultRouteReplacesLocalhost() throws {
    let (configuration, records) = try configuration(
      ["--name=n1", "--listen-peer-urls=http://0.0.0.0:9380"], defaultHost: "10.1.2.3")
    #expect(configuration.advertisePeerURLs.map(\.description) == ["http://10.1.2.3:9380"])
    #expect(configuration.advertiseClientURLs.map(\.description) == ["http://localhost:2379"])
    #expect(configuration.initialCluster[0].peerURLs == configuration.advertisePeerURLs)
    #expect(records.contains { $0.message == "detected default host for advertise" })
  }

  @Test func urlsAreSortedAndUnixSocketsHavePaths() throws {
    let configuration = try parsed([
      "--listen-client-urls=unix:///run/a.sock,http://[::1]:2379,http://127.0.0.1:2379,"
        + "http://127.0.0.1:2379",
      "--advertise-client-urls=unix://localhost:1",
    ])
    #expect(
      configuration.listenClientURLs.map(\.description) == [
        "http://127.0.0.1:2379", "http://[::1]:2379", "unix:///run/a.sock",
      ])
    #expect(configuration.listenClientURLs[1].host == "::1")
    #expect(configuration.listenClientURLs[1].port == 2379)
    #expect(configuration.listenClientURLs[2].socketPath == "/run/a.sock")
    #expect(configuration.advertiseClientURLs[0].socketPath == "localhost:1")
  }
}

@Suite struct ConfigurationFileTests {
  private let arguments = ["--config-file=/etc/apus.yml"]

  @Test func replacesLineAndEnvironment() throws {
    let (configuration, records) = try configuration(
      arguments + ["--name=fromLine"], ["ETCD_DATA_DIR": "/env", "ETCD_NAME": "fromEnv"],
      file: """
        Name: n1
        data-dir: /file
        snapshot-count: 500
        heartbeat-interval: 50
        grpc-keepalive-interval: 5000000000
        warning-apply-duration: 7ms
        auto-compaction-retention: 1
        log-outputs: [stderr, /tmp/x]
        pre-vote: false
        socket-options: {reuse-port: true}
        listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
        client-transport-security: {client-cert-auth: false, cert-file: ""}
        feature-gates: PriorityRequest=true
        stale-key: 7
        cert-file: /ignored/at/top/level
        """)
    #expect(configuration.name == "n1" && configuration.dataDirectory == "/file")
    #expect(configuration.snapshotCount == 500)
    #expect(configuration.heartbeatInterval == .milliseconds(50))
    #expect(configuration.keepaliveInterval == .seconds(5))
    #expect(configuration.warningApplyDuration == .milliseconds(7))
    #expect(configuration.autoCompaction == .periodic(.seconds(3_600)))
    #expect(configuration.logging.outputs == ["/tmp/x", "stderr"])
    #expect(!configuration.preVote && configuration.socketReusePort)
    #expect(!configuration.socketReuseAddress)
    #expect(configuration.listenClientURLs.count == 2)
    #expect(configuration.advertiseClientURLs.map(\.description) == ["http://localhost:2379"])
    #expect(configuration.featureGates.isEnabled(.priorityRequest))
    #expect(records.first?.text("path") == "/etc/apus.yml")
  }

  @Test func isFoundThroughTheEnvironmentToo() throws {
    let configuration = try parsed([], ["ETCD_CONFIG_FILE": "/etc/apus.yml"], file: "name: n1")
    #expect(configuration.name == "n1")
  }

  @Test(arguments: [
    (
      "snapshot-count: many",
      "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go "
        + "struct field configYAML.snapshot-count of type uint64"
    ),
    (
      "pre-vote: 3",
      "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal number into Go "
        + "struct field configYAML.pre-vote of type bool"
    ),
    ("initial-cluster-state: old", #"unexpected clusterState "old""#),
    (
      "peer-transport-security: {allowed-cn: [a], allowed-hostname: [h]}",
      "AllowedCNs and AllowedHostnames are mutually exclusive "
        + #"(cns=["a"], hostnames=["h"])"#
    ),
    (
      "client-transport-security: {allowed-cn: [a], allowed-hostname: [h]}",
      "AllowedCNs and AllowedHostnames are mutually exclusive "
        + #"(cns=["a"], hostnames=["h"])"#
    ),
    ("feature-gates: X=true", "unrecognized feature gate: X"),
  ])
  func refusals(text: String, reason: String) throws {
    let exit = try refusal(arguments, file: text)
    #expect(exit.exitCode == 1)
    #expect(exit.reason == reason)
  }

  @Test func otherFailures() throws {
    #expect(
      try refusal(["--config-file=/nope"]).reason == "open /nope: no such file or directory")
    let broken = try refusal(arguments, file: "a: [1")
    #expect(broken.reason?.hasPrefix("error converting YAML to JSON: yaml: line") == true)
    let url = try refusal(arguments, file: "listen-peer-urls: http://h")
    #expect(url.exitCode == 1 && url.records.isEmpty)
    #expect(
      url.standardError == "unexpected error setting up listen-peer-urls: "
        + "URL address does not have the form \"host:port\": http://h\n")
    #expect(try refusal(arguments + ["--nosuch"], file: "").exitCode == 2)
  }
}
