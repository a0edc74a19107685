import Base
import EtcdAPI
import FoundationEssentials
import StoreActor
import SwiftProtobuf
import Testing

@testable import Member

@Suite struct AcquireMachineTests {
  private let key = Data("q/2a".utf8)

  private func lock(lease: LeaseID = 42) -> AcquireMachine {
    AcquireMachine(name: Data("q".utf8), lease: lease, purpose: .lock)
  }

  private func campaign(_ value: String) -> AcquireMachine {
    AcquireMachine(
      name: Data("q".utf8), lease: 42, purpose: .candidacy(value: Data(value.utf8)))
  }

  /// A lock that has entered at revision 7 behind an older key, and has looked at the line at 9.
  private func waitingLock(lease: LeaseID = 42) -> AcquireMachine {
    var machine = lock(lease: lease)
    _ = machine.handle(.started)
    if lease == 0 { _ = machine.handle(.granted(42)) }
    _ = machine.handle(.answered(.entered(at: 7, oldest: ("q/1", 3))))
    _ = machine.handle(.answered(.line(at: 9, before: ("q/1", 3), own: ("q/2a", 7))))
    return machine
  }

  @Test func emptyLineIsWonWithOneTransaction() throws {
    var machine = lock()
    let transaction = try #require(machine.handle(.started).onlyWrite)
    #expect(transaction.compare.first?.key == key)
    #expect(transaction.compare.first?.createRevision == 0)
    #expect(transaction.success[0].requestPut.key == key)
    #expect(transaction.success[0].requestPut.lease == 42)
    #expect(transaction.success[1].requestRange.key == Data("q/".utf8))
    #expect(transaction.success[1].requestRange.rangeEnd == Data("q0".utf8))
    #expect(transaction.failure[0].requestRange.key == key)
    let actions = machine.handle(.answered(.entered(at: 7, oldest: ("q/2a", 7))))
    let response = try #require(actions.onlyReply as? V3lockpb_LockResponse)
    #expect(response.key == key)
    #expect(response.header.revision == 7)
    #expect(machine.isFinished)
  }

  @Test func sameLeaseHasTheLockAlready() throws {
    var machine = lock()
    _ = machine.handle(.started)
    let actions = machine.handle(
      .answered(.existing("q/2a", created: 5, value: "", at: 9, oldest: ("q/2a", 5))))
    #expect((actions.onlyReply as? V3lockpb_LockResponse)?.header.revision == 9)
  }

  @Test func waiterWatchesItsPredecessorAndItselfFromTheNextRevision() throws {
    var machine = lock()
    _ = machine.handle(.started)
    let line = try #require(
      machine.handle(.answered(.entered(at: 7, oldest: ("q/1", 3)))).onlyRead)
    let before = line.success[0].requestRange
    #expect(before.maxCreateRevision == 6)
    #expect(before.sortOrder == .descend && before.sortTarget == .create && before.limit == 1)
    #expect(line.success[1].requestRange.key == key)
    let watched = try #require(
      machine.handle(.answered(.line(at: 9, before: ("q/1", 3), own: ("q/2a", 7)))).onlyWatch)
    #expect(watched.map(\.key) == [Bytes("q/1".utf8), Bytes("q/2a".utf8)])
    #expect(watched.allSatisfy { $0.startRevision == 10 && $0.noPut && !$0.noDelete })
  }

  @Test func nothingIsGrantedWithoutLookingAgain() throws {
    var machine = waitingLock()
    let actions = machine.handle(.changed(.events([(.delete, "q/1", "", 12)])))
    #expect(actions.count == 2 && actions[0].isUnwatch && actions[1].isRead)
    let won = machine.handle(.answered(.line(at: 12, before: nil, own: ("q/2a", 7))))
    #expect((won.onlyReply as? V3lockpb_LockResponse)?.header.revision == 12)
  }

  @Test(arguments: [nil, ("q/2a", Int64(11))]) func lostKeyIsNoLock(own: (String, Int64)?) {
    // The key went with its lease; or it went, and another call of the same lease made a new one.
    var machine = waitingLock()
    _ = machine.handle(.changed(.events([(.delete, "q/2a", "", 11)])))
    let actions = machine.handle(.answered(.line(at: 12, before: nil, own: own)))
    #expect(actions.onlyError == .sessionExpired)
    #expect(machine.isFinished)
  }

  @Test func lostCandidacyIsNoLeadership() {
    var machine = campaign("v")
    _ = machine.handle(.started)
    _ = machine.handle(.answered(.entered(at: 7, oldest: ("q/1", 3))))
    let actions = machine.handle(.answered(.line(at: 12, before: nil, own: nil)))
    #expect(actions.onlyError == .electionNotLeader)
  }

  @Test func compactedWatchLooksAgain() {
    var machine = waitingLock()
    let actions = machine.handle(.historyLost)
    #expect(actions.count == 2 && actions[0].isUnwatch && actions[1].isRead)
    #expect(machine.isWaiting)
  }

  @Test func leaseIsGrantedWhenNoneIsGiven() throws {
    var machine = lock(lease: 0)
    guard case .grantLease? = machine.handle(.started).first else {
      Issue.record("no lease asked for")
      return
    }
    let transaction = try #require(machine.handle(.granted(42)).onlyWrite)
    #expect(transaction.success[0].requestPut.lease == 42)
  }

  @Test func negativeLeaseIsWrittenWithItsSign() throws {
    var machine = lock(lease: -255)
    let transaction = try #require(machine.handle(.started).onlyWrite)
    #expect(transaction.success[0].requestPut.key == Data("q/-ff".utf8))
  }

  // MARK: - Leaving

  @Test func cancelledWaiterDeletesItsKeyOnly() throws {
    var machine = waitingLock()
    let actions = machine.handle(.cancelled)
    #expect(actions.count == 2 && actions[0].isUnwatch)
    let transaction = try #require([actions[1]].onlyWrite)
    #expect(transaction.compare.first?.createRevision == 7)
    #expect(transaction.success.map(\.requestDeleteRange.key) == [key])
    #expect(!machine.isFinished)
    #expect(machine.handle(.answered(.init())).isEmpty)
    #expect(machine.isFinished)
  }

  @Test func cancelledWaiterGivesUpTheLeaseThatWasGrantedForIt() {
    var machine = waitingLock(lease: 0)
    let actions = machine.handle(.cancelled)
    guard case .revoke(42)? = actions.last else {
      Issue.record("lease is kept: \(actions)")
      return
    }
    #expect(machine.handle(.revoked).isEmpty)
    #expect(machine.isFinished)
  }

  @Test func failedReleaseIsRepeatedWhenNobodyWaits() {
    var machine = waitingLock()
    _ = machine.handle(.cancelled)
    guard case .retryLater? = machine.handle(.failed(.timeout)).first else {
      Issue.record("given up")
      return
    }
    #expect(machine.isLeaving(key) && !machine.isLeaving(Data("q/1".utf8)))
    #expect(machine.handle(.retry).onlyWrite != nil)
    #expect(machine.handle(.failed(.leaseNotFound)).isEmpty)
    #expect(machine.isFinished)
  }

  @Test func keyCreatedAfterTheCancellationIsDeleted() throws {
    var machine = lock()
    _ = machine.handle(.started)
    #expect(machine.handle(.cancelled).isEmpty)
    let actions = machine.handle(.answered(.entered(at: 7, oldest: ("q/2a", 7))))
    #expect(actions.onlyWrite?.success.first?.requestDeleteRange.key == key)
  }

  @Test func cancelledCallLeavesAnEarlierCallsKeyAlone() {
    var machine = lock()
    _ = machine.handle(.started)
    _ = machine.handle(.cancelled)
    let response = Etcdserverpb_TxnResponse.existing(
      "q/2a", created: 5, value: "", at: 9, oldest: ("q/2a", 5))
    #expect(machine.handle(.answered(response)).isEmpty)
    #expect(machine.isFinished)
  }

  @Test func leaseGrantedAfterTheCancellationIsRevoked() {
    var machine = lock(lease: 0)
    _ = machine.handle(.started)
    _ = machine.handle(.cancelled)
    guard case .revoke(42)? = machine.handle(.granted(42)).first else {
      Issue.record("lease is kept")
      return
    }
  }

  @Test func failedReadIsToldOnceTheKeyIsGone() {
    // A client that tries again with the same lease must not find the old key and lose it later.
    var machine = waitingLock()
    _ = machine.handle(.changed(.events([(.delete, "q/1", "", 12)])))
    #expect(machine.handle(.failed(.timeout)).onlyWrite != nil)
    #expect(machine.handle(.answered(.init())).onlyError == .timeout)
    #expect(machine.isFinished)
  }

  @Test func failedEntryIsToldAtOnce() {
    var machine = lock()
    _ = machine.handle(.started)
    #expect(machine.handle(.failed(.leaseNotFound)).onlyError == .leaseNotFound)
    #expect(machine.isFinished)
  }

  // MARK: - Candidates

  @Test func candidateIsToldTheHeaderOfItsEntry() throws {
    var machine = campaign("v")
    #expect(
      machine.handle(.started).onlyWrite?.success[0].requestPut.value == Data("v".utf8))
    _ = machine.handle(.answered(.entered(at: 7, oldest: ("q/1", 3))))
    let won = machine.handle(.answered(.line(at: 20, before: nil, own: ("q/2a", 7))))
    let response = try #require(won.onlyReply as? V3electionpb_CampaignResponse)
    #expect(response.header.revision == 7)
    #expect(response.leader.rev == 7 && response.leader.lease == 42)
    #expect(response.leader.name == Data("q".utf8) && response.leader.key == key)
  }

  @Test func otherValueOfTheSameLeaseIsProclaimed() throws {
    var machine = campaign("new")
    _ = machine.handle(.started)
    let actions = machine.handle(
      .answered(.existing("q/2a", created: 5, value: "old", at: 9, oldest: ("q/2a", 5))))
    let transaction = try #require(actions.onlyWrite)
    #expect(transaction.compare.first?.createRevision == 5)
    #expect(transaction.success.first?.requestPut.value == Data("new".utf8))
    let won = machine.handle(.answered(.with { $0.succeeded = true }))
    let response = try #require(won.onlyReply as? V3electionpb_CampaignResponse)
    #expect(response.header.revision == 9 && response.leader.rev == 5)
  }

  @Test func proclamationOfALostKeyFails() {
    var machine = campaign("new")
    _ = machine.handle(.started)
    _ = machine.handle(
      .answered(.existing("q/2a", created: 5, value: "old", at: 9, oldest: ("q/1", 3))))
    #expect(machine.handle(.answered(.init())).onlyError == .electionNotLeader)
  }
}
