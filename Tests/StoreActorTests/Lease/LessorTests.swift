import Base
import Testing

@testable import StoreActor

@Suite struct LessorTests {
  private static let second: UInt64 = 1_000_000_000
  private let second = Self.second

  private func lessor(primary: Bool = true, checkpointInterval: UInt64? = nil) -> Lessor {
    var lessor = Lessor(
      ttlMin: 2, retryPeriod: 7 * second, checkpointInterval: checkpointInterval)
    if primary { lessor.promote(now: 0, extend: 0) }
    return lessor
  }

  private func bytes(_ key: String) -> Bytes { Bytes(key.utf8) }

  @Test func shortestTTLIsOneAndAHalfElectionTimeouts() {
    #expect(Lessor.ttlMin(electionTimeout: second) == 2)
    #expect(Lessor.ttlMin(electionTimeout: 2 * second) == 3)
    #expect(Lessor.ttlMin(electionTimeout: 100_000_000) == 1)
  }

  @Test func grantRaisesShortTTLsAndRefusesLongOnes() throws {
    var lessor = lessor()
    #expect(try lessor.grant(1, ttl: 0, now: 0) == LeaseRecord(id: 1, ttl: 2))
    #expect(try lessor.grant(-5, ttl: -9, now: 0).ttl == 2)
    #expect(try lessor.grant(3, ttl: 60, now: 0).ttl == 60)
    #expect(try lessor.grant(4, ttl: 9_000_000_000, now: 0).ttl == 9_000_000_000)
    #expect(throws: LeaseError.ttlTooLarge) { try lessor.grant(5, ttl: 9_000_000_001, now: 0) }
    #expect(throws: LeaseError.exists) { try lessor.grant(3, ttl: 9, now: 0) }
    #expect(throws: LeaseError.notFound) { try lessor.grant(0, ttl: 9, now: 0) }
    #expect(lessor.leases == [-5, 1, 3, 4])
    #expect(lessor.expired(now: .max - 1) == [-5, 1, 3, 4])
  }

  @Test func revokeReturnsKeysInByteOrder() throws {
    var lessor = lessor()
    _ = try lessor.grant(1, ttl: 5, now: 0)
    for key in ["b", "a", "\u{7f}", "ab", "é"] { try lessor.attach(bytes(key), to: 1) }
    #expect(lessor.keys(of: 1) == ["a", "ab", "b", "\u{7f}", "é"].map(bytes))
    let revocation = try lessor.revoke(1)
    #expect(revocation.keys == ["a", "ab", "b", "\u{7f}", "é"].map(bytes))
    #expect(revocation.effect == .delete(1))
    #expect(lessor.lease(ofKey: bytes("a")) == nil)
    #expect(lessor.keys(of: 1) == nil)
    #expect(throws: LeaseError.notFound) { try lessor.revoke(1) }
    #expect(lessor.renew(1, now: 0) == .notFound)
  }

  @Test func aKeyHangsOnOneLease() throws {
    var lessor = lessor()
    _ = try lessor.grant(1, ttl: 5, now: 0)
    _ = try lessor.grant(2, ttl: 5, now: 0)
    try lessor.attach([1], to: 1)
    try lessor.attach([1], to: 2)
    #expect(lessor.lease(ofKey: [1]) == 2)
    #expect(lessor.keys(of: 1) == [])
    #expect(throws: LeaseError.notFound) { try lessor.attach([1], to: 3) }
    #expect(lessor.lease(ofKey: [1]) == 2)
    lessor.detach([1], from: 1)
    #expect(lessor.lease(ofKey: [1]) == 2)
    lessor.detach([1], from: 2)
    lessor.detach([1])
    #expect(lessor.lease(ofKey: [1]) == nil)
    #expect(try lessor.revoke(2).keys == [])
  }

  @Test func leasesEndOnTheLeaderOnlyAndNeverEarly() throws {
    var follower = lessor(primary: false)
    _ = try follower.grant(1, ttl: 5, now: 0)
    #expect(follower.expired(now: .max) == [])
    #expect(follower.renew(1, now: 0) == .notPrimary)
    #expect(throws: LeaseError.notPrimary) { try follower.timeToLive(1, now: 0) }
    #expect(follower.nextDue == nil)
    var leader = lessor()
    _ = try leader.grant(1, ttl: 5, now: second)
    #expect(leader.nextDue == 6 * second)
    #expect(leader.expired(now: 6 * second - 1) == [])
    #expect(leader.expired(now: 6 * second) == [1])
  }

  @Test func anExpiredLeaseIsReportedOncePerRetryPeriodAndNotRenewed() throws {
    var lessor = lessor()
    _ = try lessor.grant(1, ttl: 5, now: 0)
    #expect(lessor.renew(1, now: 5 * second - 1) == .renewed(ttl: 5))
    #expect(lessor.expired(now: 5 * second) == [], "renewed")
    let end = 10 * second - 1
    #expect(lessor.renew(1, now: end) == .expiredPendingRevoke)
    #expect(lessor.expired(now: end) == [1])
    #expect(lessor.expired(now: end + 7 * second - 1) == [])
    #expect(lessor.renew(1, now: end) == .expiredPendingRevoke)
    #expect(lessor.expired(now: end + 7 * second) == [1])
    _ = try lessor.revoke(1)
    #expect(lessor.renew(1, now: end) == .notFound)
    #expect(lessor.expired(now: end + 90 * second) == [])
  }

  @Test func aRenewedLeaseEndsExactlyAtItsNewDeadline() throws {
    var lessor = lessor()
    _ = try lessor.grant(1, ttl: 5, now: 0)
    #expect(lessor.renew(1, now: 3) == .renewed(ttl: 5))
    #expect(lessor.expired(now: 5 * second + 2) == [])
    #expect(lessor.expired(now: 5 * second + 3) == [1])
  }

  @Test func aNewLeaseWithAnOldIDHasItsOwnDeadline() throws {
    var lessor = lessor()
    _ = try lessor.grant(1, ttl: 5, now: 0)
    _ = try lessor.revoke(1)
    _ = try lessor.grant(1, ttl: 50, now: 0)
    #expect(lessor.expired(now: 6 * second) == [])
    #expect(lessor.expired(now: 50 * second) == [1])
    #expect(lessor.expired(now: 51 * second) == [])
  }

  @Test func scansAreLimitedAndEarliestFirst() throws {
    var lessor = lessor()
    for id: LeaseID in 1...9 { _ = try lessor.grant(id, ttl: 20 - id, now: 0) }
    #expect(lessor.expired(now: 100 * second, limit: 4) == [9, 8, 7, 6])
    #expect(lessor.expired(now: 100 * second, limit: 9) == [5, 4, 3, 2, 1])
  }

  @Test func timeToLiveTruncatesTowardZero() throws {
    var lessor = lessor()
    _ = try lessor.grant(1, ttl: 5, now: 0)
    func remaining(_ now: UInt64) throws -> Int64? { try lessor.timeToLive(1, now: now)?.remaining }
    #expect(try lessor.timeToLive(1, now: 0) == LeaseTimeToLive(remaining: 5, granted: 5))
    #expect(try remaining(1) == 4)
    #expect(try remaining(5 * second + 999_999_999) == 0)
    #expect(try remaining(8 * second) == -3)
    #expect(try lessor.timeToLive(2, now: 0) == nil)
  }

  @Test func promotionGrantsTheFullOrCheckpointedTimeAndTheExtension() throws {
    var lessor = lessor(primary: false)
    _ = try lessor.grant(1, ttl: 100, now: 0)
    _ = try lessor.grant(2, ttl: 100, now: 0)
    #expect(
      lessor.checkpoint(2, remainingTTL: 30)
        == .put(LeaseRecord(id: 2, ttl: 100, remainingTTL: 30)))
    #expect(lessor.checkpoint(3, remainingTTL: 30) == nil)
    lessor.promote(now: 1000 * second, extend: 2 * second)
    #expect(lessor.expired(now: 1032 * second - 1) == [])
    #expect(lessor.expired(now: 1032 * second) == [2])
    #expect(lessor.expired(now: 1102 * second - 1).contains(1) == false)
    lessor.demote()
    #expect(lessor.expired(now: .max) == [])
    lessor.promote(now: 2000 * second, extend: 0)
    #expect(lessor.expired(now: 2030 * second) == [2], "clocks start anew")
  }

  @Test func manyExpiriesAfterAPromotionAreSpread() throws {
    var lessor = lessor(primary: false)
    let records = (1...3000).map { LeaseRecord(id: $0, ttl: $0 <= 100 ? 100 : 10) }
    lessor.restore(records)
    lessor.promote(now: 0, extend: second)
    #expect(lessor.expired(now: 11 * second - 1, limit: .max) == [])
    var counts: [Int] = []
    for tick: UInt64 in 11..<16 {
      counts.append(lessor.expired(now: (tick + 1) * second - 1, limit: .max).count)
    }
    #expect(counts.allSatisfy { $0 <= 750 })
    #expect(counts.reduce(0, +) == 2900)
    #expect(lessor.expired(now: 101 * second - 1).allSatisfy { $0 > 100 }, "only retries")
  }

  @Test func aThousandLeasesMayFallDueTogether() throws {
    var lessor = lessor(primary: false)
    lessor.restore((1...1000).map { LeaseRecord(id: $0, ttl: 10) })
    lessor.promote(now: 0, extend: 0)
    #expect(lessor.expired(now: 10 * second, limit: 2000).count == 1000)
  }

  @Test func checkpointsOfLongLeases() throws {
    let minute = 60 * second
    var lessor = lessor(checkpointInterval: 5 * minute)
    _ = try lessor.grant(1, ttl: 1000, now: 0)
    _ = try lessor.grant(2, ttl: 300, now: 0)
    #expect(lessor.dueCheckpoints(now: 5 * minute - 1) == [])
    #expect(
      lessor.dueCheckpoints(now: 5 * minute) == [LeaseCheckpoint(id: 1, remainingTTL: 700)])
    #expect(lessor.renew(1, now: 5 * minute) == .clearCheckpointFirst, "one is on its way")
    _ = lessor.checkpoint(1, remainingTTL: 700)
    #expect(lessor.renew(1, now: 5 * minute) == .clearCheckpointFirst, "one is stored")
    #expect(lessor.checkpoint(1, remainingTTL: 0) == .put(LeaseRecord(id: 1, ttl: 1000)))
    #expect(lessor.renew(1, now: 5 * minute) == .renewed(ttl: 1000))
    #expect(
      lessor.dueCheckpoints(now: 10 * minute) == [LeaseCheckpoint(id: 1, remainingTTL: 700)])
    _ = try lessor.revoke(1)
    #expect(lessor.dueCheckpoints(now: 60 * minute) == [])
  }

  @Test func checkpointingResumesAfterARenewalNearTheEnd() throws {
    var lessor = lessor(checkpointInterval: 10 * second)
    _ = try lessor.grant(1, ttl: 15, now: 0)
    #expect(lessor.dueCheckpoints(now: 10 * second).count == 1)
    _ = lessor.checkpoint(1, remainingTTL: 0)
    #expect(lessor.renew(1, now: 12 * second) == .renewed(ttl: 15))
    #expect(lessor.dueCheckpoints(now: 22 * second).map(\.remainingTTL) == [5])
  }

  @Test func recordsSurviveStorage() throws {
    let record = LeaseRecord(id: -7, ttl: 9_000_000_000, remainingTTL: 3)
    #expect(try LeaseRecord(decoding: record.encoded) == record)
    #expect(LeaseRecord(id: 1, ttl: 300).encoded == [8, 1, 16, 0xac, 2])
    #expect(throws: ProtobufError.truncated) { try LeaseRecord(decoding: [8]) }
    var source = lessor()
    _ = try source.grant(9, ttl: 50, now: 0)
    _ = try source.grant(1, ttl: 60, now: 0)
    _ = source.checkpoint(1, remainingTTL: 20)
    try source.attach([1], to: 1)
    let records = source.records
    #expect(records.map(\.id) == [1, 9])
    source.restore(records)
    #expect(source.records == records)
    #expect(source.lease(ofKey: [1]) == nil)
    #expect(!source.isPrimary)
  }

  @Test func generatedIDsArePositiveAndDistinct() {
    var first = LeaseIDGenerator(member: .max, milliseconds: .max)
    var second = LeaseIDGenerator(member: 1, milliseconds: 0)
    var zero = LeaseIDGenerator(member: 0, milliseconds: .max)
    var seen: Set<LeaseID> = []
    for _ in 0..<1000 {
      for id in [first.next(), second.next(), zero.next()] {
        #expect(id > 0)
        seen.insert(id)
      }
    }
    #expect(seen.count == 3000)
  }

  @Test func revokedLeasesLeaveNothingBehind() throws {
    var heap = DeadlineHeap()
    for lease: LeaseID in 0..<50 {
      heap.insert(.init(due: UInt64(lease * 7 % 50), lease: lease, incarnation: 1))
    }
    heap.prune { $0.lease % 2 == 0 }
    var due: [UInt64] = []
    while heap.count > 0 { due.append(heap.removeFirst().due) }
    #expect(due.count == 25)
    #expect(due == due.sorted())
    var lessor = lessor()
    for id: LeaseID in 1...5000 {
      _ = try lessor.grant(id, ttl: 1_000_000, now: 0)
      _ = try lessor.revoke(id)
    }
    #expect(lessor.scheduledCount <= 64)
  }
}
