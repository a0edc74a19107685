import Base
import Testing

@testable import Member

@Suite struct IdentityTests {
  @Test(arguments: [
    (["http://localhost:2380"], "etcd-cluster", "8e9e05c52164694d", "cdf818194e3a8c32"),
    (["http://127.0.0.1:47380"], "etcd-cluster", "f693f74fd84ada81", "643a162628888632"),
  ])
  func singleMemberVectors(urls: [String], token: String, member: String, cluster: String) {
    let id = Identity.memberID(peerURLs: urls, token: token)
    #expect(id.hex == member)
    #expect(Identity.clusterID(members: [id]).hex == cluster)
  }

  @Test func threeMemberVector() throws {
    let configuration = try parsed([
      "--name=b", "--initial-cluster-token=etcd-cluster-1",
      "--initial-advertise-peer-urls=http://10.0.1.11:2380",
      "--initial-cluster=a=http://10.0.1.10:2380,b=http://10.0.1.11:2380,c=http://10.0.1.12:2380",
    ])
    let identities = try configuration.bootstrapNewCluster()
    #expect(identities.clusterID.hex == "acccc8912db0cd57")
    #expect(identities.localID.hex == "d5dc5f8d75d04e29")
    #expect(
      identities.members.map(\.id.hex) == [
        "8a0a11c6194fc77", "140fedbeeb74765d", "d5dc5f8d75d04e29",
      ])
    #expect(identities.members.map(\.name) == ["c", "a", "b"])
  }

  @Test func orderOfURLsAndTimeOfAddition() {
    let urls = ["http://b:1", "http://a:1"]
    #expect(
      Identity.memberID(peerURLs: urls, token: "t")
        == Identity.memberID(peerURLs: urls.reversed(), token: "t"))
    #expect(
      Identity.memberID(peerURLs: urls, addedAt: 1_700_000_000)
        == Identity.memberID(peerURLs: urls, token: "1700000000"))
  }

  @Test(arguments: [
    (
      "x", "a=http://h:1", "http://h:1",
      "couldn't find local name \"x\" in the initial cluster configuration"
    ),
    (
      "a", "a=http://h:1,b=http://h:1", "http://h:1",
      "initial cluster a=http://h:1,b=http://h:1 has duplicate url"
    ),
    (
      "a", "a=http://h:1", "http://h:2",
      "--initial-cluster has a=http://h:1 but missing from --initial-advertise-peer-urls="
        + "http://h:2 ([\"http://h:2\"](resolved from [\"http://h:2\"]) != "
        + "[\"http://h:1\"](resolved from [\"http://h:1\"]))"
    ),
    (
      "a", "a=http://h:1", "http://h:1,http://h:2",
      "--initial-advertise-peer-urls has http://h:2 but missing from --initial-cluster="
        + "a=http://h:1,a=http://h:2 (len([\"http://h:1\" \"http://h:2\"]) != "
        + "len([\"http://h:1\"]))"
    ),
  ])
  func bootstrapRefusals(name: String, cluster: String, advertise: String, text: String) throws {
    let configuration = try parsed([
      "--name=\(name)", "--initial-cluster=\(cluster)",
      "--initial-advertise-peer-urls=\(advertise)",
    ])
    #expect(throws: ConfigurationError(text)) { try configuration.bootstrapNewCluster() }
  }

  @Test func namesThatResolveAlikeAreEqual() throws {
    let configuration = try parsed([
      "--name=a", "--initial-cluster=a=http://node:1",
      "--initial-advertise-peer-urls=http://10.0.0.1:1",
    ])
    let identities = try configuration.bootstrapNewCluster {
      EtcdURL(scheme: $0.scheme, host: "10.0.0.1", port: $0.port)
    }
    #expect(identities.members.map(\.peerURLs.first?.description) == ["http://node:1"])
    #expect(throws: ConfigurationError.self) {
      try configuration.bootstrapNewCluster { $0.host == "node" ? nil : $0 }
    }
  }

  @Test func requestIDsCountUpBehindTheMemberAndTheTime() {
    var generator = RequestIDGenerator(member: 0x1234_5678_9ABC_DEF0, unixMilliseconds: 1 << 41 | 5)
    #expect(generator.next() == 0xDEF0_0000_0000_0501)
    #expect(generator.next() == 0xDEF0_0000_0000_0502)
    #expect(generator.nextLeaseID() == 0x5EF0_0000_0000_0503)
  }

  @Test func theCounterRunsOverIntoTheTimeOnly() {
    var generator = RequestIDGenerator(member: 7, unixMilliseconds: 1 << 40 - 1)
    for _ in 0..<256 { _ = generator.next() }
    #expect(generator.next() == 7 << 48 | 1)
  }
}

@Suite struct GoDurationTests {
  @Test(arguments: [
    ("0", 0), ("5s", 5_000_000_000), ("1h30m", 5_400_000_000_000), ("-1.5h", -5_400_000_000_000),
    ("300ms", 300_000_000), (".5s", 500_000_000), ("1us", 1_000), ("1\u{B5}s", 1_000),
    ("1\u{3BC}s", 1_000), ("1.0000000019s", 1_000_000_001), ("+3ns", 3),
    ("9223372036854775807ns", Int64.max), ("-9223372036854775808ns", Int64.min),
  ])
  func parses(text: String, nanoseconds: Int64) throws {
    #expect(try GoDuration.parse(text).wholeNanoseconds == nanoseconds)
  }

  @Test(arguments: [
    ("", #"time: invalid duration """#), ("x", #"time: invalid duration "x""#),
    ("5", #"time: missing unit in duration "5""#),
    ("5y", #"time: unknown unit "y" in duration "5y""#), ("-", #"time: invalid duration "-""#),
    ("9223372036854775808ns", #"time: invalid duration "9223372036854775808ns""#),
    ("3000000h", #"time: invalid duration "3000000h""#),
  ])
  func refuses(text: String, reason: String) {
    #expect { try GoDuration.parse(text) } throws: { "\($0)" == reason }
  }

  @Test(arguments: [
    (0, "0s"), (1, "1ns"), (1_500, "1.5\u{B5}s"), (123_400_000, "123.4ms"),
    (1_000_000_000, "1s"), (2_500_000_000, "2.5s"), (60_000_000_000, "1m0s"),
    (5_400_000_000_000, "1h30m0s"), (-90_000_000_000, "-1m30s"), (1_000_000_001, "1.000000001s"),
  ])
  func formats(nanoseconds: Int64, text: String) {
    #expect(GoDuration.format(nanoseconds: nanoseconds) == text)
  }
}
