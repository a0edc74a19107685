import Base
import HTTP
import StoreActor
import Testing

@testable import Member

@Suite struct ReadCoordinatorTests {
  private func read(_ id: UInt64) -> StoreRead { StoreRead(id: id, kind: .leases) }

  @Test func readsThatArriveDuringARoundJoinTheNextOne() {
    var reads = ReadCoordinator(giveUpAfter: 7_000)
    reads.add(read(1), now: 0)
    reads.begin(id: 100, now: 0)
    reads.add(read(2), now: 1)
    #expect(!reads.wantsRound)
    #expect(reads.confirmed(id: 99).isEmpty)
    #expect(reads.confirmed(id: 100).map(\.id) == [1])
    #expect(reads.wantsRound)
    reads.begin(id: 101, now: 2)
    #expect(reads.confirmed(id: 100).isEmpty, "an answer to an older round confirms nothing")
    #expect(reads.confirmed(id: 101).map(\.id) == [2])
    #expect(!reads.wantsRound)
  }

  @Test func aRetryHasANewIDAndAnyOfThemConfirms() {
    var reads = ReadCoordinator(retryAfter: 500, giveUpAfter: 7_000)
    reads.add(read(1), now: 0)
    reads.begin(id: 1, now: 0)
    #expect(!reads.wantsRetry(now: 499, leaderChanged: false))
    #expect(reads.wantsRetry(now: 10, leaderChanged: true))
    #expect(reads.wantsRetry(now: 500, leaderChanged: false))
    reads.retry(id: 2, now: 500)
    #expect(!reads.wantsRetry(now: 501, leaderChanged: false))
    #expect(reads.confirmed(id: 1).map(\.id) == [1])
  }

  @Test func aRoundIsGivenUpInTheEnd() {
    var reads = ReadCoordinator(retryAfter: 500, giveUpAfter: 7_000)
    reads.add(read(1), now: 100)
    reads.begin(id: 1, now: 200)
    #expect(reads.expired(now: 7_099).isEmpty)
    #expect(reads.expired(now: 7_100).map(\.id) == [1])
    #expect(reads.confirmed(id: 1).isEmpty)
  }
}

@Suite struct WaiterTableTests {
  @Test func everyWaiterLeavesOnce() {
    var waiters = WaiterTable()
    for id in UInt64(1)...5 {
      waiters.add(
        id, .forwarded(id), bytes: 10, isWrite: id % 2 == 1, now: 0, deadline: 100 + id)
    }
    #expect(waiters.writes == 3 && waiters.writeBytes == 30)
    #expect(waiters.take(3) != nil)
    #expect(waiters.take(3) == nil)
    #expect(waiters.writes == 2)
    #expect(waiters.expired(now: 100).isEmpty)
    #expect(waiters.expired(now: 104).count == 3)
    #expect(waiters.expired(now: 1_000).count == 1)
    #expect(waiters.count == 0 && waiters.writes == 0 && waiters.writeBytes == 0)
  }
}

@Suite struct GatewayMethodTests {
  @Test func unknownMethodsAreNamedAsInGo() {
    #expect(
      GatewayMethod.unknown(path: "/etcdserverpb.KV/Nope").message
        == "unknown method Nope for service etcdserverpb.KV")
    #expect(GatewayMethod.unknown(path: "/no.Such/M").message == "unknown service no.Such")
    #expect(
      GatewayMethod.unknown(path: "/etcdserverpb.KV/").message
        == "unknown method  for service etcdserverpb.KV")
    #expect(GatewayMethod.unknown(path: "/x.Y/").message == "unknown service x.Y")
    #expect(GatewayMethod.unknown(path: "/a/b/C").message == "unknown service a/b")
    #expect(
      GatewayMethod.unknown(path: "/nothing").message == #"malformed method name: "/nothing""#)
  }

  @Test func everyMethodHasItsOwnCounters() {
    #expect(Set(GatewayMethod.allCases.map(\.metricsIndex)).count == GatewayMethod.allCases.count)
  }
}
