import Base
import EtcdAPI
package import RaftActor
import SwiftProtobuf

extension Membership {
  /// Follows the log without a store: what an entry says about members and the cluster's version.
  /// Other entries, and changes that members refuse, are passed over.
  ///
  /// - Parameter maxLearners: as in ``apply(_:maxLearners:)``.
  package mutating func follow(_ entry: Entry, maxLearners: Int) {
    switch entry.kind {
    case .configurationChange:
      guard let change = try? ConfChange(decoding: entry.data) else { return }
      try? apply(change, maxLearners: maxLearners)
    case .normal:
      switch try? EntryPayload(entry.data) {
      case .legacy(let request): follow(request)
      case .request(let envelope): follow(envelope, Bytes(entry.data[envelope.payload]))
      case .empty, nil: break
      }
    case .configurationChangeV2: break
    }
  }

  private mutating func follow(_ request: LegacyRequest) {
    switch request.target {
    case .clusterVersion: clusterVersion = request.value
    case .memberAttributes(let id):
      guard let told = try? V2Attributes(decoding: Bytes(request.value.utf8)) else { return }
      publish(id: id, name: told.name ?? "", clientURLs: told.clientURLs ?? [])
    case nil: break
    }
  }

  private mutating func follow(_ envelope: InternalRequestEnvelope, _ body: Bytes) {
    switch envelope.kind {
    case .clusterVersionSet:
      guard let told = try? Membershippb_ClusterVersionSetRequest(serializedBytes: body) else {
        return
      }
      clusterVersion = told.ver
    case .clusterMemberAttributesSet:
      guard let told = try? Membershippb_ClusterMemberAttrSetRequest(serializedBytes: body) else {
        return
      }
      publish(
        id: told.memberID, name: told.memberAttributes.name,
        clientURLs: told.memberAttributes.clientUrls)
    case .downgradeInfoSet:
      guard let told = try? Membershippb_DowngradeInfoSetRequest(serializedBytes: body) else {
        return
      }
      downgrade = DowngradeInfo(isEnabled: told.enabled, targetVersion: told.ver)
    default: break
    }
  }
}
