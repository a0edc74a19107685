import Actors
import Base
import Glibc

/// Who belongs to the cluster that this member makes or joins: what the flags say, or DNS where they
/// leave it to that. Blocks; only for a member without a log.
struct InitialClusterSource {
  let configuration: MemberConfiguration
  let log: EtcdLogger

  /// The configuration with all members of the cluster in it.
  /// - Throws: ``ConfigurationError`` in etcd's words.
  func expected() throws(ConfigurationError) -> MemberConfiguration {
    guard let domain = configuration.serviceDomain else { return configuration }
    var configuration = configuration
    configuration.initialCluster = try ServiceDiscovery(
      name: configuration.name, domain: domain, advertised: configuration.advertisePeerURLs,
      log: log, services: BlockingResolver.services, address: BlockingResolver.address(of:)
    ).find()
    return configuration
  }

  /// The members of a new cluster with their ids.
  /// - Throws: ``ConfigurationError`` in etcd's words.
  func newCluster() throws(ConfigurationError) -> InitialIdentities {
    try expected().bootstrapNewCluster(resolve: HostResolution(log: log).resolve)
  }
}

/// Replaces host names in URLs by addresses, for a comparison of URLs that differ as text. A name that is
/// not known yet may be known soon: it is asked for again for half a minute in all, as etcd does.
final class HostResolution {
  private static let budget: UInt64 = 30_000_000_000
  private static let pauseMicroseconds: UInt32 = 1_000_000

  private let log: EtcdLogger
  private let deadline = monotonicNanoseconds() + HostResolution.budget

  init(log: EtcdLogger) { self.log = log }

  /// Nil if there is no address. Sockets and `localhost` stand for themselves, as in etcd.
  func resolve(_ url: EtcdURL) -> EtcdURL? {
    if url.isUnix || url.host == "localhost" { return url }
    while true {
      do throws(NameError) {
        let address = try BlockingResolver.address(of: url.host)
        if address == url.host { return url }
        log.info(
          "resolved URL Host", ("url", url), ("host", url.authority), ("resolved-addr", address))
        return EtcdURL(scheme: url.scheme, host: address, port: url.port)
      } catch {
        log.warn(
          "failed to resolve URL Host", ("url", url), ("host", url.authority),
          ("retry-interval", Duration.seconds(1)), ("error", error.description))
      }
      guard monotonicNanoseconds() < deadline else { return nil }
      usleep(Self.pauseMicroseconds)
    }
  }
}
