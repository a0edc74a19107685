import Base
import EtcdAPI
import FoundationEssentials
import StoreActor
import SwiftProtobuf
import Testing

@testable import Member

@Suite struct ObserveMachineTests {
  private func started() -> ObserveMachine {
    var machine = ObserveMachine(name: Data("q".utf8))
    #expect(machine.handle(.started).onlyRead?.success.count == 1)
    return machine
  }

  @Test func leaderIsToldAndFollowed() throws {
    var machine = started()
    let actions = machine.handle(.answered(.oldest(("q/1", 3), value: "a", mod: 5, at: 9)))
    #expect(actions.told == ["a@9"])
    let watched = try #require([actions[1]].onlyWatch)
    #expect(watched.map(\.startRevision) == [10])
    #expect(watched[0].key == Bytes("q/1".utf8) && watched[0].rangeEnd.isEmpty)
  }

  @Test func everyValueIsTold() {
    var machine = started()
    _ = machine.handle(.answered(.oldest(("q/1", 3), value: "a", mod: 5, at: 9)))
    let actions = machine.handle(
      .changed(.events([(.put, "q/1", "b", 12), (.put, "q/1", "c", 13)])))
    #expect(actions.told == ["b@12", "c@13"] && actions.count == 2)
  }

  @Test func successorIsSoughtWhenTheLeaderGoes() {
    var machine = started()
    _ = machine.handle(.answered(.oldest(("q/1", 3), value: "a", mod: 5, at: 9)))
    let actions = machine.handle(
      .changed(
        .events([(.put, "q/1", "b", 12), (.delete, "q/1", "", 13), (.put, "q/1", "z", 14)])))
    #expect(actions.told == ["b@12"])
    #expect(actions.count == 3 && actions[1].isUnwatch && actions[2].isRead)
  }

  @Test func successorThatProclaimedEarlierIsTold() {
    var machine = started()
    _ = machine.handle(.answered(.oldest(("q/1", 3), value: "a", mod: 8, at: 9)))
    _ = machine.handle(.changed(.events([(.delete, "q/1", "", 10)])))
    let actions = machine.handle(.answered(.oldest(("q/2", 4), value: "b", mod: 4, at: 10)))
    #expect(actions.told == ["b@10"])
  }

  @Test func firstCandidateOfAnEmptyElectionIsTold() throws {
    var machine = started()
    let actions = machine.handle(.answered(.oldest(nil, value: "", mod: 0, at: 9)))
    let watched = try #require(actions.onlyWatch)
    #expect(watched[0].key == Bytes("q/".utf8) && watched[0].rangeEnd == Bytes("q0".utf8))
    #expect(watched[0].startRevision == 10 && watched[0].noDelete)
    let appeared = machine.handle(
      .changed(.events([(.put, "q/7", "a", 11), (.put, "q/8", "b", 12)])))
    #expect(appeared.told == ["a@11"])
    #expect(appeared[1].isUnwatch)
    #expect([appeared[2]].onlyWatch?.map(\.startRevision) == [12])
  }

  @Test func lostHistoryIsNoReasonToRepeatAValue() {
    var machine = started()
    _ = machine.handle(.answered(.oldest(("q/1", 3), value: "a", mod: 5, at: 9)))
    let lost = machine.handle(.historyLost)
    #expect(lost.count == 2 && lost[0].isUnwatch && lost[1].isRead)
    let same = machine.handle(.answered(.oldest(("q/1", 3), value: "a", mod: 5, at: 30)))
    #expect(same.told == [] && same.onlyWatch?.map(\.startRevision) == [31])
    _ = machine.handle(.historyLost)
    #expect(
      machine.handle(.answered(.oldest(("q/1", 3), value: "b", mod: 33, at: 40))).told
        == ["b@40"])
  }

  @Test func failureEndsTheStream() {
    var machine = started()
    #expect(machine.handle(.failed(.timeout)).onlyError == .observeClosed)
    #expect(machine.isFinished)
  }

  @Test func cancellationClosesTheWatch() {
    var machine = started()
    _ = machine.handle(.answered(.oldest(("q/1", 3), value: "a", mod: 5, at: 9)))
    let actions = machine.handle(.cancelled)
    #expect(actions.count == 1 && actions[0].isUnwatch && machine.isFinished)
  }
}

@Suite struct BriefMachineTests {
  private let leader = V3electionpb_LeaderKey.with {
    $0.name = Data("q".utf8)
    $0.key = Data("q/1".utf8)
    $0.rev = 3
    $0.lease = 1
  }

  @Test func requestsWithoutLeaderAreRefused() {
    var proclaim = BriefMachine(.proclaim(.init()))
    #expect(proclaim.handle(.started).onlyError == .missingLeaderField)
    var resign = BriefMachine(.resign(.init()))
    #expect(resign.handle(.started).onlyError == .missingLeaderField)
    #expect(resign.isFinished)
  }

  @Test func proclamationDependsOnTheKeysCreation() throws {
    var machine = BriefMachine(
      .proclaim(
        .with {
          $0.leader = leader
          $0.value = Data("v".utf8)
        }))
    let transaction = try #require(machine.handle(.started).onlyWrite)
    #expect(transaction.compare.first?.createRevision == 3)
    #expect(transaction.success.first?.requestPut.lease == 1)
    #expect(machine.handle(.answered(.init())).onlyError == .electionNotLeader)
  }

  @Test func proclamationWithoutLeaseGetsOne() throws {
    var machine = BriefMachine(
      .proclaim(
        .with {
          $0.leader = leader
          $0.leader.lease = 0
        }))
    guard case .grantLease? = machine.handle(.started).first else {
      Issue.record("no lease asked for")
      return
    }
    let transaction = try #require(machine.handle(.granted(9)).onlyWrite)
    #expect(transaction.success.first?.requestPut.lease == 9)
  }

  @Test func resignationOfAnotherIsNoError() {
    var machine = BriefMachine(.resign(.with { $0.leader = leader }))
    let transaction = machine.handle(.started).onlyWrite
    #expect(transaction?.success.first?.requestDeleteRange.key == leader.key)
    #expect(transaction?.compare.first?.createRevision == 3)
    #expect(machine.handle(.answered(.init())).onlyReply is V3electionpb_ResignResponse)
  }

  @Test func leaderIsTheOldest() {
    var machine = BriefMachine(.leader(name: Data("q".utf8)))
    let range = machine.handle(.started).onlyRead?.success.first?.requestRange
    #expect(range?.sortTarget == .create && range?.sortOrder == .ascend && range?.limit == 1)
    var other = machine
    #expect(
      machine.handle(.answered(.oldest(nil, value: "", mod: 0, at: 9))).onlyError
        == .electionNoLeader)
    let found = other.handle(.answered(.oldest(("q/1", 3), value: "a", mod: 5, at: 9))).onlyReply
    #expect((found as? V3electionpb_LeaderResponse)?.kv.value == Data("a".utf8))
  }

  @Test func unlockDeletesUnconditionally() {
    var machine = BriefMachine(.unlock(key: Data("q/1".utf8)))
    let transaction = machine.handle(.started).onlyWrite
    #expect(transaction?.compare.isEmpty == true)
    #expect(transaction?.success.first?.requestDeleteRange.key == Data("q/1".utf8))
    #expect(machine.handle(.failed(.keyNotProvided)).onlyError == .keyNotProvided)
  }
}
