import Base
import StoreActor
import Testing

@Suite struct WatchProgressTests {
  typealias Store = WatchedStore

  private func opened(after writes: Int = 0) -> Store {
    var store = Store()
    store.writeMany(writes, key: "a")
    store.hub.openStream(id: 1)
    return store
  }

  private let notifying = WatchCreate("a").with { $0.progressNotify = true }

  @Test func manualProgressCoversTheStream() {
    var store = opened()
    store.hub.requestProgress(stream: 1)
    #expect(store.take().isEmpty, "no watchers, no answer")
    store.hub.create(stream: 1, request: .init("a"))
    store.write(Store.put("b"))
    store.hub.requestProgress(stream: 1)
    #expect(store.take().lines == ["created 0 @1", "progress -1 @2"])
  }

  @Test func manualProgressWaitsForNobody() {
    var store = opened(after: 3)
    store.hub.create(stream: 1, request: .init("a"))
    store.hub.create(stream: 1, request: .init("a", from: 2))
    _ = store.take()
    store.hub.requestProgress(stream: 1)
    #expect(store.take().isEmpty, "one watcher lags")
    store.catchUpFully()
    #expect(store.take().lines == ["events 1 @4: +a/2 +a/3 +a/4"], "no later answer")
    store.hub.requestProgress(stream: 1)
    #expect(store.take().lines == ["progress -1 @4"])
  }

  @Test func manualProgressNeedsEveryStartReached() {
    var store = opened()
    store.hub.create(stream: 1, request: .init("a"))
    store.hub.create(stream: 1, request: .init("a", from: 3))
    _ = store.take()
    store.hub.requestProgress(stream: 1)
    store.write(Store.put("b"))
    store.hub.requestProgress(stream: 1)
    #expect(store.take().isEmpty)
    store.write(Store.put("b"))
    store.hub.requestProgress(stream: 1)
    #expect(store.take().lines == ["progress -1 @3"])
    store.hub.create(stream: 1, request: .init("a", from: 90))
    store.hub.cancel(stream: 1, watchID: 2)
    _ = store.take()
    store.hub.requestProgress(stream: 1)
    #expect(store.take().lines == ["progress -1 @3"], "a cancelled watcher does not count")
  }

  @Test func progressStandsBehindQueuedEventsAndBeforeLaterOnes() {
    var store = opened()
    store.hub.create(stream: 1, request: .init("a"))
    _ = store.take()
    store.write(Store.put("a"))
    store.hub.requestProgress(stream: 1)
    store.write(Store.put("a"))
    store.write(Store.put("a"))
    #expect(
      store.take().lines
        == ["events 0 @2: +a/2", "progress -1 @2", "events 0 @4: +a/3 +a/4"])
  }

  @Test func periodicProgressGoesToQuietWatchersThatOptedIn() {
    var store = opened()
    store.hub.create(stream: 1, request: notifying)
    store.hub.create(stream: 1, request: .init("a"))
    _ = store.take()
    store.hub.progressTick()
    #expect(store.take().lines == ["progress 0 @1"])
    store.write(Store.put("a"))
    _ = store.take()
    store.hub.progressTick(stream: 1)
    #expect(store.take().isEmpty, "it had events since the last tick")
    store.hub.progressTick(stream: 1)
    #expect(store.take().lines == ["progress 0 @2"])
    store.hub.progressTick(stream: 7)
  }

  @Test func periodicProgressIsNeverPremature() {
    var store = opened(after: 3)
    store.hub.create(stream: 1, request: notifying.with { $0.startRevision = 2 })
    store.hub.create(stream: 1, request: notifying.with { $0.startRevision = 6 })
    _ = store.take()
    store.hub.progressTick()
    #expect(store.take().isEmpty, "one lags, one starts in the future")
    store.catchUpFully()
    store.write(Store.put("b"))
    store.write(Store.put("b"))
    _ = store.take()
    store.hub.progressTick()
    #expect(store.take().lines == ["progress 1 @6"])
    store.hub.streamBlocked(id: 1)
    store.hub.progressTick()
    #expect(store.take().isEmpty)
  }
}
