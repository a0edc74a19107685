import Base
import EtcdAPI
import FoundationEssentials
import HTTP
import StoreActor
import TLS

/// A running cluster that this member is about to join, as one of its members tells it.
struct ExistingCluster: Equatable {
  let id: ClusterID
  let local: MemberID
  /// Ascending by id, with this member.
  let members: [MemberRecord]

  /// Matches what the running cluster says with `--initial-cluster`.
  ///
  /// - Parameters:
  ///   - expected: the entries of `--initial-cluster`; one bears `name`.
  ///   - resolve: a URL with its host name resolved to an address, or nil if it cannot be; called
  ///     only if URLs differ as text.
  /// - Throws: ``ConfigurationError`` in etcd's words.
  init(
    id: ClusterID, members: [MemberRecord], expected: [MemberConfiguration.InitialMember],
    name: String,
    maxLearners: Int, resolve: (EtcdURL) -> EtcdURL? = { $0 }
  ) throws(ConfigurationError) {
    let shown = expected.map { member in
      "\(member.name)=\(member.peerURLs.map(\.description).joined(separator: ","))"
    }
    func failure(_ reason: String) -> ConfigurationError {
      ConfigurationError(
        "error validating peerURLs {ClusterID:\(id.hex) Members:[\(shown.joined(separator: " "))] "
          + "RemovedMemberIDs:[]}: \(reason)")
    }
    guard members.count == expected.count else { throw failure("member count is unequal") }
    var local: MemberID = 0
    var unmatched = expected
    for member in members {
      let match = unmatched.firstIndex { Self.isSame($0.peerURLs, member.peerURLs, resolve) }
      guard let match else {
        throw failure(
          "PeerURLs: no match found for existing member (\(member.id.hex), "
            + "[\(member.peerURLs.joined(separator: " "))]), last resolver error (<nil>)")
      }
      if unmatched[match].name == name { local = member.id }
      unmatched.remove(at: match)
    }
    guard members.count(where: \.isLearner) <= maxLearners else {
      throw ConfigurationError("membership: too many learner members in cluster")
    }
    // A member without its log would break promises that it has made. etcd lets it in, and stops in
    // the middle of work when the leader speaks of entries that it has acknowledged.
    guard members.first(where: { $0.id == local })?.isStarted == false else {
      throw ConfigurationError(
        "member \(local.hex) has already been bootstrapped: the running cluster knows it, and its "
          + "data directory is empty here. Put its data back, or replace it by a new member "
          + "(member remove, member add)")
    }
    self.id = id
    self.local = local
    self.members = members.sorted { $0.id < $1.id }
  }

  private static func isSame(
    _ expected: [EtcdURL], _ told: [String], _ resolve: (EtcdURL) -> EtcdURL?
  ) -> Bool {
    let parsed = told.compactMap { try? EtcdURL($0) }
    guard parsed.count == told.count, parsed.count == expected.count else { return false }
    if parsed.sorted() == expected.sorted() { return true }
    let left = parsed.compactMap(resolve)
    let right = expected.compactMap(resolve)
    return left.count == right.count && left.sorted() == right.sorted()
  }

  /// The body of a member's `/members`; nil if it is none.
  static func members(in body: Bytes) -> [MemberRecord]? {
    guard let texts = try? JSONDecoder().decode([ListedMember].self, from: Data(body)) else {
      return nil
    }
    return texts.map { listed in
      MemberRecord(
        id: listed.id, peerURLs: listed.peerURLs ?? [], name: listed.name ?? "",
        clientURLs: listed.clientURLs ?? [], isLearner: listed.isLearner ?? false)
    }
  }

  private struct ListedMember: Decodable {
    var id: UInt64
    var peerURLs: [String]?
    var name: String?
    var clientURLs: [String]?
    var isLearner: Bool?
  }
}

/// Asks a running cluster for its members, before this one's own actors run. Blocks.
struct ExistingClusterProbe {
  private static let membersMilliseconds = 10_000

  let configuration: MemberConfiguration
  let log: EtcdLogger
  let dialing: TLSContextSource

  /// - Throws: what keeps this member from joining, in etcd's words.
  func find() throws -> ExistingCluster {
    _ = try configuration.checkInitialCluster()
    let (id, members) = try askMembers()
    let cluster = try ExistingCluster(
      id: id, members: members, expected: configuration.initialCluster, name: configuration.name,
      maxLearners: configuration.maxLearners, resolve: HostResolution(log: log).resolve)
    try checkVersion(members.filter { $0.id != cluster.local })
    return cluster
  }

  /// The first good answer counts.
  private func askMembers() throws -> (ClusterID, [MemberRecord]) {
    let urls = configuration.initialCluster.filter { $0.name != configuration.name }
      .flatMap(\.peerURLs).sorted()
    for url in urls {
      let page = PeerPages.Page(url: url, target: "/members")
      let answer = try PeerPages.get(
        [page], dialing: dialing, timeoutMilliseconds: Self.membersMilliseconds)[0]
      guard let answer, answer.status == 200,
        let members = ExistingCluster.members(in: answer.body), !members.isEmpty,
        let id = answer.headers?.first("X-Etcd-Cluster-ID").flatMap({ ClusterID($0, radix: 16) })
      else {
        log.warn("failed to get cluster response", ("address", url))
        continue
      }
      return (id, members)
    }
    throw ConfigurationError(
      "cannot fetch cluster info from peer urls: could not retrieve cluster information from the "
        + "given URLs")
  }

  /// Joining a cluster of another generation would bring entries that one side cannot apply.
  private func checkVersion(_ others: [MemberRecord]) throws {
    let urls = others.compactMap { $0.peerURLs.first }.compactMap { try? EtcdURL($0) }
    let pages = urls.map { PeerPages.Page(url: $0, target: "/version") }
    let timeout = Int(configuration.requestTimeout.wholeNanoseconds / 1_000_000)
    let answers = try PeerPages.get(
      pages, dialing: dialing, timeoutMilliseconds: timeout)
    let told = answers.compactMap { $0 }.filter { $0.status == 200 }
      .map { String(decoding: $0.body, as: UTF8.self) }
    guard ClusterVersionWindow.isCompatible(told) else {
      log.warn("the running cluster does not fit this member", ("versions", told))
      throw ConfigurationError("incompatible with current running cluster")
    }
  }
}

/// Which clusters a member of this version may join.
enum ClusterVersionWindow {
  private static let oldest = Version(3, 0)

  /// - Parameter bodies: the bodies of the other members' `/version`, of those that answered.
  static func isCompatible(_ bodies: [String]) -> Bool {
    guard let own = Version(ProductVersion.etcd) else { return false }
    let newest = Version(own.major, own.minor)
    return !bodies.isEmpty
      && bodies.allSatisfy { body in
        Version.cluster(in: body).map { (oldest...newest).contains($0) } ?? false
      }
  }
}

extension Version {
  /// The cluster's version in the body of `/version`; nil while none is decided.
  static func cluster(in body: String) -> Version? {
    struct Answer: Decodable { var etcdcluster: String }
    let answer = try? JSONDecoder().decode(Answer.self, from: Data(body.utf8))
    return answer.flatMap { Version($0.etcdcluster) }
  }
}
