import Base
import Glibc
import StoreActor
import Testing

/// Measures, and fails only where a bound is missed by far. Meaningful in release builds.
@Suite(.serialized) struct WatchCostTests {
  /// Writes per measurement: few where the code is not optimised.
  private var revisions: Int64 {
    #if DEBUG
      200
    #else
      5000
    #endif
  }

  private func nanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  private func change(_ key: String, _ revision: Int64) -> Change {
    let value = Bytes(repeating: 7, count: 256)
    var writer = ProtobufWriter()
    writer.field(1, key.utf8)
    writer.field(3, signed: revision)
    writer.field(5, value)
    return Change(
      kind: .put, key: Bytes(key.utf8), revision: Revision(main: revision),
      keyValue: writer.bytes)
  }

  /// CPU time per revision of `revisions` writes to keys chosen by `key`.
  private func measure(
    _ hub: inout WatchHub, revisions: Int64, takeEvery: Int64, key: (Int64) -> String
  ) -> Double {
    let first = hub.currentRevision + 1
    let changes = (first..<first + revisions).map { change(key($0), $0) }
    let start = nanoseconds()
    for change in changes {
      hub.notify([change], revision: change.revision.main) { _ in nil }
      if change.revision.main % takeEvery == 0 { _ = hub.takeOutput() }
    }
    return Double(nanoseconds() - start) / Double(revisions)
  }

  @Test(arguments: [1, 16] as [Int64]) func fanOutTo200WatchersOfAPrefix(takeEvery: Int64) {
    var hub = WatchHub(currentRevision: 1, compactRevision: 0)
    for stream: UInt64 in 0..<20 {
      hub.openStream(id: stream)
      for _ in 0..<10 { hub.create(stream: stream, request: .init("/p/", to: "/p0")) }
    }
    _ = hub.takeOutput()
    let cost = measure(&hub, revisions: revisions, takeEvery: takeEvery) { "/p/\($0)" }
    let perEvent = Int(cost / 200)
    print("fan-out, output taken every \(takeEvery) revisions: \(perEvent) ns per delivered event")
    #expect(hub.statistics.eventsDelivered == UInt64(revisions) * 200)
    #expect(perEvent < 20_000)
  }

  @Test func matchAmong10000SingleKeys() {
    var hub = WatchHub(currentRevision: 1, compactRevision: 0)
    for stream: UInt64 in 0..<100 {
      hub.openStream(id: stream)
      for number in 0..<100 {
        hub.create(stream: stream, request: .init("/k/\(Int(stream) * 100 + number)"))
      }
    }
    _ = hub.takeOutput()
    let hit = measure(&hub, revisions: revisions, takeEvery: 8) { "/k/\($0 * 7 % 10_000)" }
    let miss = measure(&hub, revisions: revisions, takeEvery: 8) { "/none/\($0)" }
    print("10,000 single keys: hit \(Int(hit)) ns, miss \(Int(miss)) ns per revision")
    #expect(hub.statistics.eventsDelivered == UInt64(revisions))
    #expect(hit < 100_000)
  }

  @Test func matchAmong20000Ranges() {
    var hub = WatchHub(currentRevision: 1, compactRevision: 0)
    hub.openStream(id: 1)
    for number in 0..<20_000 {
      let prefix = "/r/\(100_000 + number)"
      hub.create(stream: 1, request: .init(prefix + "/", to: prefix + "0"))
    }
    _ = hub.takeOutput()
    let cost = measure(&hub, revisions: revisions, takeEvery: 8) {
      "/r/\(100_000 + $0 * 7 % 20_000)/x"
    }
    print("20,000 ranges: \(Int(cost)) ns per revision")
    #expect(hub.statistics.eventsDelivered == UInt64(revisions))
    #expect(cost < 200_000)
  }

  @Test func encodingForManyReceivers() {
    var hub = WatchHub(currentRevision: 1, compactRevision: 0)
    hub.openStream(id: 1)
    for _ in 0..<100 { hub.create(stream: 1, request: .init("k")) }
    _ = hub.takeOutput()
    hub.notify([change("k", 2)], revision: 2) { _ in nil }
    let outputs = hub.takeOutput().flatMap(\.outputs)
    var encoder = WatchResponseEncoder(cluster: 1 << 60, member: 1 << 61)
    var total = 0
    let start = nanoseconds()
    for _ in 0..<100 {
      var messages = FramedMessages()
      for output in outputs { encoder.frame(output, term: 5, into: &messages) }
      total += messages.messageBytes
    }
    let cost = (nanoseconds() - start) / 10_000
    print("encoding: \(cost) ns per response of \(total / 10_000) bytes")
    #expect(total > 10_000 * 256)
  }
}
