import Base
import EtcdAPI
import Foundation
import Testing

@testable import StoreActor

struct WriteTests {
  @Test func ignoreFlagsKeepWhatIsStored() throws {
    var machine = Machine.fresh
    try machine.put("k", "v", lease: 5)
    var effects = ApplyEffects()
    var request = Etcdserverpb_PutRequest.with("k")
    request.ignoreValue = true
    request.ignoreLease = true
    _ = try machine.put(request, leaseExists: { _ in false }, effects: &effects)
    #expect(try machine.read("k").text == ["k=v(2,3,2)@5"])
    #expect(effects.leases.isEmpty)
    request.ignoreLease = false
    _ = try machine.put(request, leaseExists: { _ in false }, effects: &effects)
    #expect(try machine.read("k").text == ["k=v(2,4,3)"])
    #expect(effects.leases == [.detach(5, key: Bytes("k".utf8))])
  }

  @Test func leaseIsAskedForBeforeTheKey() {
    var machine = Machine.fresh
    var effects = ApplyEffects()
    var request = Etcdserverpb_PutRequest.with("absent", lease: 3)
    request.ignoreValue = true
    #expect(throws: KVError.leaseNotFound) {
      try machine.put(request, leaseExists: { _ in false }, effects: &effects)
    }
    #expect(throws: KVError.keyNotFound) {
      try machine.put(request, leaseExists: { _ in true }, effects: &effects)
    }
    #expect(machine.currentRevision == 1)
  }

  @Test func changingLeaseDetachesAndDeletingDetaches() throws {
    var machine = Machine.fresh
    var effects = ApplyEffects()
    let key = Bytes("k".utf8)
    for lease in [Int64(1), 1, 2] {
      _ = try machine.put(
        .with("k", lease: lease), leaseExists: { _ in true }, effects: &effects)
    }
    _ = machine.deleteRange(.with("a", "z"), effects: &effects)
    #expect(
      effects.leases == [
        .attach(1, key: key), .detach(1, key: key), .attach(2, key: key), .detach(2, key: key),
      ])
  }

  @Test func deleteRangeWritesOneRevisionInKeyOrder() throws {
    var machine = Machine.fresh
    for key in ["c", "a", "b", "x"] { try machine.put(key, key) }
    var effects = ApplyEffects()
    let result = machine.deleteRange(.with("a", "d", prevKv: true), effects: &effects)
    #expect(result.revision == 6 && result.deleted == 3)
    #expect(result.previous.map(text) == ["a=a(3,3,1)", "b=b(4,4,1)", "c=c(2,2,1)"])
    #expect(
      effects.changes.map(\.text) == [
        "DELETE a=(0,6,0)@6.0", "DELETE b=(0,6,0)@6.1", "DELETE c=(0,6,0)@6.2",
      ])
    #expect(machine.previousKeyValue(of: Bytes("b".utf8), before: 6).map(text) == "b=b(4,4,1)")
    try machine.compact(at: 6)
    #expect(machine.previousKeyValue(of: Bytes("b".utf8), before: 6) == nil)
  }

  @Test func revokingNothingChangesNothing() throws {
    var machine = Machine.fresh
    try machine.put("a")
    var effects = ApplyEffects()
    for keys in [[], [Bytes("nope".utf8)]] {
      let revision = machine.revokeKeys(keys, effects: &effects)
      #expect(revision == 2)
    }
    #expect(effects == ApplyEffects())
  }

  @Test func leasedKeysAreFoundAfterRestart() throws {
    var machine = Machine.fresh
    try machine.put("b", lease: 4)
    try machine.put("a", lease: -3)
    try machine.put("c", lease: 4)
    try machine.put("c")
    machine.delete("b")
    try machine.put("d", lease: 9)
    var found: [String] = []
    try machine.restarted().forEachLeasedKey { lease, key in
      found.append("\(String(decoding: key, as: UTF8.self))@\(lease)")
    }
    #expect(found == ["a@-3", "d@9"])
  }

  @Test func restartRefusesUnreadableRecords() {
    for record: Bytes in [[0x0a, 5, 1], [0x10, 2]] {
      var store = MemoryRecordStore()
      store.append(Revision(main: 2), isTombstone: false, record: record)
      #expect(throws: Machine.RestoreError.unreadableRecord(Revision(main: 2))) {
        try Machine(
          restoring: store, finishedCompactRevision: -1, scheduledCompactRevision: -1)
      }
    }
  }

  @Test func revisionNeverGoesBackAfterCompactingEverything() throws {
    var machine = Machine.fresh
    try machine.put("a")
    machine.delete("a")
    try machine.put("b")
    machine.delete("b")
    try machine.run(.when(then: [.put("c"), .put("d")]))
    machine.delete("c", to: "z")
    try machine.compact(at: 7)
    while !machine.compactionStep(keys: 1) {}
    #expect(machine.store.count == 2)
    #expect(try machine.restarted().currentRevision == 7)
    let bare = try Machine(
      restoring: MemoryRecordStore(), finishedCompactRevision: 3, scheduledCompactRevision: 9)
    #expect(bare.currentRevision == 9 && bare.compactRevision == 9)
    #expect(bare.finishedCompactRevision == 3)
  }

  @Test func compactionOfZeroIsAcceptedOnce() throws {
    var machine = Machine.fresh
    #expect(throws: KVError.compacted) { try machine.compact(at: -1) }
    try machine.compact(at: 0)
    #expect(throws: KVError.compacted) { try machine.compact(at: 0) }
    #expect(machine.compactRevision == 0)
  }

  @Test func laterCompactionGetsItsOwnPass() throws {
    var machine = Machine.fresh
    for number in 0..<200 { try machine.put("k\(number)") }
    for number in 0..<200 { try machine.put("k\(number)") }
    try machine.compact(at: 250)
    let isDone = machine.compactionStep(keys: 10)
    #expect(!isDone)
    try machine.compact(at: 401)
    var finished: Set<Int64> = []
    while !machine.compactionStep(keys: 10) { finished.insert(machine.finishedCompactRevision) }
    #expect(finished == [-1, 250] && machine.finishedCompactRevision == 401)
    #expect(machine.store.count == 200)
  }

  @Test func quotaCosts() {
    #expect(QuotaCost.bytes(Etcdserverpb_PutRequest.with("key", "value")) == 264)
    let inner = Etcdserverpb_TxnRequest.when(then: [.put("a")], else: [.put("b", "1234")])
    let request = Etcdserverpb_TxnRequest.when(
      then: [.put("k", "v"), .txn(inner), .delete("x"), .range("y")], else: [.put("k")])
    #expect(QuotaCost.bytes(request) == 258 + 261)
    #expect(QuotaCost.bytes(Etcdserverpb_TxnRequest.when(then: [.delete("x")])) == 0)
  }
}
