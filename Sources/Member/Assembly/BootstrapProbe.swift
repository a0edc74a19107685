import Base
import FoundationEssentials
import TLS

/// Asks the other members of a new cluster whether this one has lived before.
///
/// A member that lost its data and comes back under its old id would vote a second time in elections
/// that it has forgotten. etcd's members tell by their list.
struct BootstrapProbe {
  private static let timeoutMilliseconds = 1000

  let log: EtcdLogger
  let dialing: TLSContextSource

  /// - Throws: `StorageError` if a running member knows this one's client addresses already.
  func refuseSecondLife(of identities: InitialIdentities) throws {
    let urls = identities.members.filter { $0.id != identities.localID }.flatMap(\.peerURLs)
    guard !urls.isEmpty else { return }
    let pages = urls.map { PeerPages.Page(url: $0, target: "/members") }
    for answer in try PeerPages.get(
      pages, dialing: dialing, timeoutMilliseconds: Self.timeoutMilliseconds)
    {
      guard let body = answer?.body else { continue }
      struct Listed: Decodable {
        var id: UInt64
        var clientURLs: [String]?
      }
      let listed = (try? JSONDecoder().decode([Listed].self, from: Data(body))) ?? []
      if listed.contains(where: { $0.id == identities.localID && $0.clientURLs?.isEmpty == false })
      {
        throw StorageError(
          "member \(identities.localID.hex) has already been bootstrapped: the running cluster knows "
            + "it, and its data directory is empty here. Put its data back, or replace it by a new "
            + "member (member remove, member add)")
      }
    }
  }
}
