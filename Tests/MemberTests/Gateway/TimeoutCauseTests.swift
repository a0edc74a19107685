import Base
import EtcdAPI
import Testing

@testable import Member

@Suite struct TimeoutCauseTests {
  private func cause(
    leader: MemberID, electedAt: UInt64? = nil, connected: [MemberID: UInt64] = [2: 0, 3: 0]
  ) -> TimeoutCause {
    var links = LinkTimes()
    for (member, since) in connected { links.changed(member, isActive: true, now: since) }
    return TimeoutCause(
      member: 1, leader: leader, voters: [1, 2, 3], links: links, electedAt: electedAt,
      electionTimeout: 100)
  }

  @Test func nothingIsKnown() {
    #expect(cause(leader: 2).error(startedAt: 1000) == .timeout)
    #expect(cause(leader: 0, connected: [:]).error(startedAt: 1000) == .timeout)
    #expect(cause(leader: 1, electedAt: 10).error(startedAt: 1000) == .timeout)
  }

  /// Only what began in the two election timeouts before this member became leader.
  @Test func anEarlierLeaderFailed() {
    let cause = cause(leader: 1, electedAt: 1000)
    #expect(cause.error(startedAt: 799) == .timeout)
    #expect(cause.error(startedAt: 801) == .timeoutLeaderFailure)
    #expect(cause.error(startedAt: 999) == .timeoutLeaderFailure)
    #expect(cause.error(startedAt: 1000) == .timeout)
  }

  @Test func theConnectionWasLost() {
    let lost = EtcdError.timeoutConnectionLost
    #expect(cause(leader: 2, connected: [2: 1001]).error(startedAt: 1000) == lost)
    #expect(cause(leader: 2, connected: [3: 0]).error(startedAt: 1000) == lost)
    #expect(cause(leader: 1, electedAt: 0, connected: [2: 5]).error(startedAt: 1000) == .timeout)
    #expect(
      cause(leader: 1, electedAt: 0, connected: [2: 1001]).error(startedAt: 1000) == lost)
  }
}
