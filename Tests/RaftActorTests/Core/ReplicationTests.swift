import Base
import Testing

@testable import RaftActor

@Suite struct ReplicationTests {
  /// Copies of a log make its arrays lose their spare room; room must not double because of that.
  @Test func copiesOfALogDoNotInflateIt() {
    var log = RaftLog(baseIndex: 0, baseTerm: 0)
    var copies: [RaftLog] = []
    for index in 1...200 as ClosedRange<LogIndex> {
      log.reserve(1)
      log.append(Entry(term: 1, index: index))
      copies.append(log)
      log.dropPrefix(through: index - index % 3)
    }
    #expect(log.capacity <= 1000 && copies.count == 200)
  }

  @Test func proposalsOfOneTurnShareOneAppendAndCommitIsToldAtOnce() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.sent.removeAll()
    _ = group.with(1) { core in
      _ = core.propose([[1], [2]])
      _ = core.propose([[3]])
    }
    group.settle()
    let appends = group.sent.filter { $0.kind == .append && $0.to == 2 }
    #expect(appends.map(\.entries.count) == [3, 0])
    #expect(appends.last?.commit == 4)
    for id in group.ids { #expect(group.applied(id) == [1, 2, 3]) }
  }

  @Test func aLazyLeaderTellsOfACommitWithTheNextEntriesOrWhenAsked() {
    var group = CoreGroup([1, 2, 3]) { $0.announcesCommitLazily = true }
    group.elect(1)
    _ = group.with(1) { $0.announceCommit() }
    group.settle()
    _ = group.with(1) { $0.propose([[1]]) }
    group.settle()
    #expect(group.applied(1) == [1] && group.applied(2) == [])
    #expect(group.core(1).hasUntoldCommit)
    _ = group.with(1) { $0.propose([[2]]) }
    group.settle()
    #expect(group.applied(1) == [1, 2] && group.applied(2) == [1])
    group.sent.removeAll()
    _ = group.with(1) { $0.announceCommit() }
    group.settle()
    #expect(group.applied(2) == [1, 2] && group.applied(3) == [1, 2])
    #expect(group.sent.filter { $0.kind == .append }.allSatisfy { $0.entries.isEmpty })
    #expect(!group.core(1).hasUntoldCommit)
    _ = group.with(1) { $0.propose([[3]]) }
    group.settle()
    group.tick(1)
    #expect(group.applied(2) == [1, 2, 3])
  }

  @Test func aLazyLeaderTellsFollowersOfTheirOwnProposalsAtOnce() {
    var group = CoreGroup([1, 2, 3]) { $0.announcesCommitLazily = true }
    group.elect(1)
    _ = group.with(2) { $0.propose([[1]]) }
    group.settle()
    #expect(group.applied(2) == [1] && group.applied(3) == [1])
  }

  @Test func followerForwardsInOneMessage() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    #expect(group.with(2) { $0.propose([[1], [2]]) } == .forwarded(to: 1))
    group.settle()
    let forwarded = group.sent.filter { $0.kind == .proposal }
    #expect(forwarded.count == 1 && forwarded[0].term == 0 && forwarded[0].entries.count == 2)
    #expect(group.applied(3) == [1, 2])
    var alone = makeCore(1, members: [1, 2, 3])
    let outcome = alone.propose([[1]])
    #expect(outcome == .dropped(.noLeader))
  }

  @Test func nothingLeavesAFollowerBeforeItsSync() throws {
    var core = makeCore(1, members: [1, 2, 3])
    core.step(
      Message(kind: .append, to: 1, from: 2, term: 1, entries: log(1, 1), commit: 2))
    let first = try #require(take(&core))
    #expect(first.mustSync && first.entries.count == 2 && first.hardState?.commit == 2)
    #expect(first.sendNow.isEmpty && first.committed.isEmpty)
    #expect(first.sendAfterSync.map(\.index) == [2])
    #expect(take(&core) == nil)
    core.persisted(first.sequence)
    #expect(take(&core)?.committed.count == 2)
  }

  @Test func syncOfReplacedEntriesDoesNotCount() throws {
    var core = makeCore(1, members: [1, 2, 3])
    core.step(Message(kind: .append, to: 1, from: 2, term: 1, entries: log(1, 1, 1)))
    let old = try #require(take(&core))
    let replacement = Entry(term: 2, index: 2, data: [9])
    core.step(
      Message(
        kind: .append, to: 1, from: 3, term: 2, logTerm: 1, index: 1, entries: [replacement],
        commit: 2))
    let new = try #require(take(&core))
    #expect(new.entries == [replacement])
    core.persisted(old.sequence)
    #expect(core.durable == 1)
    #expect(take(&core)?.committed.map(\.index) == [1])
    core.persisted(new.sequence)
    #expect(take(&core)?.committed == [replacement])
  }

  /// The paper's figure 7: each follower ends with the leader's log.
  @Test(
    arguments: [
      [1, 1, 1, 4, 4, 5, 5, 6, 6], [1, 1, 1, 4], [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
      [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7], [1, 1, 1, 4, 4, 4, 4],
      [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3], [],
    ] as [[Term]])
  func figure7(terms: [Term]) {
    let leaderTerms: [Term] = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    func entries(_ terms: [Term]) -> [Entry] {
      terms.enumerated().map { Entry(term: $1, index: LogIndex($0) + 1, data: [UInt8($1)]) }
    }
    var group = CoreGroup([])
    group.add(1, members: [1, 2, 3], term: 7, entries: entries(leaderTerms))
    group.add(2, members: [1, 2, 3], term: terms.last ?? 0, entries: entries(terms))
    group.add(3, members: [1, 2, 3], term: 7, entries: entries(leaderTerms))
    group.elect(1)
    group.tick(1, times: 2)
    #expect(group.core(1).role == .leader)
    #expect(group.core(2).log.entries(from: 1) == group.core(1).log.entries(from: 1))
    #expect(group.core(2).log.entries(from: 1).map(\.term) == leaderTerms + [8])
    let probes = group.sent.filter { $0.kind == .appendResponse && $0.reject }
    #expect(probes.count <= Set(terms).count + 1, "whole terms are skipped")
  }

  /// The paper's figure 8: entries of an older term are never committed by counting.
  @Test func onlyOwnTermCommitsByCounting() {
    var core = makeCore(1, members: [1, 2, 3], hardState: HardState(term: 2), entries: log(1, 2))
    core.campaign()
    core.step(Message(kind: .preVoteResponse, to: 1, from: 2, term: 3))
    core.persisted(take(&core)?.sequence ?? 0)
    core.step(Message(kind: .voteResponse, to: 1, from: 2, term: 3))
    #expect(core.role == .leader && core.log.lastIndex == 3)
    core.persisted(take(&core)?.sequence ?? 0)
    core.step(Message(kind: .appendResponse, to: 1, from: 2, term: 3, index: 2))
    #expect(core.commit == 0)
    core.step(Message(kind: .appendResponse, to: 1, from: 2, term: 3, index: 3))
    #expect(core.commit == 3)
  }

  @Test func rejectionCarriesTheHintOfEtcd() {
    var core = makeCore(
      1, members: [1, 2], hardState: HardState(term: 5), entries: log(1, 1, 3, 3, 3))
    core.step(Message(kind: .append, to: 1, from: 2, term: 5, logTerm: 2, index: 9))
    #expect(
      take(&core)?.sendAfterSync == [
        Message(
          kind: .appendResponse, to: 2, from: 1, term: 5, logTerm: 1, index: 9, reject: true,
          rejectHint: 2)
      ])
  }

  /// Figure 7 of the Raft paper at length: a follower and its new leader have taken turns in writing
  /// 10,000 entries that the other one lacks.
  @Test(arguments: [true, false]) func aDivergentTailTakesAtMostOneProbePerTerm(
    leaderIsLonger: Bool
  ) throws {
    let common = (1...100).map { Entry(term: 1, index: $0, data: [1]) }
    func tail(_ terms: [Term], of length: LogIndex) -> [Entry] {
      var entries = common
      for term in terms {
        let first = LogIndex(entries.count) + 1
        entries += (first..<first + length).map { Entry(term: term, index: $0, data: [2]) }
      }
      return entries
    }
    let even = (1...20).map { Term(2 * $0) }
    let odd = even.map { $0 - 1 }.dropFirst()
    var group = CoreGroup([])
    group.add(
      1, members: [1, 2], term: 41, entries: tail(even, of: leaderIsLonger ? 500 : 200))
    group.add(
      2, members: [1, 2], term: 41, entries: tail(Array(odd), of: leaderIsLonger ? 250 : 520))
    group.elect(1)
    group.tick(1, times: 2)
    let leader = group.core(1)
    #expect(leader.role == .leader)
    #expect(group.core(2).log.lastIndex == leader.log.lastIndex)
    #expect(group.core(2).commit == leader.log.lastIndex)
    for index in stride(from: 1, through: leader.log.lastIndex, by: 97) {
      #expect(group.core(2).log.term(at: index) == leader.log.term(at: index))
    }
    let rejections = group.sent.count { $0.kind == .appendResponse && $0.reject }
    #expect((1...20).contains(rejections), "\(rejections) probes for 20 terms")
  }

  @Test func responsesOfOneBatchAreMerged() {
    var core = makeCore(1, members: [1, 2])
    for entry in log(1, 1, 1) {
      core.step(
        Message(
          kind: .append, to: 1, from: 2, term: 1, logTerm: entry.index == 1 ? 0 : 1,
          index: entry.index - 1, entries: [entry]))
    }
    #expect(take(&core)?.sendAfterSync.map(\.index) == [3])
  }

  @Test func oldAppendIsAnsweredWithTheCommit() {
    var core = makeCore(
      1, members: [1, 2], hardState: HardState(term: 1, commit: 3), entries: log(1, 1, 1))
    core.step(
      Message(kind: .append, to: 1, from: 2, term: 1, index: 0, entries: log(1)))
    #expect(take(&core)?.sendAfterSync.map(\.index) == [3])
    core.step(
      Message(
        kind: .append, to: 1, from: 2, term: 1, logTerm: 1, index: 3,
        entries: [Entry(term: 1, index: 5)]))
    #expect(core.log.lastIndex == 3, "a hole in the message is ignored")
  }

  @Test func heartbeatNeverTellsMoreThanWasAcknowledged() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.drops = { $0.to == 3 }
    _ = group.with(1) { $0.propose([[1]]) }
    group.settle()
    group.sent.removeAll()
    group.tick(1)
    let beats = group.sent.filter { $0.kind == .heartbeat }
    #expect(beats.first { $0.to == 2 }?.commit == 2)
    #expect(beats.first { $0.to == 3 }?.commit == 1)
  }

  @Test func aMemberWithOldDataNoticesAndMakesNoPromise() {
    var core = makeCore(
      1, members: [1, 2], hardState: HardState(term: 1, commit: 2), entries: log(1, 1))
    core.step(Message(kind: .heartbeat, to: 1, from: 2, term: 1, commit: 3))
    #expect(core.forgotten == 3)
    #expect(core.commit == 2)
    #expect(take(&core)?.sendAfterSync.isEmpty ?? true)
  }

  @Test func windowLimitsAndHeartbeatReleases() {
    var group = CoreGroup([1, 2]) {
      $0.maxInflightMessages = 2
      $0.maxMessageBytes = 20
    }
    group.elect(1)
    group.tick(1)
    group.sent.removeAll()
    group.drops = { $0.kind == .append }
    _ = group.with(1) { $0.propose((1...5).map { [$0] }) }
    group.settle()
    #expect(group.sent.filter { $0.kind == .append }.map(\.entries.count) == [1, 1])
    group.drops = { _ in false }
    group.tick(1)
    let empty = group.sent.first { $0.kind == .append && $0.entries.isEmpty }
    #expect(empty != nil, "a full window is probed with an empty append")
    #expect(group.applied(2) == [1, 2, 3, 4, 5])
  }

  @Test func unreachableFollowerIsProbed() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    #expect(group.core(1).status.peers[1].state == .replicate)
    _ = group.with(1) { $0.reportUnreachable(2) }
    #expect(group.core(1).status.peers[1].state == .probe)
    group.tick(1)
    #expect(group.core(1).status.peers[1].state == .replicate)
  }

  @Test func overloadDropsProposals() {
    var group = CoreGroup([1, 2, 3]) { $0.maxUncommittedBytes = 50 }
    group.elect(1)
    group.drops = { $0.kind == .append }
    #expect(
      group.with(1) { $0.propose([Bytes(repeating: 1, count: 99)]) }
        == .appended(first: 2, last: 2), "one passes when nothing waits")
    #expect(group.with(1) { $0.propose([[1]]) } == .dropped(.overloaded))
    group.drops = { _ in false }
    group.tick(1)
    group.settle()
    _ = group.with(1) { $0.reportUnreachable(2) }
    group.tick(1, times: 2)
    #expect(group.with(1) { $0.propose([[1]]) } == .appended(first: 3, last: 3))
  }

  @Test func restartHandsOutWhatIsNotApplied() {
    var core = makeCore(
      1, members: [1, 2], hardState: HardState(term: 1, commit: 2), entries: log(1, 1, 1),
      applied: 1)
    #expect(take(&core)?.committed.map(\.index) == [2])
    // The state machine may know of commits that the lazily written hard state lacks.
    var ahead = makeCore(
      1, members: [1, 2], hardState: HardState(term: 1, commit: 1), entries: log(1, 1, 1),
      applied: 3)
    #expect(ahead.commit == 3 && take(&ahead)?.committed.isEmpty == true)
  }

  @Test func committedEntriesComeInBoundedBatches() {
    let entries = (1...10).map {
      Entry(term: 1, index: $0, data: Bytes(repeating: 0, count: 100))
    }
    var core = makeCore(
      1, members: [1, 2], hardState: HardState(term: 1, commit: 10), entries: entries
    ) { $0.maxApplyBytes = 300 }
    var counts: [Int] = []
    while let effects = take(&core) { counts.append(effects.committed.count) }
    #expect(counts == [2, 2, 2, 2, 2])
  }

  // MARK: - Snapshots

  private func compactedGroup() -> CoreGroup {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.drops = { $0.to == 3 }
    _ = group.with(1) { $0.propose((1...5).map { [$0] }) }
    group.settle()
    _ = group.with(1) { $0.compact(through: 5) }
    group.drops = { _ in false }
    _ = group.with(1) { $0.reportUnreachable(3) }
    return group
  }

  @Test func laggingFollowerGetsASnapshot() {
    var group = compactedGroup()
    group.tick(1, times: 3)
    #expect(group.snapshotsWanted == [3], "asked once")
    let metadata = SnapshotMetadata(index: 6, term: 1, confState: group.core(1).confState)
    #expect(
      group.with(1) { $0.snapshotReadyToSend(to: 3, Snapshot(metadata: metadata)) } == true)
    #expect(group.core(1).status.peers[2].state == .snapshot)
    group.settle()
    #expect(group.core(3).log.baseIndex == 6 && group.core(3).applied == 6)
    #expect(group.core(1).status.peers[2].state == .replicate)
    _ = group.with(1) { $0.propose([[9]]) }
    group.settle()
    #expect(group.applied(3) == [9])
    #expect(
      group.with(1) { $0.snapshotReadyToSend(to: 3, Snapshot(metadata: metadata)) } == false)
  }

  @Test func failedSnapshotIsAskedForAgain() {
    var group = compactedGroup()
    group.tick(1)
    _ = group.with(1) { $0.reportSnapshot(3, succeeded: false) }
    group.settle()
    #expect(group.snapshotsWanted == [3])
    group.tick(1)
    #expect(group.snapshotsWanted == [3, 3])
  }

  @Test func snapshotReachesTheOwnerBeforeAnythingIsAcknowledged() throws {
    var core = makeCore(3, members: [1, 2, 3])
    let metadata = SnapshotMetadata(index: 9, term: 2, confState: ConfState(voters: [1, 3, 4]))
    core.step(
      Message(
        kind: .snapshot, to: 3, from: 1, term: 2, snapshot: Snapshot(metadata: metadata)))
    core.step(
      Message(
        kind: .append, to: 3, from: 1, term: 2, logTerm: 2, index: 9,
        entries: [Entry(term: 2, index: 10)], commit: 10))
    let effects = try #require(take(&core))
    #expect(effects.snapshot?.metadata == metadata && effects.mustSync)
    #expect(effects.entries.map(\.index) == [10] && effects.hardState?.commit == 10)
    #expect(effects.sendNow.isEmpty && effects.sendAfterSync.map(\.index) == [10])
    #expect(core.confState.voters == [1, 3, 4])
    core.campaign()
    #expect(core.role == .follower, "no election before the state is whole")
    core.persisted(effects.sequence)
    #expect(take(&core) == nil, "nothing is applied before the snapshot is installed")
    core.snapshotInstalled(9)
    #expect(take(&core)?.committed.map(\.index) == [10])
  }

  @Test func uselessSnapshotsAreIgnored() {
    let held = SnapshotMetadata(index: 2, term: 1, confState: ConfState(voters: [1, 2]))
    let foreign = SnapshotMetadata(index: 9, term: 1, confState: ConfState(voters: [2, 3]))
    for (metadata, commit) in [(held, 2), (foreign, 1)] as [(SnapshotMetadata, LogIndex)] {
      var core = makeCore(
        1, members: [1, 2], hardState: HardState(term: 1, commit: 1), entries: log(1, 1, 1))
      core.step(
        Message(
          kind: .snapshot, to: 1, from: 2, term: 1, snapshot: Snapshot(metadata: metadata)))
      let effects = take(&core)
      #expect(effects?.snapshot == nil && core.log.lastIndex == 3)
      #expect(effects?.sendAfterSync.map(\.index) == [commit])
    }
  }
}
