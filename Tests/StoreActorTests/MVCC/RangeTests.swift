import Base
import EtcdAPI
import Foundation
import Testing

@testable import StoreActor

struct RangeTests {
  /// a, b, c, d written as values 4, 2, 3, 1; then b again (version 2) with lease 7.
  private func sample() throws -> Machine {
    var machine = Machine.fresh
    try machine.put("a", "4")
    try machine.put("b", "2")
    try machine.put("c", "3")
    try machine.put("d", "1")
    try machine.put("b", "2", lease: 7)
    return machine
  }

  private func keys(
    _ machine: Machine, _ change: (inout Etcdserverpb_RangeRequest) -> Void
  ) throws -> [String] {
    try machine.read("a", to: "z", change).keys
  }

  @Test func bounds() throws {
    let machine = try sample()
    #expect(try machine.read("b", to: "d").keys == ["b", "c"])
    #expect(try machine.read("b", to: "b").count == 0)
    #expect(try machine.read("d", to: "b").count == 0)
    #expect(try machine.read("c", to: "\0").keys == ["c", "d"])
    #expect(try machine.read("b").keys == ["b"])
    #expect(try machine.read("bb").count == 0)
  }

  @Test func sorting() throws {
    let machine = try sample()
    #expect(try keys(machine) { $0.sortTarget = .value } == ["d", "b", "c", "a"])
    #expect(
      try keys(machine) {
        $0.sortTarget = .value
        $0.sortOrder = .descend
      } == ["a", "c", "b", "d"])
    #expect(try keys(machine) { $0.sortTarget = .mod } == ["a", "c", "d", "b"])
    #expect(
      try keys(machine) {
        $0.sortTarget = .create
        $0.sortOrder = .descend
      } == ["d", "c", "b", "a"])
    #expect(try keys(machine) { $0.sortTarget = .version }.last == "b")
    #expect(try keys(machine) { $0.sortOrder = .ascend } == ["a", "b", "c", "d"])
    #expect(try keys(machine) { $0.sortOrder = .descend } == ["d", "c", "b", "a"])
  }

  @Test func sortWithoutOrderReadsOnlyOneRowMoreThanTheLimit() throws {
    let machine = try sample()
    let quirk = try machine.read("a", to: "z") {
      $0.sortTarget = .value
      $0.limit = 2
    }
    #expect(quirk.keys == ["b", "c"] && quirk.more && quirk.count == 4)
    let ordered = try machine.read("a", to: "z") {
      $0.sortTarget = .value
      $0.sortOrder = .ascend
      $0.limit = 2
    }
    #expect(ordered.keys == ["d", "b"] && ordered.more && ordered.count == 4)
  }

  @Test func filters() throws {
    let machine = try sample()
    #expect(try keys(machine) { $0.minModRevision = 4 } == ["b", "c", "d"])
    #expect(try keys(machine) { $0.maxModRevision = 4 } == ["a", "c"])
    #expect(try keys(machine) { $0.minCreateRevision = 3 } == ["b", "c", "d"])
    #expect(try keys(machine) { $0.maxCreateRevision = 3 } == ["a", "b"])
    let limited = try machine.read("a", to: "z") {
      $0.minModRevision = 4
      $0.maxModRevision = 5
      $0.limit = 1
    }
    #expect(limited.keys == ["c"] && limited.more && limited.count == 4)
    #expect(try machine.read("a") { $0.minModRevision = 3 }.rows.isEmpty)
  }

  @Test func limitsAndCounts() throws {
    let machine = try sample()
    let exact = try machine.read("a", to: "z") { $0.limit = 4 }
    #expect(exact.rows.count == 4 && !exact.more)
    #expect(try machine.read("a", to: "z") { $0.limit = -1 }.rows.count == 4)
    #expect(try machine.read("a", to: "z") { $0.limit = .max }.rows.count == 4)
    let count = try machine.read("a", to: "z") {
      $0.countOnly = true
      $0.limit = 1
      $0.minModRevision = 100
      $0.sortOrder = .descend
    }
    #expect(count.rows.isEmpty && !count.more && count.count == 4)
    let old = try machine.read("a", to: "z") {
      $0.revision = 3
      $0.limit = 1
    }
    #expect(old.keys == ["a"] && old.more && old.count == 2 && old.revision == 6)
  }

  @Test func keysOnlyHasNoLeaseUnlessSortedByValue() throws {
    let machine = try sample()
    #expect(try machine.read("b").text == ["b=2(3,6,2)@7"])
    #expect(try machine.read("b") { $0.keysOnly = true }.text == ["b=(3,6,2)"])
    #expect(
      try machine.read("b") {
        $0.keysOnly = true
        $0.revision = 5
      }.text == ["b=(3,3,1)"])
    let byMod = try machine.read("b", to: "c") {
      $0.keysOnly = true
      $0.sortTarget = .mod
    }
    #expect(byMod.text == ["b=(3,6,2)"])
    let byValue = try machine.read("a", to: "d") {
      $0.keysOnly = true
      $0.sortTarget = .value
    }
    #expect(byValue.text == ["b=(3,6,2)@7", "c=(4,4,1)", "a=(2,2,1)"])
  }

  @Test func validation() {
    var request = Etcdserverpb_RangeRequest()
    request.sortOrder = .UNRECOGNIZED(9)
    #expect(throws: KVError.keyNotProvided) { try RequestValidation.validate(request) }
    request.key = Data("k".utf8)
    #expect(throws: KVError.invalidSortOption) { try RequestValidation.validate(request) }
    request.sortOrder = .none
    request.sortTarget = .UNRECOGNIZED(5)
    #expect(throws: KVError.invalidSortOption) { try RequestValidation.validate(request) }
    request.sortTarget = .value
    #expect(throws: Never.self) { try RequestValidation.validate(request) }
  }

  @Test func cursorStaysAtItsRevision() throws {
    var machine = Machine.fresh
    for number in 0..<100 { try machine.put("k\(100 + number)", "old") }
    let expected = try machine.read("k", to: "l")
    var cursor = try machine.openRange(.with("k", "l"))
    #expect(cursor.count == 100)
    var rows: [Bytes] = []
    var round = 0
    while try !machine.advance(&cursor, visits: 10) {
      rows += cursor.takeRows().records
      try machine.put("k\(150 + round)", "new")
      machine.delete("k\(190 - round)")
      try machine.put("k1\(round)", "between")
      round += 1
    }
    rows += cursor.takeRows().records
    #expect(rows == expected.rows.records && !cursor.more && cursor.count == 100)
    #expect(cursor.headerRevision == 101)
    #expect(round > 5)
  }

  /// No step of a sorted read costs more than the keys it is allowed, and a limit bounds its memory.
  @Test func sortedReadsGoInSlices() throws {
    var machine = Machine.fresh
    for number in 0..<500 { try machine.put("k\(1000 + number)", "\(number * 7919 % 500)") }
    for target in [Etcdserverpb_RangeRequest.SortTarget.value, .mod, .key] {
      let request = Etcdserverpb_RangeRequest.with("k", "l") {
        $0.sortTarget = target
        $0.sortOrder = .descend
        $0.limit = 20
      }
      var cursor = try machine.openRange(request)
      var steps = 0
      repeat {
        steps += 1
        #expect(cursor.sorter?.keptCount ?? 0 <= 20)
      } while try !machine.advance(&cursor, visits: 10)
      #expect(steps >= 50 + 2 + 2)
      #expect(cursor.result == (try machine.range(request)))
      #expect(cursor.count == 500 && cursor.more && cursor.rows.count == 20)
    }
  }

  @Test func readOnlyTransactionsGoInSlices() throws {
    var machine = Machine.fresh
    for number in 0..<500 { try machine.put("k\(1000 + number)", "v") }
    let request = Etcdserverpb_TxnRequest.when(
      then: [
        .range("k", to: "l"), .range("k", to: "l") { $0.countOnly = true }, .range("k1001"),
        .range("k", to: "l") { $0.sortTarget = .mod },
      ])
    let expected = try machine.readOnlyTxn(request)
    var cursor = try machine.openReadOnlyTxn(request)
    var steps = 0
    while try !machine.advance(&cursor, visits: 10) {
      try machine.put("k\(1000 + steps)", "changed")
      steps += 1
    }
    #expect(steps >= 100)
    #expect(cursor.result == expected)
  }

  @Test func cursorStopsAtCompactionAndByteLimit() throws {
    var machine = try sample()
    var cursor = try machine.openRange(.with("a", "z"))
    let isDone = try machine.advance(&cursor, visits: 100, bytes: 1)
    #expect(!isDone && cursor.rows.count == 1)
    try machine.put("e")
    try machine.compact(at: machine.currentRevision)
    #expect(throws: KVError.compacted) { try machine.advance(&cursor, visits: 100) }
  }
}
