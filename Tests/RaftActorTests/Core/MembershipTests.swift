import Base
import Testing

@testable import RaftActor

@Suite struct MembershipTests {
  private func change(_ kind: ConfChange.Kind, _ id: MemberID) -> Bytes {
    ConfChange(kind: kind, nodeID: id).encoded()
  }

  @Test func learnerIsAddedCatchesUpAndIsPromoted() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    _ = group.with(1) { $0.propose([[1], [2]]) }
    group.settle()
    group.add(4, members: [])
    _ = group.with(1) { $0.proposeConfChange(change(.addLearnerNode, 4)) }
    group.settle()
    group.tick(1, times: 2)
    #expect(group.core(1).confState == ConfState(voters: [1, 2, 3], learners: [4]))
    #expect(group.applied(4) == [1, 2])
    _ = group.with(2) { $0.proposeConfChange(change(.addNode, 4)) }
    group.settle()
    for id in [1, 2, 3] as [MemberID] {
      #expect(group.core(id).confState == ConfState(voters: [1, 2, 3, 4]))
    }
    #expect(group.core(4).isPromotable)
  }

  @Test func learnerDoesNotCount() {
    var group = CoreGroup([])
    for id in [1, 2, 3] as [MemberID] { group.add(id, members: [1, 2], learners: [3]) }
    group.elect(1)
    group.drops = { $0.to == 2 }
    _ = group.with(1) { $0.propose([[1]]) }
    group.settle()
    #expect(group.core(1).commit == 1 && group.core(1).status.peers[2].match == 2)
  }

  @Test func oneChangeAtATime() throws {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    _ = group.with(1) { core in
      _ = core.proposeConfChange(change(.addLearnerNode, 4))
      _ = core.proposeConfChange(change(.removeNode, 3))
      #expect(core.pendingConfIndex == 2)
      let refused = core.log.entries(from: 3)[0]
      #expect(refused.kind == .normal && refused.data.isEmpty)
      let joint = Entry(term: 0, index: 0, kind: .configurationChangeV2, data: [1])
      core.step(Message(kind: .proposal, to: 1, from: 2, entries: [joint]))
      #expect(core.log.entries(from: 4)[0].kind == .normal)
    }
    group.settle()
    #expect(group.core(1).confState == ConfState(voters: [1, 2, 3], learners: [4]))
    // A change refused on apply clears the way too.
    _ = group.with(1) { $0.proposeConfChange(change(.addNode, 0)) }
    group.settle()
    _ = group.with(1) { $0.proposeConfChange(change(.removeNode, 4)) }
    group.settle()
    #expect(group.core(2).confState == ConfState(voters: [1, 2, 3]))
  }

  @Test func smallerQuorumCommitsWhatWaited() {
    var group = CoreGroup([1, 2])
    group.elect(1)
    group.drops = { $0.from == 2 && $0.kind == .appendResponse }
    _ = group.with(1) { $0.propose([[1]]) }
    group.settle()
    #expect(group.core(1).commit == 1)
    _ = group.with(1) { $0.applyConfChange(ConfChange(kind: .removeNode, nodeID: 2)) }
    #expect(group.core(1).commit == 2)
  }

  @Test func removedLeaderKeepsCommittingAndTakesNoProposals() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    _ = group.with(1) { $0.proposeConfChange(change(.removeNode, 1)) }
    _ = group.with(1) { $0.propose([[1]]) }
    group.settle()
    #expect(group.core(1).role == .leader && group.applied(2) == [1])
    #expect(group.core(2).confState == ConfState(voters: [2, 3]))
    #expect(group.with(1) { $0.propose([[2]]) } == .dropped(.notMember))
    #expect(group.core(1).status.peers.map(\.id) == [2, 3])
  }

  @Test func aLazyLeaderTellsAMemberThatItIsRemoved() {
    var group = CoreGroup([1, 2, 3]) { $0.announcesCommitLazily = true }
    group.elect(1)
    _ = group.with(1) { $0.announceCommit() }
    group.settle()
    _ = group.with(1) { $0.proposeConfChange(change(.removeNode, 3)) }
    group.settle()
    #expect(group.core(1).confState == ConfState(voters: [1, 2]))
    #expect(group.core(3).confState == ConfState(voters: [1, 2]))
  }

  @Test func lastVoterStays() {
    var core = makeCore(1, members: [1])
    core.applyConfChange(ConfChange(kind: .removeNode, nodeID: 1))
    core.applyConfChange(ConfChange(kind: .addLearnerNode, nodeID: 1))
    #expect(core.confState == ConfState(voters: [1]))
  }

  @Test func removedTransfereeEndsTheTransfer() {
    var group = CoreGroup([1, 2, 3])
    group.elect(1)
    group.drops = { $0.to == 3 }
    _ = group.with(1) { $0.propose([[1]]) }
    _ = group.with(1) { $0.transferLeader(to: 3) }
    _ = group.with(1) { $0.applyConfChange(ConfChange(kind: .removeNode, nodeID: 3)) }
    #expect(group.core(1).transferee == 0)
  }
}
