import Actors
import Base
import Synchronization
import TestSupport
import Testing

@testable import RaftActor

/// Member 1 of three, with everything that it sends or refuses on record.
private final class NodeHarness {
  private final class Record: Sendable {
    let sent = Mutex<[Message]>([])
    let refused = Mutex<[UInt64]>([])
  }

  private let executor = StepExecutor()
  private let record = Record()
  private let node: RaftNode

  init() {
    node = RaftNode(
      core: makeCore(1, members: [1, 2, 3]),
      policy: RaftNode.LogPolicy(
        entriesBetween: 10_000, catchUpEntries: 5000, parkedTicksMax: 20),
      executor: executor)
    let record = record
    node.start(
      RaftOutlets(
        write: { _ in }, send: { messages in record.sent.withLock { $0 += messages } },
        apply: { _ in }, confirmReads: { _ in }, softStateChanged: { _ in },
        proposalsDropped: { ids, _ in record.refused.withLock { $0 += ids } },
        makeSnapshot: { _ in }, installSnapshot: { _ in }))
    executor.run()
  }

  var refused: [UInt64] { record.refused.withLock { $0 } }

  /// To whom requests were handed on, in order.
  var forwarded: [MemberID] {
    record.sent.withLock { sent in sent.filter { $0.kind == .proposal }.map(\.to) }
  }

  func send(_ inputs: RaftInput...) {
    for input in inputs { node.inbox.send(input) }
    executor.run()
  }

  func hear(_ kind: Message.Kind, from: MemberID, term: Term) {
    send(.messages([Message(kind: kind, to: 1, from: from, term: term)]))
  }
}

@Suite struct RaftNodeTests {
  /// In the second between the end of a leader and the next election a follower takes requests; handed
  /// to the dead they would be lost, and their callers would wait for five seconds.
  @Test func requestsWaitWhileTheLeaderIsSilent() {
    let harness = NodeHarness()
    harness.hear(.heartbeat, from: 2, term: 1)
    harness.send(.propose(ids: [1], payloads: [[1]]))
    #expect(harness.forwarded == [2])

    harness.send(.unreachable(2), .propose(ids: [2], payloads: [[2]]), .tick)
    #expect(harness.forwarded == [2])

    harness.hear(.heartbeat, from: 3, term: 2)
    #expect(harness.forwarded == [2, 3] && harness.refused.isEmpty)
  }

  @Test func aLeaderThatIsHeardAgainGetsWhatWaited() {
    let harness = NodeHarness()
    harness.hear(.heartbeat, from: 2, term: 1)
    harness.send(.unreachable(2), .propose(ids: [1], payloads: [[1]]))
    // A member that comes back may stand for election; that does not make it the leader.
    harness.hear(.preVote, from: 2, term: 2)
    #expect(harness.forwarded.isEmpty)

    harness.hear(.heartbeat, from: 2, term: 1)
    #expect(harness.forwarded == [2])
    harness.send(.propose(ids: [2], payloads: [[2]]))
    #expect(harness.forwarded == [2, 2])
  }

  @Test func anotherMembersSilenceIsNoReasonToWait() {
    let harness = NodeHarness()
    harness.hear(.heartbeat, from: 2, term: 1)
    harness.send(.unreachable(3), .propose(ids: [1], payloads: [[1]]))
    #expect(harness.forwarded == [2])
  }

  @Test func requestsDoNotWaitLongerThanTheirCallers() {
    let harness = NodeHarness()
    harness.hear(.heartbeat, from: 2, term: 1)
    harness.send(.unreachable(2), .propose(ids: [7], payloads: [[7]]))
    for _ in 0..<30 { harness.send(.tick) }
    #expect(harness.refused == [7] && harness.forwarded.isEmpty)
  }
}
