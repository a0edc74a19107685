import Base
import EtcdAPI
import Foundation
import Testing

@testable import StoreActor

/// One history of a fresh store, as etcd answers it.
struct GoldenTraceTests {
  @Test func basicHistory() throws {
    var machine = Machine.fresh
    // 1-4
    var result = try machine.read("k")
    #expect(result.revision == 1 && result.count == 0 && result.rows.isEmpty)
    #expect(try machine.put("k", "a").revision == 2)
    let second = try machine.put("k", "b", prevKv: true)
    #expect(second.revision == 3)
    #expect(second.previous.map(text) == "k=a(2,2,1)")
    result = try machine.read("k")
    #expect(result.text == ["k=b(2,3,2)"] && result.revision == 3 && result.count == 1)
    try transactions(&machine)
    try deletion(&machine)
    try historyReads(&machine)
    try limits(&machine)
    try compaction(&machine)
    try leases(&machine)
    try nested(&machine)
    try refusals(&machine)
  }

  private func transactions(_ machine: inout Machine) throws {
    // 5
    let write = try machine.run(
      .when(then: [.put("x", "1"), .put("y", "2"), .range("x", to: "z"), .delete("nope")]))
    #expect(write.revision == 4 && write.succeeded)
    var rows = RangeResult(revision: 4)
    rows.rows = try machine.read("x", to: "z").rows
    rows.count = 2
    #expect(rows.text == ["x=1(4,4,1)", "y=2(4,4,1)"])
    #expect(
      write.responses == [
        .put(PutResult(revision: 4, previous: nil)), .put(PutResult(revision: 4, previous: nil)),
        .range(rows), .deleteRange(DeleteRangeResult(revision: 4, deleted: 0, previous: [])),
      ])
    // 6, 7
    let absent = Etcdserverpb_Compare.with(.value, "nope", .notEqual, .value(Data("q".utf8)))
    let skipped = try machine.run(.when([absent], then: [.put("a")]))
    #expect(!skipped.succeeded && skipped.revision == 4 && skipped.responses.isEmpty)
    let empty = try machine.run(.when())
    #expect(empty.succeeded && empty.revision == 4)
  }

  private func deletion(_ machine: inout Machine) throws {
    // 8-10
    let first = machine.delete("k", prevKv: true)
    #expect(first.deleted == 1 && first.revision == 5)
    #expect(first.previous.map(text) == ["k=b(2,3,2)"])
    let again = machine.delete("k")
    #expect(again.deleted == 0 && again.revision == 5)
    #expect(try machine.put("k", "c").revision == 6)
    #expect(try machine.read("k").text == ["k=c(6,6,1)"])
  }

  private func historyReads(_ machine: inout Machine) throws {
    // 11-13
    let old = try machine.read("k") { $0.revision = 3 }
    #expect(old.text == ["k=b(2,3,2)"] && old.revision == 6)
    #expect(try machine.read("k") { $0.revision = 5 }.count == 0)
    #expect(throws: KVError.futureRevision) { try machine.read("k") { $0.revision = 7 } }
    // 14
    var changes: [Change] = []
    let isK = { (key: UnsafeRawBufferPointer) in key.elementsEqual("k".utf8) }
    let next = try machine.changes(from: 2, recordsMax: 100, matching: isK, into: &changes)
    #expect(next == 7)
    #expect(
      changes.map(\.text) == [
        "PUT k=a(2,2,1)@2.0", "PUT k=b(2,3,2)@3.0", "DELETE k=(0,5,0)@5.0", "PUT k=c(6,6,1)@6.0",
      ])
    #expect(machine.previousKeyValue(of: Bytes("k".utf8), before: 5).map(text) == "k=b(2,3,2)")
    #expect(machine.previousKeyValue(of: Bytes("k".utf8), before: 6) == nil)
  }

  private func limits(_ machine: inout Machine) throws {
    // 15
    let first = try machine.read("\0", to: "\0") { $0.limit = 1 }
    #expect(first.keys == ["k"] && first.more && first.count == 3)
    let filtered = try machine.read("\0", to: "\0") {
      $0.limit = 1
      $0.minModRevision = 5
    }
    #expect(filtered.keys == ["k"] && !filtered.more && filtered.count == 3)
    let last = try machine.read("\0", to: "\0") {
      $0.limit = 1
      $0.sortOrder = .descend
    }
    #expect(last.keys == ["y"] && last.more && last.count == 3)
  }

  private func compaction(_ machine: inout Machine) throws {
    // 16-18, before and after the removal of records
    try machine.compact(at: 5)
    #expect(machine.currentRevision == 6)
    #expect(throws: KVError.compacted) { try machine.compact(at: 5) }
    #expect(throws: KVError.futureRevision) { try machine.compact(at: 7) }
    for _ in 0..<2 {
      #expect(throws: KVError.compacted) { try machine.read("k") { $0.revision = 4 } }
      #expect(try machine.read("k") { $0.revision = 5 }.count == 0)
      #expect(try machine.read("x") { $0.revision = 5 }.text == ["x=1(4,4,1)"])
      var changes: [Change] = []
      let isK = { (key: UnsafeRawBufferPointer) in key.elementsEqual("k".utf8) }
      _ = try machine.changes(from: 5, recordsMax: 100, matching: isK, into: &changes)
      #expect(changes.map(\.text) == ["DELETE k=(0,5,0)@5.0", "PUT k=c(6,6,1)@6.0"])
      #expect(throws: KVError.compacted) {
        try machine.changes(from: 4, recordsMax: 100, matching: isK, into: &changes)
      }
      while !machine.compactionStep(keys: 1) {}
    }
    #expect(machine.finishedCompactRevision == 5)
  }

  private func leases(_ machine: inout Machine) throws {
    // 19
    var effects = ApplyEffects()
    func put(_ key: String, lease: Int64) throws -> Int64 {
      let request = Etcdserverpb_PutRequest.with(key, lease: lease)
      return try machine.put(request, leaseExists: { $0 == 9 }, effects: &effects).revision
    }
    #expect(try put("p", lease: 9) == 7)
    #expect(try put("q", lease: 9) == 8)
    #expect(try put("p", lease: 0) == 9)
    let (p, q) = (Bytes("p".utf8), Bytes("q".utf8))
    #expect(effects.leases == [.attach(9, key: p), .attach(9, key: q), .detach(9, key: p)])
    #expect(throws: KVError.leaseNotFound) { try put("p", lease: 8) }
    effects.removeAll()
    #expect(machine.revokeKeys([q], effects: &effects) == 10)
    #expect(effects.changes.map(\.text) == ["DELETE q=(0,10,0)@10.0"])
    #expect(try machine.read("p").count == 1)
  }

  private func nested(_ machine: inout Machine) throws {
    // 20
    let absent = Etcdserverpb_Compare.with(.version, "s", .equal, .version(0))
    let inner = Etcdserverpb_TxnRequest.when([absent], then: [.put("t")], else: [.put("u")])
    let result = try machine.run(.when(then: [.put("s"), .txn(inner)]))
    #expect(result.revision == 11)
    let put = OperationResult.put(PutResult(revision: 11, previous: nil))
    let nested = TxnResult(revision: 0, succeeded: true, responses: [put])
    #expect(result.responses == [put, .txn(nested)])
    #expect(try machine.read("s", to: "u").text == ["s=(11,11,1)", "t=(11,11,1)"])
  }

  private func refusals(_ machine: inout Machine) throws {
    // 21, 22, 24
    #expect(throws: KVError.duplicateKey) {
      try RequestValidation.validate(.when(then: [.put("s"), .put("s")]), maxOps: 128)
    }
    #expect(throws: KVError.duplicateKey) {
      try RequestValidation.validate(.when(then: [.put("s"), .delete("a", to: "z")]), maxOps: 128)
    }
    #expect(throws: KVError.keyNotProvided) {
      try RequestValidation.validate(Etcdserverpb_RangeRequest())
    }
    var request = Etcdserverpb_PutRequest.with("absent")
    request.ignoreValue = true
    var effects = ApplyEffects()
    #expect(throws: KVError.keyNotFound) {
      try machine.put(request, leaseExists: { _ in true }, effects: &effects)
    }
    request.value = Data("v".utf8)
    #expect(throws: KVError.valueProvided) { try RequestValidation.validate(request) }
    #expect(machine.currentRevision == 11)
    #expect(effects == ApplyEffects())
  }
}
