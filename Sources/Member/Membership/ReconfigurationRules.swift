import Base
import EtcdAPI
import StoreActor

/// What a member checks before it puts a membership change into the log: that the change leaves a
/// quorum of members that have started and are connected.
///
/// The rules are etcd's (`--strict-reconfig-check`). They read one member's view and may be wrong a
/// moment later; what makes a change valid is decided when it is applied.
struct ReconfigurationRules {
  /// Connections younger than this do not count: they may be flapping.
  static let healthyAfter: UInt64 = 5_000_000_000

  var isStrict: Bool
  /// The member that checks.
  var local: MemberID
  var membership: Membership
  var links: LinkTimes
  /// Monotonic nanoseconds.
  var now: UInt64

  private var voters: [MemberRecord] { membership.members.filter { !$0.isLearner } }

  /// A learner needs no quorum of started members, but a healthy cluster.
  func checkAdd(isLearner: Bool) throws(EtcdError) {
    guard isStrict else { return }
    let voters = voters
    let started = voters.count(where: \.isStarted)
    // The second member of a cluster of one may always be added: that is how clusters begin.
    let isFirst = started == 1 && voters.count == 1
    guard isLearner || isFirst || started >= Self.quorum(voters.count + 1) else {
      throw .notEnoughStartedMembers
    }
    guard voters.count == 1 || healthy(voters) >= Self.quorum(voters.count + 1) else {
      throw .unhealthy
    }
  }

  func checkRemove(_ id: MemberID) throws(EtcdError) {
    let voters = voters
    let rest = voters.filter { $0.id != id }
    // Without a voter the cluster would be gone, whatever the operator allows.
    guard !rest.isEmpty || voters.isEmpty else { throw .notEnoughStartedMembers }
    guard isStrict, membership[id: id]?.isLearner != true else { return }
    guard rest.count(where: \.isStarted) >= Self.quorum(rest.count) else {
      throw .notEnoughStartedMembers
    }
    // One that is down is no part of the quorum that is at work.
    guard id == local || links.isConnected(id) else { return }
    guard healthy(voters) - 1 >= 1 + (voters.count - 1) / 2 else { throw .unhealthy }
  }

  /// The replacement of a learner by a voter; the learner has started, or it would not be in sync.
  func checkPromote() throws(EtcdError) {
    guard isStrict else { return }
    let voters = voters
    guard voters.count(where: \.isStarted) + 1 >= Self.quorum(voters.count + 1) else {
      throw .notEnoughStartedMembers
    }
  }

  /// Whether a learner has at least nine tenths of the leader's log.
  static func isInSync(learner: LogIndex, leader: LogIndex) -> Bool {
    Double(learner) >= Double(leader) * 0.9
  }

  private static func quorum(_ count: Int) -> Int { count / 2 + 1 }

  private func healthy(_ voters: [MemberRecord]) -> Int {
    voters.count { voter in
      voter.id == local || links.isConnected(voter.id, for: Self.healthyAfter, now: now)
    }
  }
}

extension MemberRecord {
  /// A member that has published itself.
  var isStarted: Bool { !name.isEmpty }
}

/// The peer URLs of a new member: checked, and sorted as etcd stores them.
enum PeerURLList {
  static func checked(_ texts: [String]) throws(EtcdError) -> [String] {
    guard !texts.isEmpty else { throw .memberURLsInvalid }
    var urls: [EtcdURL] = []
    for text in texts {
      do throws(EtcdURLError) {
        urls.append(try EtcdURL(text))
      } catch {
        throw .memberURLsInvalid
      }
    }
    return urls.sorted().map(\.description)
  }
}
