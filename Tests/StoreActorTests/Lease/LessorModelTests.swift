import Base
import StoreActor
import Testing

/// Random operations against a model that scans everything.
@Suite struct LessorModelTests {
  private struct Model {
    var ttl: Int64
    var remaining: Int64 = 0
    var keys: Set<Bytes> = []
    var deadline: UInt64 = 0
    /// When it may be reported next.
    var report: UInt64 = 0
  }

  private static let second: UInt64 = 1_000_000_000
  private static let retry = 3 * second

  private struct World {
    var generator: SeededGenerator
    var lessor = Lessor(ttlMin: 2, retryPeriod: retry)
    var model: [LeaseID: Model] = [:]
    var now: UInt64 = 0
    var isPrimary = false
    var expirations = 0

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &generator) }

    mutating func step() throws {
      now += UInt64(below(700)) * 1_000_000
      let id = LeaseID(below(20))
      let key = Bytes([UInt8(below(30))])
      switch below(20) {
      case 0..<4: grant(id)
      case 4..<6: try revoke(id)
      case 6..<9: attach(key, id)
      case 9: detach(key)
      case 10..<14: renew(id)
      case 14: checkpoint(id)
      case 15: if below(4) == 0 { changeLeader() }
      case 16: if below(8) == 0 { restore() }
      default: try expire()
      }
      check(id, key)
    }

    mutating func grant(_ id: LeaseID) {
      let ttl = Int64(below(12))
      let result = Result { () throws(LeaseError) in try lessor.grant(id, ttl: ttl, now: now) }
      if id == 0 {
        #expect(result == .failure(.notFound))
      } else if model[id] != nil {
        #expect(result == .failure(.exists))
      } else {
        let granted = max(2, ttl)
        #expect(result == .success(LeaseRecord(id: id, ttl: granted)))
        let deadline = now + UInt64(granted) * second
        model[id] = Model(ttl: granted, deadline: deadline, report: deadline)
      }
    }

    mutating func revoke(_ id: LeaseID) throws {
      guard let lease = model.removeValue(forKey: id) else {
        #expect(throws: LeaseError.notFound) { try lessor.revoke(id) }
        return
      }
      let expected = lease.keys.sorted { $0.precedes($1) }
      #expect(try lessor.revoke(id).keys == expected)
    }

    mutating func attach(_ key: Bytes, _ id: LeaseID) {
      guard model[id] != nil else {
        #expect(throws: LeaseError.notFound) { try lessor.attach(key, to: id) }
        return
      }
      #expect(throws: Never.self) { try lessor.attach(key, to: id) }
      for other in model.keys { model[other]?.keys.remove(key) }
      model[id]?.keys.insert(key)
    }

    mutating func detach(_ key: Bytes) {
      lessor.detach(key)
      for other in model.keys { model[other]?.keys.remove(key) }
    }

    mutating func renew(_ id: LeaseID) {
      let outcome = lessor.renew(id, now: now)
      guard isPrimary else {
        #expect(outcome == .notPrimary)
        return
      }
      guard let lease = model[id] else {
        #expect(outcome == .notFound)
        return
      }
      if now >= lease.deadline {
        #expect(outcome == .expiredPendingRevoke)
      } else if lease.remaining > 0 {
        #expect(outcome == .clearCheckpointFirst)
      } else {
        #expect(outcome == .renewed(ttl: lease.ttl))
        let deadline = max(lease.deadline, now + UInt64(lease.ttl) * second)
        model[id]?.deadline = deadline
        model[id]?.report = deadline
      }
    }

    mutating func checkpoint(_ id: LeaseID) {
      let remaining = Int64(below(12))
      let effect = lessor.checkpoint(id, remainingTTL: remaining)
      guard let ttl = model[id]?.ttl else {
        #expect(effect == nil)
        return
      }
      model[id]?.remaining = min(remaining, ttl)
      #expect(
        effect == .put(LeaseRecord(id: id, ttl: ttl, remainingTTL: min(remaining, ttl))))
    }

    mutating func changeLeader() {
      isPrimary.toggle()
      guard isPrimary else { return lessor.demote() }
      lessor.promote(now: now, extend: second)
      for (id, lease) in model {
        let seconds = lease.remaining > 0 ? lease.remaining : lease.ttl
        let deadline = now + UInt64(seconds + 1) * second
        model[id]?.deadline = deadline
        model[id]?.report = deadline
      }
    }

    mutating func restore() {
      lessor.restore(lessor.records)
      isPrimary = false
      for (id, lease) in model {
        for key in lease.keys {
          #expect(throws: Never.self) { try lessor.attach(key, to: id) }
        }
      }
    }

    mutating func expire() throws {
      let limit = 1 + below(4)
      let reported = lessor.expired(now: now, limit: limit)
      let due = isPrimary ? model.filter { $0.value.report <= now } : [:]
      #expect(reported.count == min(limit, due.count))
      for id in reported {
        #expect(due[id] != nil)
        model[id]?.report = now + retry
        expirations += 1
        if below(2) == 0 { try revoke(id) }
      }
    }

    func check(_ id: LeaseID, _ key: Bytes) {
      #expect(lessor.leases == model.keys.sorted())
      #expect(lessor.keys(of: id) == model[id]?.keys.sorted { $0.precedes($1) })
      #expect(lessor.lease(ofKey: key) == model.first { $0.value.keys.contains(key) }?.key)
      guard isPrimary else { return }
      let left = try? lessor.timeToLive(id, now: now)?.remaining
      let expected = model[id].map {
        (Int64(bitPattern: $0.deadline) - Int64(bitPattern: now)) / Int64(second)
      }
      #expect(left == expected)
    }
  }

  @Test(arguments: 1...12) func behavesLikeTheModel(seed: UInt64) throws {
    var world = World(generator: SeededGenerator(seed: seed))
    for _ in 0..<1500 { try world.step() }
    #expect(world.expirations > 20, "the run was too quiet to prove anything")
  }

  @Test func aHundredThousandLeases() throws {
    var lessor = Lessor(ttlMin: 2, retryPeriod: Self.retry)
    lessor.promote(now: 0, extend: 0)
    for id: LeaseID in 1...100_000 { _ = try lessor.grant(id, ttl: 10 + id % 50, now: 0) }
    var renewed = 0
    for id: LeaseID in 1...100_000 where id % 2 == 0 {
      if lessor.renew(id, now: 5 * Self.second) == .renewed(ttl: 10 + id % 50) { renewed += 1 }
    }
    #expect(renewed == 50_000)
    var ended = 0
    for tick: UInt64 in 0..<200 {
      for id in lessor.expired(now: tick * Self.second / 2, limit: 2000) {
        _ = try lessor.revoke(id)
        ended += 1
      }
    }
    #expect(ended == 100_000)
    #expect(lessor.leases.isEmpty)
  }
}
