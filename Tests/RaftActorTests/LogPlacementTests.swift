import Base
import Testing

@testable import RaftActor

@Suite("Which thread writes the log")
struct LogPlacementTests {
  private static let millisecond: UInt64 = 1_000_000
  private static let quick: UInt64 = 150_000

  private static func batch(entries: Int = 1, bytes: Int = 100) -> LogBatch {
    LogBatch(
      sequence: 1,
      entries: (0..<entries).map {
        Entry(
          term: 1, index: UInt64($0) + 1, kind: .normal, data: Bytes(repeating: 0, count: bytes))
      }, mustSync: true)
  }

  /// After a second on a quick disk, of which the loop has used a fifth of its processor.
  private static func proven() -> LogPlacement {
    var placement = LogPlacement()
    for step in 1...100 as ClosedRange<UInt64> {
      placement.synced(nanoseconds: quick, now: step * 10 * millisecond)
      _ = placement.isOnLoop(batch(), now: step * 10 * millisecond) { step * 2 * millisecond }
    }
    return placement
  }

  private func isOnLoop(_ placement: inout LogPlacement, _ batch: LogBatch = batch()) -> Bool {
    placement.isOnLoop(batch, now: 1_001 * Self.millisecond) { 0 }
  }

  @Test func theLoopWritesInACalmMomentOnAQuickDisk() {
    var placement = Self.proven()
    #expect(isOnLoop(&placement))
  }

  @Test func aDiskHasToProveThatItIsQuick() {
    var placement = LogPlacement()
    var first: Int?
    for step in 1...200 {
      let now = UInt64(step) * 10 * Self.millisecond
      if placement.isOnLoop(Self.batch(), now: now, processorTime: { 0 }) {
        first = step
        break
      }
      placement.synced(nanoseconds: Self.quick, now: now)
    }
    #expect((20...100).contains(first ?? 0))
  }

  @Test func muchWorkIsForTwoThreads() {
    var placement = Self.proven()
    #expect(!isOnLoop(&placement, Self.batch(entries: LogPlacement.entriesMax + 1)))
    #expect(!isOnLoop(&placement, Self.batch(bytes: LogPlacement.bytesMax + 1)))
    var unsynced = Self.batch()
    unsynced.mustSync = false
    #expect(!isOnLoop(&placement, unsynced))
    var release = Self.batch()
    release.releaseThrough = 1
    #expect(!isOnLoop(&placement, release))
  }

  @Test func aBusyLoopDoesNotWait() {
    var placement = Self.proven()
    let later = 1_010 * Self.millisecond
    let busy = placement.isOnLoop(Self.batch(), now: later) { 206 * Self.millisecond }
    #expect(!busy)
    let calm = placement.isOnLoop(Self.batch(), now: later + 10 * Self.millisecond) {
      208 * Self.millisecond
    }
    #expect(calm)
  }

  @Test func aSlowDiskIsLeftToItsThread() {
    var placement = Self.proven()
    for _ in 0..<16 { placement.synced(nanoseconds: 3 * Self.millisecond, now: 0) }
    #expect(!isOnLoop(&placement))
    for _ in 0..<64 { placement.synced(nanoseconds: Self.quick, now: 0) }
    #expect(isOnLoop(&placement))
  }

  @Test func aStallIsRememberedForLong() {
    var placement = Self.proven()
    let stalledAt = 1_000 * Self.millisecond
    placement.synced(nanoseconds: LogPlacement.stall, now: stalledAt)
    for _ in 0..<1_000 { placement.synced(nanoseconds: Self.quick, now: stalledAt) }
    #expect(!isOnLoop(&placement))
    let late = stalledAt + LogPlacement.stallMemory
    #expect(placement.isOnLoop(Self.batch(), now: late) { 300 * Self.millisecond })
  }
}
