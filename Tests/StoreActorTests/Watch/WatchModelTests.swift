import Base
import StoreActor
import Testing

/// Random writes, watchers, blocking, compactions and restores against the definition of a watch:
/// the history, filtered, from the start on, in order, in whole revisions.
@Suite struct WatchModelTests {
  /// What one watcher was told so far, checked event by event.
  private struct Client {
    let request: WatchCreate
    let range: KeyRange
    /// First revision it may see.
    var start: Int64
    /// Changes at or below this position were delivered or are of no interest.
    var position = Revision(main: 0)
    var reported: Int64 = 0

    func wants(_ change: Change) -> Bool {
      change.revision.main >= start && range.contains(change.key)
        && !(change.kind == .put ? request.noPut : request.noDelete)
    }
  }

  private struct World {
    var generator: SeededGenerator
    var store: WatchedStore
    /// By stream, then watch id. Ended watchers leave.
    var clients: [UInt64: [Int64: Client]] = [:]
    var requests: [UInt64: [WatchCreate]] = [:]
    var blocked: Set<UInt64> = []
    var pending: CatchUpRequest?
    var nextStream: UInt64 = 1
    var events = 0
    var compactions = 0
    /// Everything that was sent, in order.
    var log: [String] = []

    init(seed: UInt64) {
      generator = SeededGenerator(seed: seed)
      var limits = WatchLimits()
      limits.batchesPerStreamMax = 4
      limits.bytesPerStreamMax = 200
      limits.revisionsPerBatchMax = 3
      limits.bytesPerBatchMax = 80
      limits.watchersPerPassMax = 3
      limits.revisionsPerPassMax = 6
      store = WatchedStore(limits: limits)
    }

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &generator) }

    mutating func operations() -> [(Change.Kind, String, String)] {
      (0...below(3)).map { _ in
        let key = ["a", "ab", "b", "ba", "c"][below(5)]
        return below(4) == 0 ? WatchedStore.delete(key) : WatchedStore.put(key, "\(below(1000))")
      }
    }

    mutating func step() {
      switch below(40) {
      case 0..<14: store.write(operations())
      case 14..<20: create()
      case 20..<22: cancel()
      case 22..<24: block()
      case 24..<30: catchUp()
      case 30..<34: takeAndCheck()
      case 34: store.compact(max(1, store.revision - Int64(below(12))))
      case 35: if below(3) == 0 { restore() }
      case 36: openOrClose()
      case 37: store.hub.progressTick()
      default: if let stream = anyStream() { store.hub.requestProgress(stream: stream) }
      }
    }

    mutating func anyStream() -> UInt64? {
      requests.keys.sorted().randomElement(using: &generator)
    }

    mutating func openOrClose() {
      if requests.count > 2, let stream = anyStream() {
        takeAndCheck()
        store.hub.closeStream(id: stream)
        requests[stream] = nil
        clients[stream] = nil
        blocked.remove(stream)
      }
      store.hub.openStream(id: nextStream)
      requests[nextStream] = []
      clients[nextStream] = [:]
      nextStream += 1
    }

    mutating func create() {
      guard let stream = anyStream() else { return openOrClose() }
      let key = ["a", "ab", "b"][below(3)]
      let end = ["", "", "\0", "b", "c"][below(5)]
      let offset = Int64(below(24) - 16)
      var request = WatchCreate(
        key, to: end, from: below(3) == 0 ? 0 : max(1, store.revision + offset))
      request.noPut = below(6) == 0
      request.noDelete = below(6) == 0
      request.prevKV = below(3) == 0
      request.progressNotify = below(2) == 0
      requests[stream]?.append(request)
      store.hub.create(stream: stream, request: request)
    }

    mutating func cancel() {
      guard let stream = anyStream(),
        let id = clients[stream]?.keys.sorted().randomElement(using: &generator)
      else { return }
      store.hub.cancel(stream: stream, watchID: id)
    }

    mutating func block() {
      guard let stream = anyStream() else { return }
      if blocked.remove(stream) != nil {
        store.hub.streamReady(id: stream)
      } else {
        blocked.insert(stream)
        store.hub.streamBlocked(id: stream)
      }
    }

    mutating func restore() {
      let revisions = (0...below(9)).map { _ in operations() }
      let last = store.revision + Int64(revisions.count)
      store.restore(revisions, compact: below(3) == 0 ? last - Int64(below(8)) : nil)
    }

    /// Either a whole pass, or its two halves with other things in between.
    mutating func catchUp() {
      if let request = pending {
        pending = nil
        let through = min(request.through, request.from + Int64(below(8)))
        store.serve(request, through: through)
      } else if below(2) == 0 {
        pending = store.hub.nextCatchUp()
      } else {
        store.catchUpOnce()
      }
    }

    mutating func takeAndCheck() {
      for delivery in store.hub.takeOutput() {
        for output in delivery.outputs {
          log.append("\(delivery.stream) \(output.line)")
          check(output, on: delivery.stream)
        }
      }
    }

    mutating func check(_ output: WatchOutput, on stream: UInt64) {
      switch output {
      case .created(let id, let revision):
        guard let request = requests[stream]?.first else {
          Issue.record("created without a request")
          return
        }
        requests[stream]?.removeFirst()
        let range = KeyRange(key: request.key, rangeEnd: request.rangeEnd)
        let start = request.startRevision > 0 ? request.startRevision : revision + 1
        #expect(clients[stream]?[id] == nil)
        clients[stream]?[id] = Client(request: request, range: range, start: start)
      case .refused:
        #expect(requests[stream]?.isEmpty == false)
        requests[stream]?.removeFirst()
      case .canceled(let id, _): clients[stream]?[id] = nil
      case .compacted(let id, let revision):
        compactions += 1
        let client = clients[stream]?.removeValue(forKey: id)
        #expect(client != nil)
        #expect(revision <= store.compactRevision)
        #expect(revision > max(client?.position.main ?? 0, client?.reported ?? 0))
        #expect(revision > (client?.start ?? 0))
      case .progress(let id, let revision):
        let ids = id == -1 ? (clients[stream]?.keys.sorted() ?? []) : [id]
        #expect(!ids.isEmpty)
        for id in ids { checkProgress(stream, id, revision) }
      case .events(let batch): check(batch, on: stream)
      }
    }

    mutating func checkProgress(_ stream: UInt64, _ id: Int64, _ revision: Int64) {
      guard let client = clients[stream]?[id] else {
        Issue.record("progress for an unknown watcher")
        return
      }
      if let missing = nextChange(of: client) { #expect(missing.revision.main > revision) }
      #expect(revision >= client.position.main && revision >= client.reported)
      #expect(client.request.startRevision <= revision)
      clients[stream]?[id]?.reported = revision
    }

    mutating func check(_ batch: WatchBatch, on stream: UInt64) {
      guard var client = clients[stream]?[batch.watchID] else {
        Issue.record("events for an unknown watcher")
        return
      }
      for event in batch.events {
        let expected = nextChange(of: client)
        #expect(event.change == expected)
        guard event.change == expected else { return }
        #expect(event.change.revision.main > client.reported)
        let previous = WatchedStore.previous(of: event.change, in: store.history)
        #expect(event.previous == (client.request.prevKV ? previous : nil))
        client.position = event.change.revision
        events += 1
      }
      let last = client.position.main
      if let next = nextChange(of: client) { #expect(next.revision.main > last, "split revision") }
      #expect(batch.headerRevision >= last && batch.headerRevision <= store.revision)
      #expect(batch.revisionCount == Set(batch.events.map(\.change.revision.main)).count)
      #expect(batch.bytes == batch.events.reduce(0) { $0 + $1.encoded.count })
      clients[stream]?[batch.watchID] = client
    }

    func nextChange(of client: Client) -> Change? {
      let from = max(client.start, client.position.main, 2)
      return store.changes(from, store.revision).first {
        $0.revision > client.position && client.wants($0)
      }
    }

    /// Everybody gets everything.
    mutating func settle() {
      if pending != nil { catchUp() }
      for stream in blocked.sorted() { store.hub.streamReady(id: stream) }
      blocked = []
      repeat { takeAndCheck() } while store.catchUpOnce()
      takeAndCheck()
      #expect(!store.hub.hasUnsynced)
      for (_, watchers) in clients {
        for client in watchers.values { #expect(nextChange(of: client) == nil) }
      }
      #expect(store.hub.statistics.watchers == clients.values.reduce(0) { $0 + $1.count })
      #expect(requests.values.allSatisfy { $0.isEmpty })
    }
  }

  @Test(arguments: 1...30) func everyWatcherGetsItsHistory(seed: UInt64) {
    var world = World(seed: seed)
    for _ in 0..<3 {
      for _ in 0..<250 { world.step() }
      world.settle()
    }
    #expect(world.events > 100, "the run was too quiet to prove anything")
    #expect(world.compactions > 0, "the run was too quiet to prove anything")
  }

  @Test func theSameSeedGivesTheSameOutput() {
    func log() -> [String] {
      var world = World(seed: 77)
      for _ in 0..<300 { world.step() }
      world.settle()
      return world.log
    }
    #expect(log() == log())
  }
}
