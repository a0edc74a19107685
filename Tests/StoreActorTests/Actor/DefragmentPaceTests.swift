import Actors
import Base
import EtcdAPI
import Testing

@testable import StoreActor

/// A defragmentation leaves room for others: small slices, a rest after each.
struct DefragmentPaceTests {
  @Test func restsBetweenSlices() throws {
    let harness = try StoreHarness()
    let value = String(repeating: "x", count: 40_000)
    for number in 0..<400 { try harness.put("k\(number)", value) }
    harness.settle()
    let id = harness.nextID()
    harness.store.inbox.send(.defragment(id: id))
    harness.settle()
    var rests = 0
    while harness.reply(to: id) == nil {
      let ended = harness.endRests()
      #expect(ended.count == 1 && ended.allSatisfy { $0.milliseconds >= 1 })
      rests += 1
      // Writes go on in between.
      let put = try harness.put("during\(rests)")
      harness.settle()
      #expect(harness.reply(to: put) != nil)
    }
    #expect(rests >= 400 * 40_000 / Backend.gentleSliceBytes)
    // What was the file is given back afterwards.
    while !harness.endRests().isEmpty { harness.settle() }
    #expect(harness.backend.reclaim(maxBytes: 1) == .done)
  }
}
