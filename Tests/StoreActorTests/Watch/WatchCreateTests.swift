import Base
import StoreActor
import Testing

@Suite struct WatchCreateTests {
  typealias Store = WatchedStore

  private func opened(_ limits: WatchLimits = .init()) -> Store {
    var store = Store(limits: limits)
    store.hub.openStream(id: 1)
    return store
  }

  @Test func idsCountFromZeroPerStreamAndAreNotReused() {
    var store = opened()
    store.hub.openStream(id: 2)
    for stream: UInt64 in [1, 1, 2] { store.hub.create(stream: stream, request: .init("a")) }
    store.hub.cancel(stream: 1, watchID: 0)
    store.hub.create(stream: 1, request: .init("a"))
    let deliveries = store.hub.takeOutput()
    #expect(deliveries.map(\.stream) == [1, 2])
    #expect(
      deliveries[0].outputs.lines
        == ["created 0 @1", "created 1 @1", "canceled 0 @1", "created 2 @1"])
    #expect(deliveries[1].outputs.lines == ["created 0 @1"])
  }

  @Test func chosenIdsAreUsedAndSteppedOver() {
    var store = opened()
    let chosen = WatchCreate("a").with { $0.watchID = 1 }
    store.hub.create(stream: 1, request: chosen)
    store.hub.create(stream: 1, request: .init("a"))
    store.hub.create(stream: 1, request: .init("a"))
    store.hub.create(stream: 1, request: chosen)
    #expect(
      store.take().lines == [
        "created 1 @1", "created 0 @1", "created 2 @1",
        "refused @1: mvcc: duplicate watch ID provided on the WatchStream",
      ])
    #expect(store.hub.statistics.watchers == 3)
  }

  @Test func refusalsRankInOrder() {
    var store = opened()
    store.writeMany(3, key: "x")
    let everythingWrong = WatchCreate("b", to: "a", from: -1)
    store.hub.create(stream: 1, request: everythingWrong, refusal: "no right")
    store.hub.create(stream: 1, request: .init("b", to: "a"), refusal: "no right")
    store.hub.create(stream: 1, request: .init("b", to: "a"))
    store.hub.create(stream: 1, request: .init("b", to: "b"))
    store.hub.create(stream: 1, request: .init("b"))
    #expect(
      store.take().lines == [
        "refused @4: etcdserver: mvcc: required revision has been compacted",
        "refused @4: no right",
        "refused @4: mvcc: watcher range is empty",
        "refused @4: mvcc: watcher range is empty",
        "created 0 @4",
      ])
  }

  @Test func emptyKeyIsTheZeroByte() {
    var store = opened()
    store.hub.create(stream: 1, request: .init(""))
    store.hub.create(stream: 1, request: .init("", to: "\0"))
    store.write(Store.put("a"))
    store.write(Store.put("\0"))
    #expect(
      store.take().lines == [
        "created 0 @1", "created 1 @1", "events 1 @3: +a/2 +\0/3", "events 0 @3: +\0/3",
      ])
  }

  @Test func compactedStartIsAnsweredTwiceAndKeepsItsID() {
    var store = opened()
    store.writeMany(9, key: "a")
    store.compact(5)
    store.hub.create(stream: 1, request: .init("a", from: 4))
    #expect(store.take().lines == ["created 0 @10", "compacted 0 5"])
    store.hub.create(stream: 1, request: WatchCreate("a").with { $0.watchID = 7 })
    store.hub.create(stream: 1, request: .init("a"))
    store.write(Store.put("a"))
    store.hub.cancel(stream: 1, watchID: 0)
    #expect(
      store.take().lines == [
        "created 7 @10", "created 1 @10", "events 7 @11: +a/11", "events 1 @11: +a/11",
        "canceled 0 @11",
      ])
    store.hub.cancel(stream: 1, watchID: 0)
    #expect(store.take().isEmpty)
  }

  @Test func anIDReservedByCompactionCannotBeChosen() {
    var store = opened()
    store.writeMany(9, key: "a")
    store.compact(5)
    store.hub.create(
      stream: 1,
      request: WatchCreate("a", from: 4).with { $0.watchID = 3 })
    store.hub.create(stream: 1, request: WatchCreate("a").with { $0.watchID = 3 })
    #expect(
      store.take().lines == [
        "created 3 @10", "compacted 3 5",
        "refused @10: mvcc: duplicate watch ID provided on the WatchStream",
      ])
  }

  @Test func startAtTheCompactedRevisionIsServed() {
    var store = opened()
    store.write(Store.put("a"))
    store.write(Store.delete("a"))
    store.write(Store.put("b"))
    store.compact(3)
    store.hub.create(stream: 1, request: .init("a", to: "z", from: 3))
    store.catchUpFully()
    #expect(store.take().lines == ["created 0 @4", "events 0 @4: -a/3 +b/4"])
  }

  @Test func unknownCancelIsSilent() {
    var store = opened()
    store.hub.cancel(stream: 1, watchID: 5)
    store.hub.cancel(stream: 9, watchID: 0)
    #expect(store.take().isEmpty)
    #expect(!store.hub.hasOutput)
  }

  @Test func nothingFollowsACancelAnswer() {
    var store = opened()
    store.hub.create(stream: 1, request: .init("a"))
    store.write(Store.put("a"))
    store.hub.cancel(stream: 1, watchID: 0)
    store.write(Store.put("a"))
    #expect(store.take().lines == ["created 0 @1", "events 0 @2: +a/2", "canceled 0 @2"])
  }

  @Test func closingAStreamEndsItsWatchersAndOutput() {
    var store = opened()
    store.hub.openStream(id: 2)
    store.writeMany(3, key: "a")
    store.hub.create(stream: 1, request: .init("a", from: 2))
    store.hub.create(stream: 1, request: .init("a"))
    store.hub.create(stream: 2, request: .init("a"))
    store.write(Store.put("a"))
    store.hub.closeStream(id: 1)
    #expect(!store.hub.hasUnsynced)
    let statistics = store.hub.statistics
    #expect(statistics.streams == 1)
    #expect(statistics.watchers == 1)
    #expect(statistics.slowWatchers == 0)
    #expect(statistics.pendingEvents == 1)
    #expect(statistics.eventsDelivered == 2)
    let deliveries = store.hub.takeOutput()
    #expect(deliveries.map(\.stream) == [2])
    store.hub.openStream(id: 1)
    store.hub.create(stream: 1, request: .init("a"))
    #expect(store.take().lines == ["created 0 @5"])
  }
}
