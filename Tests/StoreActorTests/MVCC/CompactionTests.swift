import Base
import EtcdAPI
import Testing

@testable import StoreActor

/// Compaction in small slices, and the hash that goes with it.
struct CompactionTests {
  private func filled(seed: UInt64) throws -> Machine {
    var random = SeededGenerator(seed: seed)
    var machine = Machine.fresh
    for _ in 0..<600 {
      let key = "k\(random.next() % 12)"
      if random.next() % 5 == 0 { machine.delete(key) } else { try machine.put(key, "v") }
    }
    return machine
  }

  private func records(_ machine: Machine) -> [Revision] {
    var all: [Revision] = []
    machine.store.forEachRecord(
      from: Revision(main: 0), through: Revision(main: .max, sub: .max)
    ) { revision, _, _ in
      all.append(revision)
      return true
    }
    return all
  }

  @Test(arguments: [1, 3, 17, 1000])
  func slicesOfRemovalsLeaveTheSame(drops: Int) throws {
    for seed in UInt64(1)...4 {
      var machine = try filled(seed: seed)
      let limit = machine.currentRevision - Int64(seed * 20)
      var whole = machine
      try whole.compact(at: limit)
      while !whole.compactionStep(keys: .max) {}
      try machine.compact(at: limit)
      var left = records(machine).count
      var writes = 0
      while !machine.compactionStep(keys: .max, drops: drops) {
        let now = records(machine).count
        #expect(left - now <= drops)
        left = now
        if writes < 40 {
          // Keys change while they are half compacted.
          try machine.put("k\(writes % 12)", "later")
          try whole.put("k\(writes % 12)", "later")
          left += 1
          writes += 1
        }
      }
      #expect(records(machine) == records(whole))
      #expect(machine.index.faults() == [])
      #expect(try machine.hashKV(0) == whole.hashKV(0))
      #expect(try machine.restarted().hashKV(0) == whole.hashKV(0))
    }
  }

  /// What a crash in the middle leaves is taken up again with the same outcome.
  @Test func restartInTheMiddleOfAHistory() throws {
    var machine = try filled(seed: 9)
    let limit = machine.currentRevision - 30
    var whole = machine
    try whole.compact(at: limit)
    while !whole.compactionStep(keys: .max) {}
    try machine.compact(at: limit)
    while !machine.compactionStep(keys: .max, drops: 7) { machine = try machine.restarted() }
    #expect(records(machine) == records(whole))
    #expect(machine.finishedCompactRevision == limit)
  }

  @Test func aLongHistoryGoesInSlices() throws {
    var machine = Machine.fresh
    for _ in 0..<5000 { try machine.put("one") }
    try machine.compact(at: 5001)
    var slices = 0
    while !machine.compactionStep(keys: 1000, drops: 100) {
      slices += 1
      #expect(machine.store.count >= 5000 - 100 * slices)
    }
    #expect(slices == 49)
    #expect(machine.store.count == 1)
  }

  /// The compaction hash is what HashKV gave at this revision before it was compacted.
  @Test func hashOfACompaction() throws {
    var machine = try filled(seed: 5)
    var previous: Int64 = -1
    for limit in [100, 250, machine.currentRevision] {
      let before = try machine.hashKV(Int64(limit))
      try machine.compact(at: Int64(limit))
      var cursor = machine.beginCompactionHash(after: previous)
      while try !machine.advance(&cursor, records: 11) { try machine.put("k1", "meanwhile") }
      #expect(cursor.result == before)
      while !machine.compactionStep(keys: 100) {}
      previous = Int64(limit)
    }
  }

  /// etcd keeps the tombstone at the limit; that is enough for it to leave out what goes.
  @Test func hashOfACompactionAtADeletion() throws {
    var machine = Machine.fresh
    try machine.put("a")
    try machine.compact(at: 2)
    while !machine.compactionStep(keys: 100) {}
    machine.delete("a")
    try machine.compact(at: 3)
    var cursor = machine.beginCompactionHash(after: 2)
    _ = try machine.advance(&cursor, records: .max)
    var bucket = Bytes("key".utf8)
    bucket += [0, 0, 0, 0, 0, 0, 0, 3, 0x5f, 0, 0, 0, 0, 0, 0, 0, 0, 0x74, 0x0a, 1, 0x61]
    #expect(
      cursor.result
        == KeyValueHash(hash: CRC32C.extend(0, bucket), revision: 3, compactRevision: 2))
  }
}
