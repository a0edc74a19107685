import Actors
import Base
import EtcdAPI
import RaftActor
import SwiftProtobuf
import Testing

@testable import StoreActor

/// A leader logs how long leases have left, so that its successor does not start them anew.
struct LeaseCheckpointTests {
  private static let second: UInt64 = 1_000_000_000

  private func harness(leases: Int, ttl: Int64) throws -> StoreHarness {
    let harness = try StoreHarness(leaseCheckpointInterval: 300 * Self.second)
    harness.becomeLeader()
    for id in 1...leases {
      try harness.apply(
        .leaseGrant,
        Etcdserverpb_LeaseGrantRequest.with {
          $0.id = Int64(id)
          $0.ttl = ttl
        })
    }
    harness.settle()
    harness.forget()
    return harness
  }

  private func timeToLive(_ harness: StoreHarness, _ lease: Int64) throws -> Int64? {
    let read = harness.read(.leaseTimeToLive(lease, keys: false))
    harness.settle()
    return try harness.message(Etcdserverpb_LeaseTimeToLiveResponse.self, read)?.ttl
  }

  private func pass(_ seconds: UInt64, _ harness: StoreHarness) {
    harness.now += seconds * Self.second
    harness.halfASecond()
  }

  @Test func theNextLeaderCountsOn() throws {
    let harness = try harness(leases: 1, ttl: 1000)
    pass(299, harness)
    #expect(harness.record.proposals.isEmpty)
    pass(1, harness)
    #expect(harness.record.proposals.map(\.1) == [.leaseCheckpoint])
    #expect(harness.applyProposals() == 1)
    harness.store.inbox.send(.role(.init(role: .follower, leader: 9, term: 3)))
    harness.becomeLeader(term: 4)
    // 699 or 700 left, and the election timeout on top.
    let left = try #require(try timeToLive(harness, 1))
    #expect((699...702).contains(left), "\(left)")
  }

  /// Also after a restart: checkpoints are in the store's file.
  @Test func checkpointsAreStored() throws {
    let harness = try harness(leases: 1, ttl: 1000)
    pass(301, harness)
    harness.applyProposals()
    harness.store.inbox.send(.flush)
    harness.settle()
    let stored = try harness.backend.makeReadView().get(
      .lease, UInt64(1).bigEndianBytes)
    let record = try LeaseRecord(decoding: Bytes(try #require(stored)))
    #expect(record.ttl == 1000 && (698...700).contains(record.remainingTTL))
  }

  @Test func manyGoInBoundedBatches() throws {
    let harness = try harness(leases: 2500, ttl: 10_000)
    var sizes: [Int] = []
    harness.now += 300 * Self.second
    for _ in 0..<5 {
      harness.halfASecond()
      for (_, _, payload) in harness.record.proposals {
        sizes.append(
          try Etcdserverpb_LeaseCheckpointRequest(serializedBytes: payload).checkpoints.count)
      }
      harness.applyProposals()
      harness.forget()
    }
    #expect(sizes == [1000, 1000, 500])
  }

  /// A renewal takes the checkpoint back before its answer: no leader may end the lease early then.
  @Test func renewalsTakeThemBack() throws {
    let harness = try harness(leases: 2, ttl: 1000)
    pass(301, harness)
    harness.applyProposals()
    harness.forget()
    let renewals = [1, 1, 2].map { harness.read(.leaseKeepAlive($0)) }
    harness.settle()
    #expect(renewals.allSatisfy { harness.reply(to: $0) == nil })
    #expect(harness.record.proposals.count == 2, "one request per lease")
    harness.applyProposals()
    for renewal in renewals {
      #expect(try harness.message(Etcdserverpb_LeaseKeepAliveResponse.self, renewal)?.ttl == 1000)
    }
    harness.store.inbox.send(.role(.init(role: .follower, leader: 9, term: 3)))
    harness.becomeLeader(term: 4)
    #expect(try #require(try timeToLive(harness, 1)) >= 999)
  }

  @Test func renewalsAskAgainAndLearnOfAChangeOfLeader() throws {
    let harness = try harness(leases: 1, ttl: 1000)
    pass(301, harness)
    harness.applyProposals()
    harness.forget()
    let renewal = harness.read(.leaseKeepAlive(1))
    harness.settle()
    harness.forget()  // what was proposed is lost
    harness.halfASecond()
    #expect(harness.record.proposals.map(\.1) == [.leaseCheckpoint])
    harness.store.inbox.send(.role(.init(role: .follower, leader: 9, term: 3)))
    harness.settle()
    #expect(harness.failure(renewal) == .notPrimaryLessor)
  }
}
