import Base
import Testing

@testable import RaftActor

@Suite struct ReadIndexTests {
  @Test func leaderAndFollowerReadsShareARound() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    _ = group.with(1) { $0.propose([[1]]) }
    group.settle()
    group.sent.removeAll()
    _ = group.with(1) { core in
      core.readIndex(context: [1])
      core.readIndex(context: [2])
    }
    _ = group.with(2) { $0.readIndex(context: [3]) }
    group.settle()
    #expect(group.readStates[1]?.map(\.context) == [[1], [2]])
    #expect(group.readStates[1]?.map(\.index) == [2, 2])
    #expect(group.readStates[2] == [RaftCore.ReadState(context: [3], index: 2)])
    let beats = group.sent.filter { $0.kind == .heartbeat && $0.to == 3 }
    #expect(beats.count == 2, "one for the leader's two, one for the follower's")
  }

  @Test func waitsForAnOwnCommit() {
    var group = CoreGroup([1, 2, 3])
    group.drops = { $0.kind == .append }
    group.elect(1)
    #expect(group.core(1).role == .leader && group.core(1).commit == 0)
    _ = group.with(1) { $0.readIndex(context: [1]) }
    group.settle()
    #expect(group.readStates[1, default: []].isEmpty)
    group.drops = { _ in false }
    group.tick(1, times: 2)
    #expect(group.readStates[1]?.map(\.index) == [1])
  }

  @Test func deposedLeaderConfirmsNothing() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.drops = { $0.to == 1 || $0.from == 1 }
    _ = group.with(1) { $0.readIndex(context: [1]) }
    group.settle()
    group.tick(3, times: 10)
    group.elect(2)
    #expect(group.core(2).role == .leader)
    #expect(group.readStates[1, default: []].isEmpty)
    group.drops = { _ in false }
    group.tick(2)
    #expect(group.core(1).leader == 2)
    #expect(group.droppedReads[1] == [[1]] && group.readStates[1, default: []].isEmpty)
  }

  @Test func lateEchoOfAnEarlierRoundDoesNotConfirm() {
    var core = makeCore(1, members: [1, 2, 3])
    core.campaign()
    core.step(Message(kind: .preVoteResponse, to: 1, from: 2, term: 1))
    core.persisted(take(&core)?.sequence ?? 0)
    core.step(Message(kind: .voteResponse, to: 1, from: 2, term: 1))
    core.persisted(take(&core)?.sequence ?? 0)
    core.step(Message(kind: .appendResponse, to: 1, from: 2, term: 1, index: 1))
    func echo(_ round: UInt64) -> Message {
      Message(
        kind: .heartbeatResponse, to: 1, from: 2, term: 1, context: ReadQueue.encode(round))
    }
    core.readIndex(context: [1])
    _ = take(&core)
    core.readIndex(context: [2])
    _ = take(&core)
    core.step(echo(1))
    #expect(take(&core)?.readStates.map(\.context) == [[1]])
    core.step(echo(7))
    core.step(Message(kind: .heartbeatResponse, to: 1, from: 2, term: 1))
    #expect(take(&core)?.readStates.isEmpty != false, "no such round was started")
    core.step(echo(2))
    #expect(take(&core)?.readStates.map(\.context) == [[2]])
  }

  @Test func onlyVoterAnswersAtOnce() {
    var group = CoreGroup([1])
    group.elect(1)
    _ = group.with(1) { core in
      core.readIndex(context: [1])
      #expect(take(&core)?.readStates == [RaftCore.ReadState(context: [1], index: 1)])
    }
  }

  @Test func withoutLeaderNothingIsSent() {
    var core = makeCore(1, members: [1, 2, 3])
    let isAccepted = core.readIndex(context: [1])
    #expect(!isAccepted)
    #expect(take(&core) == nil)
  }

  @Test func foreignContextsAreEchoed() {
    var core = makeCore(1, members: [1, 2, 3])
    for context in [[1, 2, 3], [UInt8](repeating: 9, count: 8), []] as [Bytes] {
      core.step(Message(kind: .heartbeat, to: 1, from: 2, term: 1, context: context))
      let effects = take(&core)
      let replies = (effects?.sendNow ?? []) + (effects?.sendAfterSync ?? [])
      #expect(replies.map(\.context) == [context])
    }
  }
}
