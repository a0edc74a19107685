import Testing

@testable import Member

private func text(_ registry: MetricsRegistry) -> String {
  String(decoding: registry.render(), as: UTF8.self)
}

@Suite struct MetricsTests {
  @Test func familiesAreSortedAndTyped() {
    let registry = MetricsRegistry()
    registry.gauge("b_now", "Now.\nAnd \\ then.").set(-3)
    registry.counter("a_total", "All.").increment(by: 5)
    registry.computed("c", "Computed.", kind: .gauge) { 1.5 }
    registry.computed("d", "Left out.", kind: .gauge) { nil }
    #expect(
      text(registry) == """
        # HELP a_total All.
        # TYPE a_total counter
        a_total 5
        # HELP b_now Now.\\nAnd \\\\ then.
        # TYPE b_now gauge
        b_now -3
        # HELP c Computed.
        # TYPE c gauge
        c 1.5

        """)
  }

  @Test func labelsAreSortedAndEscaped() {
    let registry = MetricsRegistry()
    let family = registry.counters("x_total", "X.", labels: ["z", "a"])
    #expect(text(registry).isEmpty)
    family.series("2", "q\"\\\n").increment()
    family.series("1", "b").increment(by: 2)
    family.series("1", "b").increment()
    #expect(
      text(registry) == """
        # HELP x_total X.
        # TYPE x_total counter
        x_total{a="b",z="1"} 3
        x_total{a="q\\"\\\\\\n",z="2"} 1

        """)
  }

  @Test func histogramsAreCumulative() {
    let registry = MetricsRegistry()
    let histogram = registry.histogram("h", "H.", bounds: [0.001, 0.5, 2])
    histogram.observe(0.001)
    histogram.observe(Duration.milliseconds(250))
    histogram.observe(3.0)
    #expect(
      text(registry) == """
        # HELP h H.
        # TYPE h histogram
        h_bucket{le="0.001"} 1
        h_bucket{le="0.5"} 2
        h_bucket{le="2"} 2
        h_bucket{le="+Inf"} 3
        h_sum 3.251
        h_count 3

        """)
  }

  @Test(arguments: [
    (0.0, "0"), (1, "1"), (-1, "-1"), (123_456, "123456"), (1_000_000, "1e+06"),
    (2_147_483_648, "2.147483648e+09"), (0.0001, "0.0001"), (0.00005, "5e-05"), (8.192, "8.192"),
    (52.4288, "52.4288"), (1.5e300, "1.5e+300"), (-2.5, "-2.5"), (100, "100"),
    (.infinity, "+Inf"), (.nan, "NaN"),
  ])
  func numbersAreWrittenAsGoDoes(value: Double, expected: String) {
    #expect(MetricsText.number(value) == expected)
  }

  @Test func exponentialBounds() {
    #expect(Histogram.exponential(0.001, 2, 4) == [0.001, 0.002, 0.004, 0.008])
    #expect(MemberMetrics.timeBounds.last == 8.192)
  }

  @Test func updatesFromManyThreadsAddUp() async {
    let counter = Counter()
    let histogram = Histogram(bounds: [1, 2])
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          for turn in 0..<1_000 {
            counter.increment()
            histogram.observe(Double(turn % 3))
          }
        }
      }
    }
    #expect(counter.value == 4_000)
    let snapshot = histogram.snapshot()
    #expect(snapshot.cumulative == [2_668, 4_000, 4_000])
    #expect(snapshot.sum == 4 * (333 + 2 * 333))
    counter.advance(to: 10)
    #expect(counter.value == 4_000)
    counter.advance(to: 5_000)
    #expect(counter.value == 5_000)
  }
}

@Suite struct MemberMetricsTests {
  private func lines(_ metrics: MemberMetrics) -> [Substring] {
    String(decoding: metrics.render(), as: UTF8.self).split(separator: "\n")
  }

  @Test func aLinkThatIsActiveBeforeItsMemberIsAddedStaysActive() {
    let metrics = MemberMetrics()
    metrics.network.activePeers.series("a", "b").set(true)
    metrics.network.addPeer(local: "a", remote: "b")
    #expect(lines(metrics).contains("etcd_network_active_peers{Local=\"a\",Remote=\"b\"} 1"))
    metrics.network.removePeer(local: "a", remote: "b")
    #expect(lines(metrics).contains("etcd_network_active_peers{Local=\"a\",Remote=\"b\"} 0"))
  }

  @Test func aFreshMemberExportsEtcdsSeries() throws {
    let metrics = MemberMetrics()
    metrics.setConfiguration(try parsed([]))
    metrics.info.setMemberID("8e9e05c52164694d")
    metrics.info.setClusterVersion("3.6")
    metrics.info.setClusterVersion("3.7")
    metrics.network.addPeer(local: "a", remote: "b")
    metrics.mvcc.putTotal.increment()
    let lines = lines(metrics)
    for line in [
      "etcd_server_version{server_version=\"3.7.1\"} 1",
      "etcd_cluster_version{cluster_version=\"3.6\"} 0",
      "etcd_cluster_version{cluster_version=\"3.7\"} 1",
      "etcd_server_quota_backend_bytes 2.147483648e+09",
      "etcd_server_id{server_id=\"8e9e05c52164694d\"} 1",
      "etcd_server_feature_enabled{name=\"FastLeaseKeepAlive\",stage=\"BETA\"} 1",
      "etcd_server_feature_enabled{name=\"AllAlpha\",stage=\"ALPHA\"} 0",
      "# TYPE etcd_server_proposals_committed_total gauge",
      "# TYPE etcd_disk_wal_write_bytes_total gauge",
      "# TYPE etcd_server_health_success counter",
      "etcd_mvcc_put_total 1",
      "etcd_network_peer_sent_failures_total{To=\"b\"} 0",
      "etcd_network_known_peers{Local=\"a\",Remote=\"b\"} 1",
      "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0",
      "promhttp_metric_handler_requests_total{code=\"503\"} 0",
    ] { #expect(lines.contains(Substring(line)), "\(line)") }
    #expect(!lines.contains { $0.contains("grpc_server_handling_seconds") })
  }

  @Test func everyRPCHasAllItsSeries() throws {
    let metrics = MemberMetrics(extensive: true)
    #expect(metrics.grpc.methods.count == 52)
    #expect(GRPCMetrics.codes.count == 17)
    let put = try #require(metrics.grpc.method(path: "/etcdserverpb.KV/Put"))
    put.started.increment()
    put.handled(code: 0)
    put.handled(code: 99)
    put.handlingTime?.observe(0.2)
    let lines = lines(metrics)
    #expect(lines.filter { $0.hasPrefix("grpc_server_started_total{") }.count == 52)
    #expect(lines.filter { $0.hasPrefix("grpc_server_handled_total{") }.count == 52 * 17)
    let labels = #"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#
    for line in [
      "grpc_server_started_total{\(labels)} 1",
      "grpc_server_handled_total{grpc_code=\"OK\",\(labels)} 1",
      "grpc_server_handled_total{grpc_code=\"Unknown\",\(labels)} 1",
      "grpc_server_handling_seconds_bucket{\(labels),le=\"0.25\"} 1",
    ] { #expect(lines.contains(Substring(line)), "\(line)") }
    #expect(
      lines.contains {
        $0.hasPrefix("grpc_server_msg_sent_total{grpc_method=\"Watch\"")
          && $0.contains("bidi_stream")
      })
  }

  @Test func theProcessIsVisible() throws {
    let lines = lines(MemberMetrics())
    for name in [
      "process_cpu_seconds_total", "process_open_fds", "process_max_fds",
      "process_resident_memory_bytes", "process_virtual_memory_bytes",
      "process_virtual_memory_max_bytes", "process_start_time_seconds", "os_fd_used",
      "os_fd_limit",
    ] {
      let line = try #require(lines.first { $0.hasPrefix(name + " ") })
      let value = try #require(Double(line.dropFirst(name.count + 1)))
      #expect(value > 0 || name == "process_cpu_seconds_total")
    }
  }

  @Test func statFieldsFollowTheLastBracket() throws {
    let text =
      "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 110 40 13 14 15 16 17 18 9000 4096000 250 20 21"
    let stat = try #require(ProcessMetrics.Stat(text))
    #expect(stat.cpuTicks == 150 && stat.startTicks == 9_000)
    #expect(stat.virtualBytes == 4_096_000 && stat.residentPages == 250)
    #expect(ProcessMetrics.Stat("12 (a) S 1") == nil)
    #expect(ProcessMetrics.bootTime("cpu 1 2\nbtime 1700000000\nx 1\n") == 1_700_000_000)
  }
}
