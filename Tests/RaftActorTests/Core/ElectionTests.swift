import Base
import Testing

@testable import RaftActor

@Suite struct ElectionTests {
  @Test func startsAsFollowerAndDrawsTimeoutsInRange() {
    var seen: Set<Int> = []
    for seed in 0..<200 as Range<UInt64> {
      let core = RaftCore(
        configuration: .init(id: 1), hardState: HardState(), snapshot: .init(), entries: [],
        applied: 0, confState: ConfState(voters: [1, 2, 3]), generator: SeededGenerator(seed: seed))
      #expect(core.role == .follower)
      seen.insert(core.electionTimeout)
    }
    #expect(seen == Set(10...19))
  }

  @Test func preVoteThenVoteThenEmptyEntry() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    #expect(group.core(1).role == .leader && group.core(1).term == 1)
    #expect(group.core(2).leader == 1 && group.core(3).vote == 1)
    #expect(group.committed[3]?.map(\.data) == [[]], "the entry that starts the term")
    let kinds = group.sent.filter { $0.to == 2 }.map(\.kind)
    #expect(kinds.prefix(3) == [.preVote, .vote, .append])
    #expect(group.sent.first { $0.kind == .preVote }?.term == 1)
  }

  @Test func singleMemberLeadsAndCommitsOnlyAfterItsSyncs() throws {
    var core = makeCore(1, members: [1])
    core.campaign()
    let vote = try #require(take(&core))
    #expect(core.role == .candidate && vote.mustSync && vote.hardState?.vote == 1)
    core.persisted(vote.sequence)
    #expect(core.role == .leader)
    let start = try #require(take(&core))
    #expect(start.entries.count == 1 && start.committed.isEmpty && core.commit == 0)
    let outcome = core.propose([[7], [8]])
    #expect(outcome == .appended(first: 2, last: 3))
    let batch = try #require(take(&core))
    #expect(take(&core) == nil, "nothing is committed before its sync")
    core.persisted(start.sequence)
    #expect(core.commit == 1)
    core.persisted(batch.sequence)
    #expect(take(&core)?.committed.map(\.index) == [1, 2, 3])
  }

  @Test func votesOncePerTerm() {
    var core = makeCore(1, members: [1, 2, 3])
    core.step(Message(kind: .vote, to: 1, from: 2, term: 1))
    core.step(Message(kind: .vote, to: 1, from: 3, term: 1))
    let effects = take(&core)
    #expect(effects?.sendAfterSync.map(\.to) == [2, 3] || effects?.sendNow.count == 1)
    let replies = (effects?.sendNow ?? []) + (effects?.sendAfterSync ?? [])
    #expect(replies.first { $0.to == 2 }?.reject == false)
    #expect(replies.first { $0.to == 3 }?.reject == true)
    #expect(effects?.hardState?.vote == 2 && effects?.mustSync == true)
    #expect(effects?.sendNow.isEmpty == true, "a vote waits for the disk")
  }

  @Test(
    arguments: [(1, 9, false), (2, 2, false), (2, 3, true), (3, 1, true)]
      as [(Term, LogIndex, Bool)])
  func grantsOnlyToLogsUpToDate(term: Term, index: LogIndex, granted: Bool) {
    for kind in [Message.Kind.vote, .preVote] {
      var core = makeCore(
        1, members: [1, 2, 3], hardState: HardState(term: 2), entries: log(1, 2, 2))
      core.step(Message(kind: kind, to: 1, from: 2, term: 4, logTerm: term, index: index))
      let effects = take(&core)
      let reply = ((effects?.sendNow ?? []) + (effects?.sendAfterSync ?? [])).first
      #expect(reply?.reject == !granted)
      #expect(core.term == (kind == .vote ? 4 : 2), "a pre-vote never raises the term")
      #expect(core.vote == (kind == .vote && granted ? 2 : 0))
    }
  }

  @Test func lostElectionAndHigherTermMakeFollower() {
    var core = makeCore(1, members: [1, 2, 3]) { $0.preVote = false }
    core.campaign()
    core.persisted(take(&core)?.sequence ?? 0)
    #expect(core.role == .candidate)
    for voter in [2, 3] as [MemberID] {
      core.step(Message(kind: .voteResponse, to: 1, from: voter, term: 1, reject: true))
    }
    #expect(core.role == .follower && core.term == 1)
    core.step(Message(kind: .heartbeat, to: 1, from: 2, term: 5))
    #expect(core.term == 5 && core.leader == 2)
  }

  @Test func lateGrantOfAnEarlierPreVoteDoesNotCount() {
    var core = makeCore(1, members: [1, 2, 3], hardState: HardState(term: 4))
    core.campaign()
    core.step(Message(kind: .preVoteResponse, to: 1, from: 2, term: 4))
    #expect(core.role == .preCandidate)
    core.step(Message(kind: .preVoteResponse, to: 1, from: 9, term: 5))
    #expect(core.role == .preCandidate, "an unknown member has no voice")
    core.step(Message(kind: .preVoteResponse, to: 1, from: 2, term: 5))
    #expect(core.role == .candidate && core.term == 5)
  }

  @Test func memberThatHearsALeaderIgnoresCandidates() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    for kind in [Message.Kind.vote, .preVote] {
      _ = group.with(2) { core in
        core.step(
          Message(kind: kind, to: 2, from: 3, term: 9, logTerm: 9, index: 9))
        #expect(take(&core) == nil && core.term == 1)
      }
    }
    _ = group.with(2) { core in
      core.step(
        Message(
          kind: .vote, to: 2, from: 3, term: 9, logTerm: 9, index: 9,
          context: Array("CampaignTransfer".utf8)))
      #expect(core.term == 9 && core.vote == 3)
    }
  }

  @Test func brokenConnectionToTheLeaderSparesMostOfTheRandomTimeout() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    _ = group.with(2) { core in
      core.electionTimeout = 19
      core.reportUnreachable(3)
      #expect(core.electionTimeout == 19, "not the leader")
      core.reportUnreachable(1)
      #expect((10...12).contains(core.electionTimeout))
      let drawn = core.electionTimeout
      for _ in 0..<20 { core.reportUnreachable(1) }
      #expect(core.electionTimeout == drawn, "drawn once")
    }
  }

  /// Two members that miss the leader at the same moment: without a rule for who goes first, both
  /// would win the pre-vote, vote for themselves, and wait for another timeout.
  @Test func preCandidatesOfTheSameMomentDoNotSplitTheVote() {
    for voters in [[1, 2, 3], [1, 2, 3, 4, 5]] as [[MemberID]] {
      var group = CoreGroup(voters)
      group.elect(1)
      group.drops = { $0.to == 1 || $0.from == 1 }
      for id in voters.dropFirst() {
        for _ in 0..<group.core(id).electionTimeout {
          _ = group.with(id) { core in if core.role == .follower { core.tick() } }
        }
        #expect(group.core(id).role == .preCandidate)
      }
      group.settle()
      #expect(group.core(voters.last!).role == .leader && group.core(2).role == .follower)
      #expect(group.core(2).term == 2, "one election")
    }
  }

  @Test func aPreCandidateStepsBackForNobodyElse() {
    // A lower id, an older log, another round, and one that may not lead.
    let asked: [(MemberID, Term, LogIndex, Term)] = [
      (1, 1, 2, 2), (4, 1, 1, 2), (4, 1, 2, 3), (9, 1, 2, 2),
    ]
    for (from, logTerm, index, term) in asked {
      var core = makeCore(
        2, members: [1, 2, 4], learners: [9], hardState: HardState(term: 1), entries: log(1, 1))
      core.campaign()
      core.step(
        Message(kind: .preVote, to: 2, from: from, term: term, logTerm: logTerm, index: index))
      #expect(core.role == .preCandidate && core.term == 1)
    }
  }

  @Test func lowerTermsAreAnswered() {
    var core = makeCore(1, members: [1, 2, 3], hardState: HardState(term: 7))
    core.step(Message(kind: .heartbeat, to: 1, from: 2, term: 3))
    core.step(Message(kind: .preVote, to: 1, from: 3, term: 3))
    core.step(Message(kind: .vote, to: 1, from: 3, term: 3))
    let effects = take(&core)
    #expect(
      effects?.sendAfterSync == [Message(kind: .appendResponse, to: 2, from: 1, term: 7)])
    #expect(
      effects?.sendNow == [
        Message(kind: .preVoteResponse, to: 3, from: 1, term: 7, reject: true),
        Message(kind: .voteResponse, to: 3, from: 1, term: 7, reject: true),
      ])
  }

  /// Without pre-vote a member that is behind in its log may be ahead in its term; were it silent to
  /// one that could lead, the two might stand in turns for ever, each in a term of its own.
  @Test func aCandidateOfALowerTermCatchesUp() {
    var candidate = makeCore(1, members: [1, 2], entries: log(1, 1)) { $0.preVote = false }
    candidate.campaign()
    _ = take(&candidate)
    candidate.step(Message(kind: .voteResponse, to: 1, from: 2, term: 7, reject: true))
    #expect(candidate.role == .follower && candidate.term == 7)
    candidate.campaign()
    #expect(candidate.term == 8)
  }

  @Test func leaderWithoutQuorumStepsDown() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.drops = { $0.to == 1 }
    // The first check may still see what was heard during the election.
    group.tick(1, times: 20)
    #expect(group.core(1).role == .follower && group.core(1).term == 1)
  }

  @Test func isolatedMemberDoesNotDisturbOnReturn() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.drops = { $0.to == 3 || $0.from == 3 }
    group.tick(3, times: 60)
    #expect(group.core(3).role == .preCandidate && group.core(3).term == 1)
    group.drops = { _ in false }
    group.tick(1, times: 3)
    #expect(group.core(1).role == .leader && group.core(1).term == 1 && group.core(3).leader == 1)
  }

  @Test func memberWithHigherTermMakesOldLeaderStepDownThroughAppend() {
    // A member that raised its term without pre-vote and could not win is not stuck.
    var group = CoreGroup([1, 2, 3]) { $0.preVote = false }
    group.elect(1)
    group.drops = { $0.to == 3 || $0.from == 3 }
    group.tick(3, times: 60)
    let raised = group.core(3).term
    #expect(raised > 1)
    group.drops = { _ in false }
    group.tick(1, times: 1)
    #expect(group.core(1).term >= raised && group.core(1).role == .follower)
  }

  @Test func memberOutsideTheConfigurationOrLearnerNeverCampaigns() {
    for (members, learners) in [([2, 3], []), ([2, 3], [1]), ([], [])] as [([MemberID], [MemberID])]
    {
      var core = makeCore(1, members: members, learners: learners)
      for _ in 0..<100 { core.tick() }
      core.campaign()
      #expect(core.role == .follower && take(&core) == nil)
    }
  }

  @Test func unappliedMembershipChangeForbidsCampaign() {
    var entries = log(1)
    entries[0].kind = .configurationChange
    var core = makeCore(
      1, members: [1], hardState: HardState(term: 1, commit: 1), entries: entries)
    core.campaign()
    #expect(core.role == .follower)
    #expect(take(&core)?.committed.count == 1)
    core.applied(through: 1)
    core.campaign()
    #expect(core.role == .candidate)
  }

  /// The hard state behind the second change was torn off: the first is committed all the same, and
  /// has to be applied before this member may count a quorum.
  @Test func allMembershipChangesButTheLastAreCommitted() {
    var entries = log(1, 1, 1, 1)
    entries[1].kind = .configurationChange
    entries[3].kind = .configurationChange
    var core = makeCore(
      1, members: [1, 2], hardState: HardState(term: 1, commit: 1), entries: entries)
    #expect(core.commit == 2)
    core.campaign()
    #expect(core.role == .follower)
    #expect(take(&core)?.committed.map(\.index) == [1, 2])
    core.applyConfChange(ConfChange(kind: .addNode, nodeID: 3))
    core.applied(through: 2)
    core.campaign()
    #expect(core.role == .preCandidate)
  }

  @Test func learnerAnswersVotesAndIsNotAsked() {
    var group = CoreGroup([1, 2])
    group.add(3, members: [1, 2], learners: [3])
    _ = group.with(1) { $0.applyConfChange(ConfChange(kind: .addLearnerNode, nodeID: 3)) }
    group.elect(1)
    #expect(group.core(1).role == .leader)
    #expect(!group.sent.contains { $0.kind == .vote && $0.to == 3 })
    _ = group.with(3) { core in
      core.step(
        Message(
          kind: .vote, to: 3, from: 2, term: 5, logTerm: 5, index: 9,
          context: RaftCore.transferContext))
      #expect(core.vote == 2)
    }
  }

  @Test func termOfTornHardStateIsRecoveredFromTheLog() {
    var core = makeCore(1, members: [1, 2, 3], hardState: HardState(term: 1), entries: log(1, 3))
    #expect(core.term == 3 && core.vote == 0)
    #expect(take(&core)?.hardState?.term == 3)
  }

  @Test func transferToAnUpToDateMember() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    _ = group.with(2) { $0.transferLeader(to: 3) }
    group.settle()
    #expect(group.core(3).role == .leader && group.core(3).term == 2)
    #expect(group.core(1).leader == 3)
    #expect(!group.sent.contains { $0.kind == .preVote && $0.from == 3 })
  }

  @Test func transferWaitsForTheLogAndIsAbandonedAfterAnElectionTimeout() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.drops = { $0.to == 3 }
    _ = group.with(1) { $0.propose([[1]]) }
    group.settle()
    _ = group.with(1) { $0.transferLeader(to: 3) }
    group.settle()
    #expect(!group.sent.contains { $0.kind == .timeoutNow })
    #expect(group.with(1) { $0.propose([[2]]) } == .dropped(.transferInProgress))
    group.tick(1, times: 10)
    #expect(group.core(1).role == .leader && group.core(1).transferee == 0)
    #expect(group.with(1) { $0.propose([[2]]) } == .appended(first: 3, last: 3))
  }

  @Test func laggingTransfereeCatchesUpFirst() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.drops = { $0.to == 3 }
    _ = group.with(1) { $0.propose([[1], [2]]) }
    group.settle()
    group.drops = { _ in false }
    _ = group.with(1) { $0.transferLeader(to: 3) }
    group.settle()
    group.tick(1)
    #expect(group.core(3).role == .leader && group.applied(3) == [1, 2])
  }
}
