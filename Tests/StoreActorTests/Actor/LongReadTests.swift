import Actors
import Base
import EtcdAPI
import Foundation
import RaftActor
import SwiftProtobuf
import Testing

@testable import StoreActor

/// Reads of many keys go on between other work, a bounded step at a time.
struct LongReadTests {
  private static let keys = 1500

  private func sorted(
    _ order: Etcdserverpb_RangeRequest.SortOrder, _ target: Etcdserverpb_RangeRequest.SortTarget
  ) -> Etcdserverpb_RangeRequest {
    .with("k", "l") {
      $0.sortOrder = order
      $0.sortTarget = target
    }
  }

  private var requests: [StoreRead.Kind] {
    let all = Etcdserverpb_RangeRequest.with("k", "l")
    let filtered = Etcdserverpb_RangeRequest.with("k", "l") { $0.minCreateRevision = 1 }
    return [
      .range(all), .range(filtered), .range(sorted(.descend, .key)),
      .range(sorted(.ascend, .mod)), .range(sorted(.descend, .value)),
      .txn(.when(then: [.range("k", to: "l"), .range("k", to: "l")])),
    ]
  }

  /// A put that arrives while a long read is under way is answered before it.
  @Test func writesOvertakeThem() throws {
    let harness = try StoreHarness()
    try harness.fill("k", Self.keys)
    for request in requests {
      let read = harness.read(request)
      harness.step()
      let put = try harness.put("other")
      harness.step()
      #expect(harness.reply(to: put) != nil, "\(request)")
      #expect(harness.reply(to: read) == nil, "\(request)")
      var pauses = 0
      while harness.reply(to: read) == nil {
        harness.settle()
        pauses += harness.record.pauses.count
        harness.endPauses()
      }
      // Beside others, every slice is followed by a pause: but the first two and the last.
      #expect(pauses >= Self.keys / KVStore.sliceVisits - 3, "\(request)")
      harness.forget()
    }
  }

  @Test func theyRunOnWhenNobodyElseIsServed() throws {
    let harness = try StoreHarness()
    try harness.fill("k", Self.keys)
    harness.now += 1_000_000_000
    let read = harness.read(.range(.with("k", "l")))
    harness.settle()
    let answer = try #require(try harness.message(Etcdserverpb_RangeResponse.self, read))
    #expect(answer.kvs.count == Self.keys && answer.count == Int64(Self.keys) && !answer.more)
    #expect(harness.record.pauses.isEmpty)
  }

  @Test func answersAreTheSameAsInOneStep() throws {
    let harness = try StoreHarness()
    try harness.fill("k", Self.keys, value: String(repeating: "long", count: 100))
    harness.now += 1_000_000_000
    let read = harness.read(.range(sorted(.descend, .key)))
    let txn = harness.read(.txn(.when(then: [.range("k", to: "l"), .range("none")])))
    harness.settle()
    let pieces = try #require(harness.reply(to: read)).rest
    #expect(pieces.count > 2, "a long answer comes in pieces")
    let range = try #require(try harness.message(Etcdserverpb_RangeResponse.self, read))
    #expect(
      range.kvs.map { String(decoding: $0.key, as: UTF8.self) }
        == (0..<Self.keys).reversed().map { "k\(10000 + $0)" })
    let response = try #require(try harness.message(Etcdserverpb_TxnResponse.self, txn))
    #expect(response.responses.count == 2 && response.succeeded)
    #expect(response.responses[0].responseRange.kvs == range.kvs.reversed())
    #expect(response.responses[1].responseRange.count == 0)
  }

  /// What a transaction writes is there at once; what else it reads comes later, as it was.
  @Test func rangesOfATransactionThatWritesAreReadLater() throws {
    let harness = try StoreHarness()
    try harness.fill("k", Self.keys)
    let id = try harness.apply(
      .txn,
      Etcdserverpb_TxnRequest.when(then: [
        .range("k", to: "l"), .put("k00000", "new"), .range("k00000"), .range("k", to: "l"),
      ]))
    harness.step()
    let other = harness.read(.range(.with("k00000")))
    // While it is read, others write to and delete from what it reads, and want history gone.
    try harness.put("k10000", "late")
    harness.step()
    let seen = try #require(try harness.message(Etcdserverpb_RangeResponse.self, other))
    #expect(seen.kvs.first.map { String(decoding: $0.value, as: UTF8.self) } == "new")
    #expect(harness.reply(to: id) == nil)
    try harness.apply(
      .compaction, Etcdserverpb_CompactionRequest.with { $0.revision = seen.header.revision + 1 })
    harness.step()
    let answer = try #require(try harness.message(Etcdserverpb_TxnResponse.self, id))
    #expect(answer.succeeded && answer.header.revision == seen.header.revision)
    let ranges = answer.responses.map(\.responseRange)
    #expect(answer.responses.count == 4)
    #expect(ranges[0].count == Int64(Self.keys) && ranges[0].kvs.count == Self.keys)
    #expect(ranges[0].header.revision == seen.header.revision - 1)
    #expect(answer.responses[1].responsePut.header.revision == seen.header.revision)
    #expect(ranges[2].kvs == seen.kvs)
    #expect(ranges[3].count == Int64(Self.keys) + 1 && ranges[3].kvs.count == Self.keys + 1)
    #expect(ranges[3].kvs.allSatisfy { $0.value != Data("late".utf8) })
  }

  /// Whoever asked for no revision cannot be told that it is compacted.
  @Test func compactionMakesReadsOfTheCurrentStateStartAgain() throws {
    let harness = try StoreHarness()
    try harness.fill("k", Self.keys)
    let current = harness.read(.range(.with("k", "l")))
    let pinned = harness.read(
      .range(.with("k", "l") { $0.revision = 2 + Int64(Self.keys) / 100 - 1 }))
    harness.step()
    try harness.put("k99999")
    try harness.apply(
      .compaction, Etcdserverpb_CompactionRequest.with { $0.revision = 2 + Int64(Self.keys) / 100 })
    while harness.reply(to: current) == nil || harness.reply(to: pinned) == nil {
      harness.settle()
      harness.endPauses()
    }
    let answer = try #require(try harness.message(Etcdserverpb_RangeResponse.self, current))
    #expect(answer.count == Int64(Self.keys) + 1 && answer.kvs.count == Self.keys + 1)
    #expect(answer.header.revision == 2 + Int64(Self.keys) / 100)
    #expect(harness.failure(pinned) == .compacted)
  }

  @Test func nobodyWaitsForWhatHasGone() throws {
    let harness = try StoreHarness()
    try harness.fill("k", Self.keys)
    let read = harness.read(.range(.with("k", "l")))
    harness.step()
    harness.store.inbox.send(.endRead(id: read))
    harness.settle()
    harness.endPauses()
    harness.settle()
    #expect(harness.reply(to: read) == nil && harness.record.pauses.isEmpty)
  }

  @Test func streamsComeInGrowingParts() throws {
    let harness = try StoreHarness()
    try harness.fill("k", Self.keys)
    let read = harness.read(.rangeStream(.with("k", "l")))
    var merged = Etcdserverpb_RangeResponse()
    var sizes: [Int] = []
    while harness.reply(to: read) == nil {
      harness.settle()
      harness.endPauses()
      for part in harness.record.parts {
        let response = try Etcdserverpb_RangeStreamResponse(serializedBytes: part)
        sizes.append(response.rangeResponse.kvs.count)
        try merged.merge(serializedBytes: response.rangeResponse.serializedBytes() as Bytes)
        harness.store.inbox.send(.continueRangeStream(id: read))
      }
      if !harness.record.parts.isEmpty && harness.reply(to: read) == nil { harness.forget() }
    }
    #expect(sizes.prefix(4) == [10, 20, 40, 80])
    #expect(merged.kvs.count == Self.keys && merged.count == Int64(Self.keys))
    #expect(merged.header.revision == 1 + Int64(Self.keys) / 100)
  }
}
