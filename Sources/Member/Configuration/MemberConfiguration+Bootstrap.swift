import Base

extension MemberConfiguration {
  /// Checks `--initial-cluster` for a member without a log and computes all ids.
  ///
  /// For cluster state `new`. To be called only if the log directory holds no log: with one, these
  /// flags are ignored.
  /// - Parameter resolve: the URL with its host name resolved to an address, or nil if it cannot
  ///   be; called only if advertised and mapped URLs differ as text. May block.
  /// - Throws: ``ConfigurationError`` in etcd's words.
  public func bootstrapNewCluster(
    resolve: (EtcdURL) -> EtcdURL? = { $0 }
  ) throws(ConfigurationError) -> InitialIdentities {
    let local = try checkInitialCluster()
    try checkAdvertised(mapped: local.peerURLs, resolve)
    return try identities()
  }

  /// The checks that do not depend on the cluster state. Returns the entry of this member.
  public func checkInitialCluster() throws(ConfigurationError) -> InitialMember {
    if initialCluster.isEmpty {
      throw ConfigurationError("initial cluster unset and no discovery endpoints found")
    }
    guard let local = initialCluster.first(where: { $0.name == name }) else {
      throw ConfigurationError(
        "couldn't find local name \(name.goQuoted) in the initial cluster configuration")
    }
    var seen: Set<EtcdURL> = []
    for url in initialCluster.flatMap(\.peerURLs) where !seen.insert(url).inserted {
      throw ConfigurationError("initial cluster \(initialClusterText) has duplicate url")
    }
    return local
  }

  private var initialClusterText: String {
    initialCluster.flatMap { member in member.peerURLs.map { "\(member.name)=\($0)" } }
      .sorted().joined(separator: ",")
  }

  private func checkAdvertised(mapped: [EtcdURL], _ resolve: (EtcdURL) -> EtcdURL?)
    throws(ConfigurationError)
  {
    let advertised = advertisePeerURLs.sorted()
    if advertised == mapped { return }
    let reason = Self.difference(advertised, mapped, resolve)
    guard let reason else { return }
    let advertisedText = advertised.map(\.description).joined(separator: ",")
    let missing = mapped.filter { !advertised.contains($0) }.map { "\(name)=\($0)" }
    if !missing.isEmpty {
      throw ConfigurationError(
        "--initial-cluster has \(missing.joined(separator: ",")) but missing from "
          + "--initial-advertise-peer-urls=\(advertisedText) (\(reason))")
    }
    let mappedText = advertised.map { "\(name)=\($0)" }.joined(separator: ",")
    let extra = advertised.filter { !mapped.contains($0) }.map(\.description)
    if !extra.isEmpty {
      throw ConfigurationError(
        "--initial-advertise-peer-urls has \(extra.joined(separator: ",")) but missing from "
          + "--initial-cluster=\(mappedText) (\(reason))")
    }
    throw ConfigurationError(
      "failed to resolve \(advertisedText) to match --initial-cluster=\(mappedText) (\(reason))")
  }

  /// Nil if both lists mean the same addresses.
  private static func difference(
    _ left: [EtcdURL], _ right: [EtcdURL], _ resolve: (EtcdURL) -> EtcdURL?
  ) -> String? {
    func list(_ urls: [EtcdURL]) -> String {
      "[" + urls.map(\.description.goQuoted).joined(separator: " ") + "]"
    }
    guard left.count == right.count else { return "len(\(list(left))) != len(\(list(right)))" }
    func resolved(_ urls: [EtcdURL]) -> [EtcdURL]? {
      let all = urls.compactMap(resolve)
      return all.count == urls.count ? all.sorted() : nil
    }
    guard let first = resolved(left) else { return "failed to resolve \(list(left))" }
    guard let second = resolved(right) else { return "failed to resolve \(list(right))" }
    if first == second { return nil }
    return "\(list(first))(resolved from \(list(left))) != "
      + "\(list(second))(resolved from \(list(right)))"
  }

  private func identities() throws(ConfigurationError) -> InitialIdentities {
    var members: [InitialIdentities.Member] = []
    var localID: MemberID = 0
    for member in initialCluster {
      let id = Identity.memberID(
        peerURLs: member.peerURLs.map(\.description), token: initialClusterToken)
      if id == 0 { throw ConfigurationError("cannot use 0 as member id") }
      if members.contains(where: { $0.id == id }) {
        throw ConfigurationError("member exists with identical ID \(id.hex)")
      }
      if member.name == name { localID = id }
      members.append(.init(id: id, name: member.name, peerURLs: member.peerURLs))
    }
    members.sort { $0.id < $1.id }
    return InitialIdentities(
      clusterID: Identity.clusterID(members: members.map(\.id)), localID: localID,
      members: members)
  }
}
