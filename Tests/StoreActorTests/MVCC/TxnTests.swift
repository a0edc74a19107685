import Base
import EtcdAPI
import Foundation
import Testing

@testable import StoreActor

struct TxnTests {
  // MARK: - Comparisons

  private func holds(_ compare: Etcdserverpb_Compare, in machine: Machine) throws -> Bool {
    try machine.readOnlyTxn(.when([compare])).succeeded
  }

  @Test func comparisonsReadStoredThenGiven() throws {
    var machine = Machine.fresh
    try machine.put("k", "b")
    try machine.put("k", "m", lease: 6)
    typealias Case = (
      Etcdserverpb_Compare.CompareTarget, Etcdserverpb_Compare.CompareResult,
      Etcdserverpb_Compare.OneOf_TargetUnion?, Bool
    )
    let cases: [Case] = [
      (.version, .equal, .version(2), true), (.version, .greater, .version(1), true),
      (.version, .less, .version(2), false), (.create, .equal, .createRevision(2), true),
      (.mod, .notEqual, .modRevision(3), false), (.mod, .less, .modRevision(4), true),
      (.lease, .equal, .lease(6), true), (.value, .greater, .value(Data("ab".utf8)), true),
      (.value, .less, .value(Data("ma".utf8)), true),
      // Unset or mismatching operand: zero, or empty.
      (.version, .equal, nil, false), (.version, .greater, .lease(9), true),
      (.value, .greater, .version(1), true),
      // Unknown numbers.
      (.UNRECOGNIZED(9), .equal, .version(7), true), (.UNRECOGNIZED(9), .greater, nil, false),
      (.version, .UNRECOGNIZED(8), .version(0), true),
    ]
    for (target, result, given, expected) in cases {
      #expect(try holds(.with(target, "k", result, given), in: machine) == expected)
    }
  }

  @Test func absentKeysCompareAsZeroButNeverByValue() throws {
    let machine = Machine.fresh
    #expect(try holds(.with(.create, "k", .equal, .createRevision(0)), in: machine))
    #expect(try holds(.with(.lease, "k", .less, .lease(1)), in: machine))
    for result in Etcdserverpb_Compare.CompareResult.allCases {
      #expect(try !holds(.with(.value, "k", result, .value(Data())), in: machine))
    }
  }

  @Test func rangeComparisonsNeedEveryKey() throws {
    var machine = Machine.fresh
    try machine.put("a")
    try machine.put("b")
    try machine.put("b")
    #expect(try holds(.with(.version, "a", .less, .version(3), to: "c"), in: machine))
    #expect(try !holds(.with(.version, "a", .equal, .version(1), to: "c"), in: machine))
    #expect(try holds(.with(.version, "b", .equal, .version(2), to: "\0"), in: machine))
    #expect(try holds(.with(.version, "x", .equal, .version(0), to: "z"), in: machine))
    #expect(try !holds(.with(.value, "x", .equal, .value(Data()), to: "z"), in: machine))
  }

  // MARK: - Execution

  @Test func readsSeeEarlierWritesAndHeadersFollow() throws {
    var machine = Machine.fresh
    try machine.put("a", "1")
    let result = try machine.run(
      .when(then: [
        .range("a"), .delete("nope"), .put("a", "2"), .range("a"), .range("a") { $0.revision = 2 },
        .delete("a"), .range("a", to: "z"), .delete("a"), .put("b"),
      ]))
    #expect(result.revision == 3)
    var seen: [String] = []
    for response in result.responses {
      switch response {
      case .range(let range): seen.append("\(range.revision) \(range.text) \(range.count)")
      case .put(let put): seen.append("\(put.revision) put")
      case .deleteRange(let delete): seen.append("\(delete.revision) \(delete.deleted)")
      case .txn, .empty: seen.append("unexpected")
      }
    }
    #expect(
      seen == [
        "2 [\"a=1(2,2,1)\"] 1", "2 0", "3 put", "3 [\"a=2(2,3,2)\"] 1", "3 [\"a=1(2,2,1)\"] 1",
        "3 1", "3 [] 0", "3 0", "3 put",
      ])
    #expect(machine.currentRevision == 3)
    // Inside the revision only the last change of a key counts.
    #expect(try machine.read("a", to: "z") { $0.revision = 3 }.keys == ["b"])
  }

  /// Whenever ranges are read, nothing else differs; and read later they say what they said at once.
  @Test(arguments: 1...40 as ClosedRange<UInt64>)
  func rangesReadLaterSayTheSame(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    func draw(_ most: Int) -> Int { Int.random(in: 0...most, using: &random) }
    func key() -> String { "k\(draw(9))" }
    func operation(_ depth: Int, _ revision: Int64) -> Etcdserverpb_RequestOp {
      switch draw(depth < 2 ? 6 : 5) {
      case 0, 1, 2:
        .range("k", to: "l") {
          $0.revision = draw(3) == 0 ? Int64.random(in: 1...revision, using: &random) : 0
          $0.limit = Int64(draw(2) * 3)
          $0.keysOnly = draw(4) == 0
          $0.countOnly = draw(4) == 0
          $0.sortOrder = draw(2) == 0 ? .descend : .none
        }
      case 3, 4: .put(key(), "\(random.next() % 1000)")
      case 5: .delete(key())
      default: .txn(.when(then: (0...draw(3)).map { _ in operation(depth + 1, revision) }))
      }
    }
    var machine = Machine.fresh
    var (effects, others) = (ApplyEffects(), ApplyEffects())
    var deferredCount = 0
    for _ in 0..<40 {
      let request = Etcdserverpb_TxnRequest.when(
        then: (0...draw(5)).map { _ in operation(0, machine.currentRevision) })
      effects.removeAll()
      others.removeAll()
      var (skipping, later) = (machine, machine)
      let result = try machine.txn(request, leaseExists: { _ in true }, effects: &effects)
      let skipped = try skipping.txn(
        request, reads: .skipped, leaseExists: { _ in true }, effects: &others)
      #expect(others == effects && skipped.result.revision == result.revision)
      others.removeAll()
      let (direct, deferred) = try later.txn(
        request, reads: .later(keys: 0), leaseExists: { _ in true }, effects: &others)
      #expect(others == effects && later.currentRevision == machine.currentRevision)
      guard var deferred else {
        #expect(direct == result)
        continue
      }
      deferredCount += 1
      for _ in 0..<draw(4) {
        _ = try later.put(.with(key(), "later"), leaseExists: { _ in true }, effects: &others)
        _ = later.deleteRange(.with(key()), effects: &others)
      }
      while try !later.advance(&deferred.reads, visits: 3) {}
      #expect(deferred.answer == result)
    }
    #expect(deferredCount > 5)
  }

  @Test func subsRunThroughNestedTransactions() throws {
    var machine = Machine.fresh
    var effects = ApplyEffects()
    let inner = Etcdserverpb_TxnRequest.when(then: [.put("b"), .txn(.when(then: [.put("c")]))])
    let request = Etcdserverpb_TxnRequest.when(then: [.put("a"), .txn(inner), .put("d")])
    _ = try machine.txn(request, leaseExists: { _ in true }, effects: &effects)
    #expect(
      effects.changes.map(\.text) == [
        "PUT a=(2,2,1)@2.0", "PUT b=(2,2,1)@2.1", "PUT c=(2,2,1)@2.2", "PUT d=(2,2,1)@2.3",
      ])
  }

  @Test func deleteWithoutUpperBoundAndPutRunInOrder() throws {
    var machine = Machine.fresh
    try machine.put("k", "old")
    let deleteFirst = Etcdserverpb_TxnRequest.when(then: [.delete("a", to: "\0"), .put("k", "new")])
    #expect(throws: Never.self) { try RequestValidation.validate(deleteFirst, maxOps: 128) }
    try machine.run(deleteFirst)
    #expect(try machine.read("k").text == ["k=new(3,3,1)"])
    try machine.run(.when(then: [.put("k", "newer"), .delete("a", to: "\0")]))
    #expect(try machine.read("k").count == 0)
    #expect(machine.currentRevision == 4 && machine.index.faults() == [])
    var ignoring = Etcdserverpb_RequestOp.put("z")
    try machine.put("z", "old")
    ignoring.requestPut.ignoreValue = true
    try machine.run(.when(then: [.delete("a", to: "\0"), ignoring]))
    #expect(try machine.read("z").text == ["z=(6,6,1)"])
  }

  // MARK: - Checks against the state before

  @Test func failedCheckLeavesNoEffect() throws {
    var machine = Machine.fresh
    try machine.put("a")
    try machine.put("a")
    try machine.compact(at: 2)
    var ignoring = Etcdserverpb_RequestOp.put("absent")
    ignoring.requestPut.ignoreLease = true
    let cases: [(Etcdserverpb_RequestOp, KVError)] = [
      (.range("a") { $0.revision = 4 }, .futureRevision),
      (.range("a") { $0.revision = 1 }, .compacted),
      (.range("a") { $0.revision = -1 }, .compacted),
      (.put("c", lease: 5), .leaseNotFound), (ignoring, .keyNotFound),
      (.txn(.when(then: [.range("a") { $0.revision = 9 }])), .futureRevision),
    ]
    for (operation, error) in cases {
      var effects = ApplyEffects()
      #expect(throws: error) {
        try machine.txn(
          .when(then: [.put("b"), operation]), leaseExists: { _ in false }, effects: &effects)
      }
      #expect(effects == ApplyEffects() && machine.currentRevision == 3)
      // The branch that is not taken is not checked.
      #expect(throws: Never.self) { try machine.run(.when(else: [operation])) }
    }
    #expect(try machine.read("b").count == 0)
  }

  @Test func mistakesOfPutsComeBeforeThoseOfRanges() throws {
    var machine = Machine.fresh
    let future = Etcdserverpb_RequestOp.range("a") { $0.revision = 9 }
    let leased = Etcdserverpb_RequestOp.put("b", lease: 5)
    for operations in [
      [future, leased], [leased, future], [future, .txn(.when(then: [leased]))],
    ] {
      var effects = ApplyEffects()
      #expect(throws: KVError.leaseNotFound) {
        try machine.txn(
          .when(then: operations), leaseExists: { _ in false }, effects: &effects)
      }
    }
  }

  @Test func minusOneIsReadableUntilTheFirstCompaction() throws {
    var machine = Machine.fresh
    try machine.put("a")
    let request = Etcdserverpb_TxnRequest.when(then: [.range("a") { $0.revision = -1 }])
    #expect(throws: Never.self) { try machine.readOnlyTxn(request) }
    let further = Etcdserverpb_TxnRequest.when(then: [.range("a") { $0.revision = -2 }])
    #expect(throws: KVError.compacted) { try machine.readOnlyTxn(further) }
    try machine.compact(at: 1)
    #expect(throws: KVError.compacted) { try machine.readOnlyTxn(request) }
  }

  // MARK: - Validation

  @Test func operationCountsAddUpAlongAPath() {
    let three = Etcdserverpb_TxnRequest.when(then: [.range("a"), .range("b"), .range("c")])
    let outer = Etcdserverpb_TxnRequest.when(then: [.txn(three), .txn(three)])
    #expect(throws: Never.self) { try RequestValidation.validate(outer, maxOps: 5) }
    #expect(throws: KVError.tooManyOps) { try RequestValidation.validate(outer, maxOps: 4) }
    let compares = Array(
      repeating: Etcdserverpb_Compare.with(.version, "", .equal, nil), count: 3)
    #expect(throws: KVError.tooManyOps) {
      try RequestValidation.validate(.when(compares), maxOps: 2)
    }
    #expect(throws: KVError.keyNotProvided) {
      try RequestValidation.validate(.when(compares), maxOps: 3)
    }
    #expect(throws: KVError.keyNotFound) {
      try RequestValidation.validate(.when(else: [.empty]), maxOps: 3)
    }
    #expect(throws: KVError.keyNotProvided) {
      try RequestValidation.validate(.when(then: [.delete("")]), maxOps: 3)
    }
  }

  @Test func duplicateKeys() {
    func isDuplicate(_ operations: [Etcdserverpb_RequestOp]) -> Bool {
      do {
        try RequestValidation.validate(.when(else: operations), maxOps: 128)
        return false
      } catch {
        return error == .duplicateKey
      }
    }
    let putK = Etcdserverpb_RequestOp.txn(.when(then: [.put("k")]))
    let deleteK = Etcdserverpb_RequestOp.txn(.when(then: [.delete("k")]))
    let bothBranches = Etcdserverpb_RequestOp.txn(.when(then: [.put("k")], else: [.put("k")]))
    #expect(isDuplicate([.put("k"), .put("k")]))
    #expect(isDuplicate([.put("k"), .delete("k")]))
    #expect(isDuplicate([.delete("a", to: "z"), .put("k")]))
    #expect(isDuplicate([.put("k"), putK]))
    #expect(isDuplicate([putK, .put("k")]))
    #expect(isDuplicate([.put("k"), deleteK]))
    #expect(isDuplicate([.delete("k"), putK]))
    #expect(isDuplicate([putK, .delete("k")]))
    #expect(isDuplicate([putK, putK]))
    #expect(isDuplicate([bothBranches, putK]))
    #expect(isDuplicate([deleteK, putK]))
    #expect(isDuplicate([.txn(.when(then: [putK], else: [.put("x")])), .put("k")]))
    #expect(!isDuplicate([bothBranches]))
    #expect(!isDuplicate([putK, deleteK]))
    #expect(!isDuplicate([.delete("a", to: "z"), .delete("k"), deleteK]))
    #expect(!isDuplicate([.put("k"), .range("k"), .range("a", to: "z")]))
    #expect(!isDuplicate([.delete("a", to: "\0"), .put("k")]))
    #expect(!isDuplicate([.delete("k", to: "l"), .put("l")]))
  }

  @Test func readOnlyAndSerializable() {
    let range = Etcdserverpb_RequestOp.range("a")
    let local = Etcdserverpb_RequestOp.range("a") { $0.serializable = true }
    let inner = Etcdserverpb_RequestOp.txn(.when(then: [local]))
    #expect(TxnRules.isReadOnly(.when(then: [range], else: [local])))
    #expect(!TxnRules.isSerializable(.when(then: [range], else: [local])))
    #expect(TxnRules.isSerializable(.when(then: [local])))
    #expect(TxnRules.isReadOnly(.when()) && TxnRules.isSerializable(.when()))
    #expect(!TxnRules.isReadOnly(.when(then: [inner])))
    #expect(!TxnRules.isReadOnly(.when(then: [range], else: [.delete("a")])))
  }
}
