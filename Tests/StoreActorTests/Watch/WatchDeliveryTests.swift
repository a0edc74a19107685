import Base
import StoreActor
import Testing

@Suite struct WatchDeliveryTests {
  typealias Store = WatchedStore

  private func watching(
    _ request: WatchCreate, limits: WatchLimits = .init(), after writes: Int = 0
  ) -> Store {
    var store = Store(limits: limits)
    store.writeMany(writes, key: "a")
    store.hub.openStream(id: 1)
    store.hub.create(stream: 1, request: request)
    _ = store.take()
    return store
  }

  private func tight(_ change: (inout WatchLimits) -> Void) -> WatchLimits {
    var limits = WatchLimits()
    change(&limits)
    return limits
  }

  @Test func aRevisionIsOneBatchInOrderOfExecution() {
    var store = watching(.init("a", to: "c"))
    store.write(Store.put("b"), Store.delete("a"), Store.put("x"), Store.put("ab"))
    #expect(store.take().lines == ["events 0 @2: +b/2 -a/2 +ab/2"])
  }

  @Test func revisionsStillQueuedAreMerged() {
    var store = watching(.init("a"), limits: tight { $0.revisionsPerBatchMax = 3 })
    store.writeMany(4, key: "a")
    #expect(store.take().lines == ["events 0 @4: +a/2 +a/3 +a/4", "events 0 @5: +a/5"])
    store.writeMany(2, key: "a")
    #expect(store.take().lines == ["events 0 @7: +a/6 +a/7"])
  }

  @Test func mergingStopsAtTheByteLimitButNeverSplitsARevision() {
    var store = watching(.init("a", to: "b"), limits: tight { $0.bytesPerBatchMax = 60 })
    let large = String(repeating: "x", count: 50)
    store.write(Store.put("a"))
    store.write(Store.put("a"), Store.put("aa", large), Store.put("ab", large))
    store.write(Store.put("a"))
    #expect(store.take().lines == ["events 0 @3: +a/2 +a/3 +aa/3 +ab/3", "events 0 @4: +a/4"])
  }

  @Test func filtersDropKinds() {
    var store = watching(WatchCreate("a").with { $0.noPut = true })
    store.hub.create(stream: 1, request: WatchCreate("a").with { $0.noDelete = true })
    store.hub.create(
      stream: 1,
      request: WatchCreate("a").with {
        $0.noDelete = true
        $0.noPut = true
      })
    _ = store.take()
    store.write(Store.put("a"))
    #expect(store.take().lines == ["events 1 @2: +a/2"])
    store.write(Store.delete("a"))
    #expect(store.take().lines == ["events 0 @3: -a/3"])
  }

  @Test func aFutureStartHidesWhatComesBefore() {
    var store = watching(.init("a", from: 4))
    store.writeMany(2, key: "a")
    #expect(store.take().isEmpty)
    store.writeMany(2, key: "a")
    #expect(store.take().lines == ["events 0 @5: +a/4 +a/5"])
  }

  @Test func historyCarriesTheStoreRevisionAndGoesLiveWithoutAGap() {
    var store = watching(
      .init("a", from: 3), limits: tight { $0.revisionsPerPassMax = 2 }, after: 5)
    #expect(store.hub.hasUnsynced)
    store.catchUpOnce()
    #expect(store.take().lines == ["events 0 @6: +a/3 +a/4"])
    store.write(Store.put("a"))
    #expect(store.take().isEmpty, "a lagging watcher gets nothing live")
    store.catchUpFully()
    #expect(!store.hub.hasUnsynced)
    store.write(Store.put("a"))
    #expect(store.take().lines == ["events 0 @8: +a/5 +a/6 +a/7 +a/8"])
  }

  @Test func aWriteBetweenReadingAndQueueingIsNotLost() {
    var store = watching(.init("a", from: 2), after: 2)
    let request = store.hub.nextCatchUp()!
    store.write(Store.put("a"))
    store.serve(request, through: request.through, storeRevision: 3)
    #expect(store.hub.hasUnsynced)
    #expect(store.take().lines == ["events 0 @3: +a/2 +a/3"])
    store.catchUpFully()
    #expect(store.take().lines == ["events 0 @4: +a/4"])
    #expect(!store.hub.hasUnsynced)
  }

  @Test func theOwnerMayReadLessThanAsked() {
    var store = watching(.init("a", from: 2), after: 4)
    let request = store.hub.nextCatchUp()!
    #expect(request.from == 2 && request.through == 5 && request.watcherCount == 1)
    store.serve(request, through: 3)
    #expect(store.take().lines == ["events 0 @5: +a/2 +a/3"])
    #expect(store.hub.nextCatchUp()?.from == 4)
  }

  @Test func aBlockedStreamFallsBehindAndCatchesUp() {
    var store = watching(.init("a"))
    store.hub.create(stream: 1, request: .init("b"))
    _ = store.take()
    store.hub.streamBlocked(id: 1)
    store.writeMany(2, key: "a")
    #expect(store.take().isEmpty)
    #expect(store.hub.statistics.slowWatchers == 1)
    #expect(store.hub.nextCatchUp() == nil, "a blocked stream is not caught up")
    #expect(store.hub.hasUnsynced)
    store.hub.streamReady(id: 1)
    store.write(Store.put("b"))
    store.catchUpFully()
    #expect(store.take().lines == ["events 1 @4: +b/4", "events 0 @4: +a/2 +a/3"])
  }

  @Test func aFullQueueMakesWatchersLagAtAWholeRevision() {
    let limits = tight {
      $0.batchesPerStreamMax = 2
      $0.revisionsPerBatchMax = 1
    }
    var store = watching(.init("a"), limits: limits)
    store.write(Store.put("a"))
    store.write(Store.put("a"), Store.put("a"))
    store.write(Store.put("a"), Store.put("a"))
    store.write(Store.put("a"))
    #expect(store.take().lines == ["events 0 @2: +a/2", "events 0 @3: +a/3 +a/3"])
    #expect(store.hub.statistics.slowWatchers == 1)
    store.catchUpOnce()
    #expect(store.take().lines == ["events 0 @5: +a/4 +a/4", "events 0 @5: +a/5"])
    #expect(!store.hub.hasUnsynced)
  }

  @Test func aLargeQueueTakesNoMore() {
    var store = watching(.init("a"), limits: tight { $0.bytesPerStreamMax = 100 })
    store.write(Store.put("a", String(repeating: "x", count: 200)))
    store.write(Store.put("a"))
    #expect(store.take().lines == ["events 0 @2: +a/2"])
    #expect(store.hub.statistics.slowWatchers == 1)
  }

  @Test func behindACompactionALaggingWatcherIsCancelled() {
    var store = watching(.init("a"))
    store.hub.create(stream: 1, request: .init("b"))
    _ = store.take()
    store.hub.streamBlocked(id: 1)
    store.writeMany(5, key: "a")
    store.compact(2)
    #expect(store.take().isEmpty, "revision 2 itself can still be read")
    store.compact(4)
    #expect(store.take().lines == ["compacted 0 4"])
    #expect(store.hub.statistics.watchers == 1)
    #expect(!store.hub.hasUnsynced)
  }

  @Test func lateHistoryForEndedWatchersIsDropped() {
    var store = watching(.init("a", from: 2), after: 5)
    store.hub.create(stream: 1, request: .init("a", from: 4))
    _ = store.take()
    let request = store.hub.nextCatchUp()!
    store.compact(3)
    store.hub.cancel(stream: 1, watchID: 1)
    store.hub.create(stream: 1, request: .init("a"))
    store.serve(request, through: request.through)
    #expect(store.take().lines == ["compacted 0 3", "canceled 1 @6", "created 2 @6"])
  }

  @Test func oneLaggardDoesNotHoldUpTheNextInLine() {
    var store = watching(
      .init("a", from: 2), limits: tight { $0.revisionsPerPassMax = 2 }, after: 9)
    store.hub.create(stream: 1, request: .init("a", from: 9))
    _ = store.take()
    store.catchUpOnce()
    store.catchUpOnce()
    #expect(store.take().lines == ["events 0 @10: +a/2 +a/3", "events 1 @10: +a/9 +a/10"])
  }

  @Test func aPassTakesNoMoreWatchersThanAllowed() {
    var store = watching(.init("a", from: 2), limits: tight { $0.watchersPerPassMax = 2 }, after: 3)
    for _ in 0..<4 { store.hub.create(stream: 1, request: .init("a", from: 2)) }
    #expect(store.hub.nextCatchUp()?.watcherCount == 2)
    #expect(store.hub.nextCatchUp(limit: 1)?.watcherCount == 1)
    #expect(store.hub.nextCatchUp(limit: 1, revisionLimit: 2)?.through == 3)
  }

  @Test func aRestoreReplaysNothingAndSkipsNothing() {
    var store = watching(.init("a"))
    store.hub.create(stream: 1, request: .init("a", from: 5))
    store.hub.create(stream: 1, request: .init("a", from: 9))
    _ = store.take()
    store.writeMany(1, key: "a")
    #expect(store.take().lines == ["events 0 @2: +a/2"])
    store.restore((0..<5).map { _ in [Store.put("a")] })
    #expect(store.hub.statistics.slowWatchers == 2)
    store.catchUpFully()
    #expect(
      store.take().lines == [
        "events 0 @7: +a/3 +a/4 +a/5 +a/6 +a/7", "events 1 @7: +a/5 +a/6 +a/7",
      ])
    store.writeMany(2, key: "a")
    #expect(
      store.take().lines == [
        "events 0 @9: +a/8 +a/9", "events 1 @9: +a/8 +a/9", "events 2 @9: +a/9",
      ])
  }

  @Test func aRestoreBeyondACompactionCancels() {
    var store = watching(.init("a"))
    store.hub.create(stream: 1, request: .init("a", from: 4))
    _ = store.take()
    store.restore((0..<5).map { _ in [Store.put("a")] }, compact: 4)
    store.catchUpFully()
    #expect(store.take().lines == ["compacted 0 4", "events 1 @6: +a/4 +a/5 +a/6"])
  }

  @Test func unannouncedRevisionsAreReadFromHistory() {
    var store = watching(.init("a"))
    store.write([Store.put("a")], announce: false)
    store.write(Store.put("a"))
    #expect(store.take().isEmpty)
    store.catchUpFully()
    #expect(store.take().lines == ["events 0 @3: +a/2 +a/3"])
  }

  @Test func previousValuesAreLookedUpOncePerChangeAndOnlyWhenWanted() throws {
    var store = watching(WatchCreate("a"))
    store.write(Store.put("a"))
    #expect(store.lookups == 0)
    for _ in 0..<3 {
      store.hub.create(stream: 1, request: WatchCreate("a").with { $0.prevKV = true })
    }
    _ = store.take()
    store.write(Store.put("a", "new"))
    #expect(store.lookups == 1)
    let batches = store.take().compactMap { output -> WatchBatch? in
      if case .events(let batch) = output { batch } else { nil }
    }
    #expect(batches.map(\.watchID) == [0, 1, 2, 3])
    #expect(batches[0].events[0].previous == nil)
    #expect(batches[1].events[0].previous == Store.keyValue(.put, "a", 2, "v"))
    #expect(batches[1].events[0] === batches[3].events[0], "encoded once")
    store.write(Store.put("b"))
    #expect(store.lookups == 1)
  }
}
