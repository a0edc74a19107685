import Base
import EtcdAPI
import Testing

@testable import StoreActor

struct HashTests {
  private func filled() throws -> Machine {
    var random = SeededGenerator(seed: 8)
    var machine = Machine.fresh
    for _ in 0..<400 {
      let key = "k\(random.next() % 120)"
      if random.next() % 4 == 0 {
        machine.delete(key, to: random.next() % 2 == 0 ? "" : key + "5")
      } else {
        try machine.put(key, "\(random.next())")
      }
    }
    return machine
  }

  /// The hash as server.md defines it, over the bytes of the whole bucket.
  @Test func isTheChecksumOfTheBucket() throws {
    var machine = Machine.fresh
    try machine.put("k", "v")
    machine.delete("k")
    let put = StoredKeyValue.encode(
      key: Bytes("k".utf8), createRevision: 2, modRevision: 2, version: 1,
      value: Bytes("v".utf8))
    #expect(put == [0x0a, 1, 0x6b, 0x10, 2, 0x18, 2, 0x20, 1, 0x2a, 1, 0x76])
    var bucket = Bytes("key".utf8)
    bucket += [0, 0, 0, 0, 0, 0, 0, 2, 0x5f, 0, 0, 0, 0, 0, 0, 0, 0] + put
    #expect(try machine.hashKV(2).hash == CRC32C.extend(0, bucket))
    bucket += [0, 0, 0, 0, 0, 0, 0, 3, 0x5f, 0, 0, 0, 0, 0, 0, 0, 0, 0x74, 0x0a, 1, 0x6b]
    let hash = CRC32C.extend(0, bucket)
    #expect(
      try machine.hashKV(0) == KeyValueHash(hash: hash, revision: 3, compactRevision: -1))
  }

  @Test func doesNotDependOnCompactionProgress() throws {
    var machine = try filled()
    let current = machine.currentRevision
    for limit in [current / 3, current / 2, current] {
      try machine.compact(at: limit)
      let revisions = [limit, (limit + current) / 2, current]
      let before = try revisions.map { try machine.hashKV($0) }
      while !machine.compactionStep(keys: 20) {
        #expect(try revisions.map { try machine.hashKV($0) } == before)
        #expect(try machine.restarted().hashKV(current) == before[2])
      }
      #expect(try revisions.map { try machine.hashKV($0) } == before)
      #expect(throws: KVError.compacted) { try machine.hashKV(limit - 1) }
    }
    #expect(throws: KVError.futureRevision) { try machine.hashKV(current + 1) }
  }

  @Test func countsTheSurvivorsWhenNothingIsLeftToKeep() throws {
    var machine = Machine.fresh
    try machine.put("a")
    try machine.put("b")
    machine.delete("b")
    try machine.compact(at: 4)
    machine.delete("a")
    let before = try machine.hashKV(5)
    while !machine.compactionStep(keys: 1) {}
    #expect(try machine.hashKV(5) == before)
    // The put of a, below the limit, counts; the tombstone of b at the limit does not.
    var bucket = Bytes("key".utf8)
    bucket += [0, 0, 0, 0, 0, 0, 0, 2, 0x5f, 0, 0, 0, 0, 0, 0, 0, 0]
    bucket += [0x0a, 1, 0x61, 0x10, 2, 0x18, 2, 0x20, 1]
    bucket += [0, 0, 0, 0, 0, 0, 0, 5, 0x5f, 0, 0, 0, 0, 0, 0, 0, 0, 0x74, 0x0a, 1, 0x61]
    #expect(before.hash == CRC32C.extend(0, bucket))
  }

  @Test func slicesGiveTheSameAndSurviveCompaction() throws {
    var machine = try filled()
    let whole = try machine.hashKV(300)
    var cursor = try machine.beginHash(300)
    while try !machine.advance(&cursor, records: 7) { try machine.put("more") }
    #expect(cursor.result == whole)
    cursor = try machine.beginHash(300)
    _ = try machine.advance(&cursor, records: 50)
    #expect(cursor.result == nil)
    try machine.compact(at: 200)
    while !machine.compactionStep(keys: 1000) {}
    while try !machine.advance(&cursor, records: 7) {}
    #expect(try cursor.result == machine.hashKV(300))
    cursor = try machine.beginHash(210)
    _ = try machine.advance(&cursor, records: 1)
    try machine.compact(at: 220)
    #expect(throws: KVError.compacted) { try machine.advance(&cursor, records: 1) }
  }

  @Test func historyStopsBetweenRevisions() throws {
    var machine = Machine.fresh
    try machine.put("a")
    try machine.run(.when(then: [.put("b"), .put("c"), .put("d")]))
    try machine.put("e")
    var changes: [Change] = []
    var next = try machine.changes(
      from: 1, recordsMax: 2, matching: { _ in true }, into: &changes)
    #expect(next == 4 && changes.count == 4)
    next = try machine.changes(from: next, recordsMax: 1, matching: { _ in false }, into: &changes)
    #expect(next == 5 && changes.count == 4)
    next = try machine.changes(from: 9, recordsMax: 1, matching: { _ in true }, into: &changes)
    #expect(next == 9 && changes.count == 4)
  }
}
