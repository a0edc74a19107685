import Base
import Member

/// Command lines, environments and configuration files.
struct ConfigurationTarget: FuzzTarget {
  static let name = "configuration"

  private struct NotFound: Error {}

  static var corpus: [Bytes] {
    [
      """
      name: m1
      data-dir: /tmp/m1
      listen-peer-urls: http://127.0.0.1:2380
      listen-client-urls: http://127.0.0.1:2379,http://[::1]:2379
      advertise-client-urls: http://127.0.0.1:2379
      initial-advertise-peer-urls: http://127.0.0.1:2380
      initial-cluster: m1=http://127.0.0.1:2380,m2=http://127.0.0.2:2380
      initial-cluster-state: new
      heartbeat-interval: 100
      election-timeout: 1000
      quota-backend-bytes: 8589934592
      auto-compaction-retention: "5m"
      log-level: debug
      client-transport-security: {cert-file: a, key-file: b, client-cert-auth: true}
      """,
      "--name=m1\n--data-dir=/tmp/x\n--listen-client-urls\nhttp://127.0.0.1:2379\n"
        + "--heartbeat-interval=50\n--election-timeout=500\n--snapshot-count=100\n"
        + "--max-txn-ops=5\n--log-outputs=stderr\n--feature-gates=InitialCorruptCheck=true",
      "ETCD_NAME=x\nETCD_HEARTBEAT_INTERVAL=100\nETCD_INITIAL_CLUSTER=x=http://localhost:2380",
    ].map { Bytes($0.utf8) }
  }

  mutating func read(_ input: Bytes, _ random: inout SeededGenerator) {
    let text = String(decoding: input, as: UTF8.self)
    _ = MemberConfiguration.parse(
      arguments: ["--config-file=c"], environment: [:], readFile: { _ in text })
    let words = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    _ = MemberConfiguration.parse(
      arguments: words, environment: [:], readFile: { _ in throw NotFound() })
    var environment: [String: String] = [:]
    for word in words {
      let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
      if parts.count == 2 { environment[parts[0]] = parts[1] }
    }
    _ = MemberConfiguration.parse(
      arguments: [], environment: environment, readFile: { _ in throw NotFound() })
  }
}
