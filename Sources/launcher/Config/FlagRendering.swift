// From a member's plan to its command line and environment.

enum FlagRendering {
  /// The member program's arguments; flags of the file last, so that they win.
  ///
  /// - Parameter joining: the initial cluster of a member that joins a running one.
  static func arguments(
    for member: MemberPlan, in cluster: ClusterFile, joining: String? = nil
  ) -> [String] {
    let client = member.clientURL.text
    let peer = member.peerURL.text
    let own = [
      ("name", member.name),
      ("data-dir", cluster.dataPath(of: member)),
      ("listen-client-urls", client),
      ("advertise-client-urls", client),
      ("listen-peer-urls", peer),
      ("initial-advertise-peer-urls", peer),
      ("initial-cluster", joining ?? cluster.initialCluster),
      ("initial-cluster-state", joining == nil ? "new" : "existing"),
    ]
    // One word each, since a bool flag takes no separate value.
    return own.map { "--\($0)=\($1)" } + member.flags.map { "--\($0.name)=\($0.value)" }
  }

  /// The environment of a member: this one's without variables that would contradict its flags.
  ///
  /// A member refuses to start if a flag stands on its command line and in its environment too.
  /// - Parameters:
  ///   - environment: `KEY=value` strings.
  ///   - arguments: as ``arguments(for:in:)`` makes them.
  static func environment(_ environment: [String], arguments: [String]) -> [String] {
    let taken = arguments.map { argument in
      let name = argument.dropFirst(2).prefix { $0 != "=" }
      return "ETCD_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
    }
    return environment.filter { entry in
      let key = String(entry.prefix { $0 != "=" })
      return key != "ETCD_CONFIG_FILE" && !taken.contains(key)
    }
  }
}
