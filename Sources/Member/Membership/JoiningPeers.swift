import Base
import StoreActor

/// Whom to connect to: the members, and for a member that is about to join, those that the running
/// cluster has told it of, until its own log has caught up with its addition.
struct JoiningPeers: Sendable {
  let local: MemberID
  /// What the cluster told; empty for a member that knows its cluster already.
  let told: [PeerMember]

  func peers(of membership: Membership) -> [PeerMember] {
    guard !told.isEmpty, membership[id: local] == nil else { return membership.peers }
    let told = told.filter { !membership.removed.contains($0.id) }
    // The log begins with older memberships: addresses in them may be out of date.
    return told
      + membership.peers.filter { known in !told.contains { $0.id == known.id } }
  }
}
