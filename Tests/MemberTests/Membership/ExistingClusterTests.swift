import Base
import StoreActor
import Testing

@testable import Member

@Suite struct ExistingClusterTests {
  private func expected(_ members: [(String, [String])]) throws
    -> [MemberConfiguration.InitialMember]
  {
    try members.map { name, urls in
      .init(name: name, peerURLs: try urls.map { try EtcdURL($0) })
    }
  }

  private let told = [
    MemberRecord(id: 7, peerURLs: ["http://a:1", "http://a:2"], name: "a"),
    MemberRecord(id: 3, peerURLs: ["http://b:1"]),
  ]

  private func cluster(
    _ members: [(String, [String])], name: String = "b", told: [MemberRecord]? = nil,
    maxLearners: Int = 1, resolve: (EtcdURL) -> EtcdURL? = { $0 }
  ) throws -> ExistingCluster {
    try ExistingCluster(
      id: 0xcdf8, members: told ?? self.told, expected: try expected(members), name: name,
      maxLearners: maxLearners, resolve: resolve)
  }

  private func failure(_ body: () throws -> ExistingCluster) -> String {
    do {
      return "joined \(try body().id)"
    } catch {
      return "\(error)"
    }
  }

  @Test func theOwnIDIsThatOfTheMemberWithTheSameURLs() throws {
    // Names in the list do not matter, nor does the order of URLs.
    let cluster = try cluster([("b", ["http://b:1"]), ("other", ["http://a:2", "http://a:1"])])
    #expect(cluster.id == 0xcdf8)
    #expect(cluster.local == 3)
    #expect(cluster.members.map(\.id) == [3, 7])
  }

  @Test func namesOfHostsMayStandForAddresses() throws {
    let cluster = try cluster([("b", ["http://host:1"]), ("a", ["http://a:1", "http://a:2"])]) {
      $0.host == "host" ? try? EtcdURL("http://b:1") : $0
    }
    #expect(cluster.local == 3)
  }

  @Test func everyDifferenceIsRefused() {
    let a = ("a", ["http://a:1", "http://a:2"])
    #expect(
      failure { try cluster([("b", ["http://b:1"])]) }
        == "error validating peerURLs {ClusterID:cdf8 Members:[b=http://b:1] "
        + "RemovedMemberIDs:[]}: member count is unequal")
    #expect(
      failure { try cluster([("b", ["http://b:2"]), a]) }.hasSuffix(
        "PeerURLs: no match found for existing member (3, [http://b:1]), last resolver error (<nil>)"
      ))
    #expect(
      failure { try cluster([("b", ["http://b:1", "http://b:2"]), a]) }
        .contains("no match found for existing member"))
    let learners = told.map { record in
      var record = record
      record.isLearner = true
      return record
    }
    #expect(
      failure { try cluster([("b", ["http://b:1"]), a], told: learners) }
        == "membership: too many learner members in cluster")
  }

  @Test func aMemberThatHasLivedBeforeIsRefused() {
    let text = failure {
      try cluster([("a", ["http://a:1", "http://a:2"]), ("x", ["http://b:1"])], name: "a")
    }
    #expect(text.hasPrefix("member 7 has already been bootstrapped"))
  }

  @Test func membersAreReadFromThePage() {
    let page = Bytes(
      """
      [{"id":10276657743932975437,"peerURLs":["http://a:1"],"name":"n1","clientURLs":["http://c"]},
      {"id":5,"peerURLs":["http://b:1"],"isLearner":true}]

      """.utf8)
    #expect(
      ExistingCluster.members(in: page) == [
        MemberRecord(
          id: 10_276_657_743_932_975_437, peerURLs: ["http://a:1"], name: "n1",
          clientURLs: ["http://c"]),
        MemberRecord(id: 5, peerURLs: ["http://b:1"], isLearner: true),
      ])
    #expect(ExistingCluster.members(in: Bytes("404 page not found".utf8)) == nil)
  }

  @Test(arguments: [
    (["3.7.0"], true), (["3.5.0", "3.5.0"], true), (["3.0.0"], true), (["2.3.0"], false),
    (["3.8.0"], false), (["4.0.0"], false), (["3.5.0", "3.8.0"], false), (["not_decided"], false),
    ([], false),
  ])
  func onlyClustersOfKnownVersionsAreJoined(versions: [String], fits: Bool) {
    let bodies = versions.map { #"{"etcdserver":"3.9.9","etcdcluster":"\#($0)"}"# }
    #expect(ClusterVersionWindow.isCompatible(bodies) == fits)
  }
}

@Suite struct JoiningPeersTests {
  private let told = [
    PeerMember(id: 1, urls: ["http://new:1"]), PeerMember(id: 2, urls: ["http://b:1"]),
    PeerMember(id: 3, urls: ["http://own:1"]),
  ]

  private func membership(_ members: [(MemberID, String)], removed: [MemberID] = []) -> Membership {
    Membership(
      members: members.map { MemberRecord(id: $0.0, peerURLs: [$0.1]) }, removed: removed,
      clusterVersion: nil)
  }

  @Test func whatTheClusterToldHoldsUntilTheOwnAdditionIsApplied() {
    let joining = JoiningPeers(local: 3, told: told)
    let early = joining.peers(of: membership([(1, "http://old:1"), (4, "http://d:1")]))
    #expect(early == told + [PeerMember(id: 4, urls: ["http://d:1"])])
    let late = joining.peers(of: membership([(1, "http://old:1")], removed: [2]))
    #expect(late.map(\.id) == [1, 3])
    let joined = joining.peers(of: membership([(1, "http://newer:1"), (3, "http://own:1")]))
    #expect(joined.map(\.urls) == [["http://newer:1"], ["http://own:1"]])
  }

  @Test func aMemberThatDoesNotJoinGoesByItsMembership() {
    let peers = JoiningPeers(local: 3, told: []).peers(of: membership([(1, "http://old:1")]))
    #expect(peers == [PeerMember(id: 1, urls: ["http://old:1"])])
  }
}
