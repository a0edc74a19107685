import StoreActor

/// The page `/version`, the same on the client and the peer port.
enum VersionPage {
  static func body(_ membership: Membership) -> String {
    let cluster = membership.clusterVersion
    // A store has a version since 3.6, which is that of its cluster.
    let storage = cluster == nil ? "unknown" : ProductVersion.etcdMinor
    return "{\"etcdserver\":\"\(ProductVersion.etcd)\","
      + "\"etcdcluster\":\"\(cluster ?? "not_decided")\",\"storage\":\"\(storage)\"}"
  }
}
