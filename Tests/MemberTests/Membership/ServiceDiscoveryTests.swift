import Actors
import Testing

@testable import Member

@Suite struct ServiceDiscoveryTests {
  /// A cluster as a table of names says it. Hosts with a known address lead there.
  private func find(
    _ records: [String: [ServiceRecord]], addresses: [String: String], suffix: String = "",
    advertised: [String] = ["http://m1.test:1"]
  ) throws -> [MemberConfiguration.InitialMember] {
    try ServiceDiscovery(
      name: "m1", domain: .init(domain: "test", suffix: suffix),
      advertised: try advertised.map { try EtcdURL($0) }, log: .silent(),
      services: { name throws(NameError) in
        guard let found = records[name] else { throw NameError("lookup \(name): no such host") }
        return found
      },
      address: { host throws(NameError) in
        let name = host.hasSuffix(".") ? String(host.dropLast()) : host
        guard let found = addresses[name] else { throw NameError("lookup \(host): no such host") }
        return found
      }
    ).find()
  }

  private func text(_ members: [MemberConfiguration.InitialMember]) -> [String] {
    members.flatMap { member in member.peerURLs.map { "\(member.name)=\($0)" } }
  }

  private let addresses = ["m1.test": "10.0.0.1", "m2.test": "10.0.0.2", "m3.test": "10.0.0.3"]

  @Test func theAdvertisedAddressBearsTheOwnName() throws {
    let records = [
      "_etcd-server-x._tcp.test": [
        ServiceRecord(host: "m2.test.", port: 1), ServiceRecord(host: "m1.test.", port: 2),
        ServiceRecord(host: "m1.test.", port: 1), ServiceRecord(host: "gone.test.", port: 1),
      ]
    ]
    // The one that leads nowhere is left out.
    #expect(
      text(try find(records, addresses: addresses, suffix: "x")) == [
        "0=http://m2.test:1", "1=http://m1.test:2", "m1=http://m1.test:1",
      ])
  }

  @Test func bothServicesTogetherAreTheCluster() throws {
    let records = [
      "_etcd-server-ssl._tcp.test": [ServiceRecord(host: "m2.test.", port: 1)],
      "_etcd-server._tcp.test": [
        ServiceRecord(host: "m1.test.", port: 1), ServiceRecord(host: "m3.test.", port: 1),
      ],
    ]
    // Both count from nought, as in etcd: equal names are one member.
    #expect(
      text(try find(records, addresses: addresses)) == [
        "0=http://m3.test:1", "0=https://m2.test:1", "m1=http://m1.test:1",
      ])
  }

  @Test func refusals() {
    func reason(_ records: [String: [ServiceRecord]], _ url: String = "http://m1.test:1") -> String
    {
      do {
        return try text(find(records, addresses: addresses, advertised: [url])).joined()
      } catch {
        return "\(error)"
      }
    }
    let start = "error setting up initial cluster: "
    func missing(_ service: String) -> String {
      "error querying DNS SRV records for _\(service) lookup _\(service)._tcp.test: no such host"
    }
    #expect(reason([:]) == start + missing("etcd-server-ssl") + "; " + missing("etcd-server"))
    let own = [ServiceRecord(host: "m1.test.", port: 1)]
    #expect(
      reason(["_etcd-server-ssl._tcp.test": own])
        == start
        + "error querying DNS SRV records for _etcd-server-ssl bootstrap at https://m1.test:1 from "
        + "DNS for etcd-server-ssl has scheme mismatch with expected peer http://m1.test:1; "
        + missing("etcd-server"))
    #expect(
      reason(["_etcd-server._tcp.test": own], "http://m2.test:1")
        == start + "cannot find local etcd member \"m1\" in SRV records")
    let lookup = "lookup gone.test: no such host"
    #expect(
      reason(["_etcd-server._tcp.test": own], "http://gone.test:1") == start
        + "\(lookup); \(lookup)")
    #expect(reason([:], "unix://m1:1").hasPrefix(start + "address unix://m1:1"))
  }
}
