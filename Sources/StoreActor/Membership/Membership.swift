public import Base
public import RaftActor

/// One member of the cluster, as the log describes it. Field names are those of etcd's JSON.
public struct MemberRecord: Codable, Equatable, Sendable {
  public var id: MemberID
  public var peerURLs: [String]
  /// Empty until the member has started and published itself.
  public var name: String
  public var clientURLs: [String]
  public var isLearner: Bool

  public init(
    id: MemberID, peerURLs: [String], name: String = "", clientURLs: [String] = [],
    isLearner: Bool = false
  ) {
    self.id = id
    self.peerURLs = peerURLs
    self.name = name
    self.clientURLs = clientURLs
    self.isLearner = isLearner
  }
}

/// Why a membership change has no effect. The texts are etcd's.
public enum MembershipError: Error, Equatable, Sendable, CustomStringConvertible {
  case idRemoved
  case idExists
  case idNotFound
  case peerURLExists
  case notLearner
  case tooManyLearners
  /// The entry's context does not describe a member: nothing in the cluster writes such an entry.
  case malformed(String)

  public var description: String {
    switch self {
    case .idRemoved: "membership: ID removed"
    case .idExists: "membership: ID exists"
    case .idNotFound: "membership: ID not found"
    case .peerURLExists: "membership: peerURL exists"
    case .notLearner: "membership: can only promote a learner member"
    case .tooManyLearners: "membership: too many learner members in cluster"
    case .malformed(let reason): "membership: malformed change: \(reason)"
    }
  }
}

/// What the log last said about going back to an older release.
public struct DowngradeInfo: Equatable, Sendable {
  public let isEnabled: Bool
  /// `X.Y.Z`, or empty while none is under way.
  public let targetVersion: String

  public init(isEnabled: Bool, targetVersion: String) {
    self.isEnabled = isEnabled
    self.targetVersion = isEnabled ? targetVersion : ""
  }
}

/// Who belongs to the cluster: a state machine fed by the log, equal on every member.
public struct Membership: Equatable, Sendable {
  /// Ascending by id.
  public private(set) var members: [MemberRecord] = []
  /// Ids that may never come back, ascending.
  public private(set) var removed: [MemberID] = []
  /// `X.Y.Z`, or nil while no leader has decided it.
  public var clusterVersion: String?
  /// nil while nobody ever asked for one.
  public var downgrade: DowngradeInfo?

  public init() {}

  public init(
    members: [MemberRecord], removed: [MemberID], clusterVersion: String?,
    downgrade: DowngradeInfo? = nil
  ) {
    self.members = members.sorted { $0.id < $1.id }
    self.removed = removed.sorted()
    self.clusterVersion = clusterVersion
    self.downgrade = downgrade
  }

  public subscript(id id: MemberID) -> MemberRecord? {
    members.first { $0.id == id }
  }

  /// What Raft needs to know of the members.
  public var confState: ConfState {
    ConfState(
      voters: members.filter { !$0.isLearner }.map(\.id),
      learners: members.filter(\.isLearner).map(\.id))
  }

  /// Applies one change, the same on every member.
  ///
  /// - Parameter maxLearners: cap on learners; must be equal on all members.
  /// - Throws: why the change is void; the caller passes a change with node id 0 to Raft then.
  public mutating func apply(
    _ change: ConfChange, maxLearners: Int
  ) throws(MembershipError) {
    guard !removed.contains(change.nodeID) else { throw .idRemoved }
    switch change.kind {
    case .addNode, .addLearnerNode:
      let context = try MemberContext(decoding: change.context)
      guard context.record.id == change.nodeID else {
        throw .malformed("context names \(context.record.id.hex), entry \(change.nodeID.hex)")
      }
      if context.isPromote {
        try promote(change.nodeID)
      } else {
        try add(context.record, maxLearners: maxLearners)
      }
    case .removeNode:
      guard let position = position(of: change.nodeID) else { throw .idNotFound }
      members.remove(at: position)
      removed.append(change.nodeID)
      removed.sort()
    case .updateNode:
      let context = try MemberContext(decoding: change.context)
      guard let position = position(of: change.nodeID) else { throw .idNotFound }
      let others = members.filter { $0.id != change.nodeID }
      guard !Self.uses(others, anyOf: context.record.peerURLs) else { throw .peerURLExists }
      members[position].peerURLs = context.record.peerURLs
    }
  }

  /// Takes over who votes and who only learns, for the members that are known.
  public mutating func reconcile(_ state: ConfState) {
    for position in members.indices {
      if state.voters.contains(members[position].id) { members[position].isLearner = false }
      if state.learners.contains(members[position].id) { members[position].isLearner = true }
    }
  }

  /// Records what a member published about itself. An unknown member is ignored: it was removed.
  public mutating func publish(id: MemberID, name: String, clientURLs: [String]) {
    guard let position = position(of: id) else { return }
    members[position].name = name
    members[position].clientURLs = clientURLs
  }

  private mutating func promote(_ id: MemberID) throws(MembershipError) {
    guard let position = position(of: id) else { throw .idNotFound }
    guard members[position].isLearner else { throw .notLearner }
    members[position].isLearner = false
  }

  private mutating func add(
    _ record: MemberRecord, maxLearners: Int
  ) throws(MembershipError) {
    guard position(of: record.id) == nil else { throw .idExists }
    guard !Self.uses(members, anyOf: record.peerURLs) else { throw .peerURLExists }
    if record.isLearner, members.count(where: \.isLearner) >= maxLearners {
      throw .tooManyLearners
    }
    members.append(record)
    members.sort { $0.id < $1.id }
  }

  private func position(of id: MemberID) -> Int? { members.firstIndex { $0.id == id } }

  private static func uses(_ members: [MemberRecord], anyOf urls: [String]) -> Bool {
    members.contains { member in member.peerURLs.contains { urls.contains($0) } }
  }
}
