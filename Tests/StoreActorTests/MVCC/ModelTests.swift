import Base
import EtcdAPI
import Foundation
import Testing

@testable import StoreActor

/// Everything that ever happened, and answers found by looking through all of it.
private struct NaiveStore {
  struct Event {
    let revision: Revision
    let key: String
    /// Nil for a deletion.
    let record: Bytes?
  }

  var events: [Event] = []

  mutating func take(_ changes: [Change]) {
    for change in changes {
      events.append(
        Event(
          revision: change.revision, key: String(decoding: change.key, as: UTF8.self),
          record: change.kind == .put ? change.keyValue : nil))
    }
  }

  func rows(_ selects: (String) -> Bool, at main: Int64) -> [Bytes] {
    var state: [String: Bytes] = [:]
    for event in events where event.revision.main <= main && selects(event.key) {
      state[event.key] = event.record
    }
    return state.sorted { $0.key < $1.key }.map(\.value)
  }

  /// The records that are left after compaction at `main`.
  func survivors(_ main: Int64) -> [Revision] {
    var newest: [String: Event] = [:]
    for event in events where event.revision.main <= main { newest[event.key] = event }
    return events.filter { event in
      if event.revision.main > main { return true }
      guard newest[event.key]?.revision == event.revision else { return false }
      return event.record != nil || event.revision.main == main
    }.map(\.revision)
  }
}

struct ModelTests {
  @Test(arguments: [UInt64(3), 4, 5, 6])
  func agreesWithNaiveStore(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var machine = Machine.fresh
    var naive = NaiveStore()
    for round in 0..<600 {
      try change(&machine, &naive, &random)
      if round % 50 == 49 {
        try machine.compact(
          at: Int64.random(
            in: (machine.compactRevision + 1)...machine.currentRevision, using: &random))
      }
      if round % 3 == 0 { _ = machine.compactionStep(keys: 30) }
      if round % 20 == 0 { try compare(machine, naive, &random) }
      if round % 100 == 70 {
        let restarted = try machine.restarted()
        #expect(restarted.currentRevision == machine.currentRevision)
        #expect(restarted.index.liveCount == machine.index.liveCount)
        try compare(restarted, naive, &random)
        #expect(try restarted.hashKV(0) == machine.hashKV(0))
        machine = restarted
      }
    }
    #expect(machine.index.faults() == [])
    while !machine.compactionStep(keys: 30) {}
    try compare(machine, naive, &random)
    #expect(revisions(machine) == naive.survivors(machine.compactRevision))
  }

  private func key(_ random: inout SeededGenerator) -> String {
    "k\(Int.random(in: 0..<300, using: &random))"
  }

  private func change(
    _ machine: inout Machine, _ naive: inout NaiveStore, _ random: inout SeededGenerator
  ) throws {
    var effects = ApplyEffects()
    switch Int.random(in: 0..<10, using: &random) {
    case 0:
      _ = machine.deleteRange(.with(key(&random)), effects: &effects)
    case 1:
      let start = key(&random)
      _ = machine.deleteRange(.with(start, start + "9"), effects: &effects)
    case 2...4:
      let operations = (0..<5).map { _ in
        Etcdserverpb_RequestOp.put(key(&random), "\(random.next() % 1000)")
      }
      let request = Etcdserverpb_TxnRequest.when(then: operations)
      guard (try? RequestValidation.validate(request, maxOps: 10)) != nil else { return }
      _ = try machine.txn(request, leaseExists: { _ in true }, effects: &effects)
    default:
      let lease = Int64(random.next() % 3)
      let request = Etcdserverpb_PutRequest.with(
        key(&random), "\(random.next() % 1000)", lease: lease)
      _ = try machine.put(request, leaseExists: { _ in true }, effects: &effects)
    }
    naive.take(effects.changes)
  }

  private func compare(
    _ machine: Machine, _ naive: NaiveStore, _ random: inout SeededGenerator
  ) throws {
    for _ in 0..<3 {
      let least = max(1, machine.compactRevision)
      let main = Int64.random(in: least...machine.currentRevision, using: &random)
      let (start, end) = (key(&random), key(&random))
      let all = naive.rows({ $0 >= start && $0 < end }, at: main)
      let limit = Int.random(in: 0...20, using: &random)
      let request = Etcdserverpb_RangeRequest.with(start, end) {
        $0.revision = main
        $0.limit = Int64(limit)
      }
      let result = try machine.range(request)
      #expect(result.rows.records == (limit == 0 ? all : Array(all.prefix(limit))))
      #expect(result.count == all.count)
      #expect(result.more == (limit > 0 && all.count > limit))
      #expect(result.revision == machine.currentRevision)
      var cursor = try machine.openRange(request)
      while try !machine.advance(&cursor, visits: 7) {}
      #expect(cursor.result == result)

      try compareSorted(machine, all, request, &random)
      let single = key(&random)
      #expect(
        try machine.read(single) { $0.revision = main }.rows.records
          == naive.rows({ $0 == single }, at: main))
      let from = key(&random)
      let count = try machine.read(from, to: "\0") { $0.countOnly = true }
      let expected = naive.rows({ $0 >= from }, at: machine.currentRevision).count
      #expect(count.count == expected && count.rows.isEmpty && !count.more)
    }
    var changes: [Change] = []
    var next = max(1, machine.compactRevision)
    let first = next
    while next <= machine.currentRevision {
      next = try machine.changes(
        from: next, recordsMax: 10, matching: { _ in true }, into: &changes)
    }
    let isSurvivor = Set(naive.survivors(machine.compactRevision))
    let expected = naive.events.filter {
      $0.revision.main >= first && isSurvivor.contains($0.revision)
    }
    let isPhysical = machine.finishedCompactRevision == machine.compactRevision
    if isPhysical { #expect(changes.map(\.revision) == expected.map(\.revision)) }
  }

  /// Any order and filter, against sorting all rows; in slices as in one step.
  private func compareSorted(
    _ machine: Machine, _ all: [Bytes], _ plain: Etcdserverpb_RangeRequest,
    _ random: inout SeededGenerator
  ) throws {
    var request = plain
    let targets: [Etcdserverpb_RangeRequest.SortTarget] = [.key, .version, .create, .mod, .value]
    request.sortTarget = targets[Int(random.next() % 5)]
    request.sortOrder = random.next() % 2 == 0 ? .ascend : .descend
    request.keysOnly = random.next() % 4 == 0
    let bound = { (random: inout SeededGenerator) in
      random.next() % 3 == 0 ? Int64(random.next() % 2000) : 0
    }
    request.minModRevision = bound(&random)
    request.maxCreateRevision = bound(&random)
    typealias Row = (position: Int, record: Bytes, fields: StoredKeyValue)
    let matching: [Row] = all.enumerated().map { ($0, $1, StoredKeyValue($1)) }.filter { row in
      row.fields.modRevision >= request.minModRevision
        && (request.maxCreateRevision == 0
          || row.fields.createRevision <= request.maxCreateRevision)
    }
    func order(_ left: Row, _ right: Row) -> Int {
      switch request.sortTarget {
      case .version: Int(left.fields.version - right.fields.version)
      case .create: Int(left.fields.createRevision - right.fields.createRevision)
      case .mod: Int(left.fields.modRevision - right.fields.modRevision)
      case .value:
        Bytes(left.record[left.fields.value]).compare(Bytes(right.record[right.fields.value]))
      default: left.position - right.position
      }
    }
    let sorted = matching.sorted { left, right in
      let order = order(left, right)
      if order == 0 { return left.position < right.position }
      return request.sortOrder == .descend ? order > 0 : order < 0
    }
    let result = try machine.range(request)
    let limit = request.limit == 0 ? sorted.count : Int(request.limit)
    let keys = sorted.prefix(limit).map { Bytes($0.record[$0.fields.key]) }
    #expect(result.rows.records.map { Bytes($0[StoredKeyValue($0).key]) } == keys)
    if !request.keysOnly {
      #expect(result.rows.records == sorted.prefix(limit).map(\.record))
    }
    #expect(result.more == (sorted.count > limit) && result.count == all.count)
    var cursor = try machine.openRange(request)
    while try !machine.advance(&cursor, visits: 3) {}
    #expect(cursor.result == result)
  }

  private func revisions(_ machine: Machine) -> [Revision] {
    var found: [Revision] = []
    machine.store.forEachRecord(
      from: Revision(main: 0), through: Revision(main: .max, sub: .max)
    ) { revision, _, _ in
      found.append(revision)
      return true
    }
    return found
  }
}
