import Base
import EtcdAPI

/// What this member knows of why requests run out of time. Times are monotonic nanoseconds.
struct TimeoutCause {
  var member: MemberID
  /// The leader now, 0 if there is none.
  var leader: MemberID
  var voters: [MemberID]
  var links: LinkTimes
  /// When this member became leader, if it is.
  var electedAt: UInt64?
  var electionTimeout: UInt64

  /// What the caller of a request that began at `start` is told, by etcd's rules.
  func error(startedAt start: UInt64) -> EtcdError {
    if let electedAt, start < electedAt, start + 2 * electionTimeout > electedAt {
      return .timeoutLeaderFailure
    }
    if leader == 0 { return .timeout }
    return isConnected(since: start) ? .timeout : .timeoutConnectionLost
  }

  /// To the leader, or as leader to a quorum.
  private func isConnected(since start: UInt64) -> Bool {
    guard leader == member else { return links.isConnected(leader, since: start) }
    let connected = voters.count { $0 == member || links.isConnected($0, since: start) }
    return connected > voters.count / 2
  }
}
