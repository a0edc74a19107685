import Base
import EtcdAPI
public import RaftActor
import SwiftProtobuf

extension Membership {
  /// Follows the log without a store: what an entry says about members and the cluster's version.
  /// Other entries, and changes that members refuse, are passed over.
  ///
  /// - Parameter maxLearners: as in ``apply(_:maxLearners:)``.
  public mutating func follow(_ entry: Entry, maxLearners: Int) {
    switch entry.kind {
    case .configurationChange:
      guard let change = try? ConfChange(decoding: entry.data) else { return }
      try? apply(change, maxLearners: maxLearners)
    case .normal:
      switch try? EntryPayload(entry.data) {
      case .legacy(let request): apply(request)
      case .request(let envelope):
        if let kind = envelope.kind { _ = try? apply(kind, Bytes(entry.data[envelope.payload])) }
      case .empty, nil: break
      }
    case .configurationChangeV2: break
    }
  }

  /// What older releases say about members and the version. Returns false if it says nothing.
  @discardableResult
  mutating func apply(_ request: LegacyRequest) -> Bool {
    switch request.target {
    case .clusterVersion: clusterVersion = request.value
    case .memberAttributes(let id):
      guard let told = try? V2Attributes(decoding: Bytes(request.value.utf8)) else { return false }
      publish(id: id, name: told.name ?? "", clientURLs: told.clientURLs ?? [])
    case nil: return false
    }
    return true
  }

  /// What a request says about members, the version or a downgrade. Returns false if it is about
  /// something else.
  ///
  /// - Throws: if it cannot be decoded; nothing has changed then.
  mutating func apply(_ kind: InternalRequestEnvelope.Kind, _ body: Bytes) throws -> Bool {
    switch kind {
    case .clusterVersionSet:
      clusterVersion = try Membershippb_ClusterVersionSetRequest(serializedBytes: body).ver
    case .clusterMemberAttributesSet:
      let told = try Membershippb_ClusterMemberAttrSetRequest(serializedBytes: body)
      publish(
        id: told.memberID, name: told.memberAttributes.name,
        clientURLs: told.memberAttributes.clientUrls)
    case .downgradeInfoSet:
      let told = try Membershippb_DowngradeInfoSetRequest(serializedBytes: body)
      downgrade = DowngradeInfo(isEnabled: told.enabled, targetVersion: told.ver)
    default: return false
    }
    return true
  }
}
