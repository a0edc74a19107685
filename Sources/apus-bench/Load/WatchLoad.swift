// Watchers on many streams, and the events that reach them.

import Actors
import Synchronization

/// How watchers are spread and what they watch.
struct WatchPlan: Sendable {
  var target: LoadTarget
  var watchers: Int
  var connections: Int
  /// Per connection.
  var streams: Int
  var keys: KeyShape
  var keySpace: Int
  /// Watcher number i watches key i instead of all keys.
  var isOneKeyEach: Bool
}

struct WatchResult: Sendable {
  var created = 0
  var events = 0
  /// Of these, events that came before the end of the puts.
  var inTime = 0
  var latencies = Latencies()
  var problems: [String: Int] = [:]
}

/// Opens watchers and counts what they get. Loop thread only, as the loop checks; hence the
/// unchecked conformance.
final class WatchLoad: LoadConnectionOwner, @unchecked Sendable {
  let loop: EventLoop
  /// Events delivered so far. Any thread.
  let delivered = Atomic<Int>(0)
  private let plan: WatchPlan
  private var connections: [LoadConnection] = []
  private var dirty: [LoadConnection] = []
  private var result = WatchResult()
  private var onCreated: ((String?) -> Void)?
  private var isEnding = false
  /// Events of puts that were sent before this are not counted.
  private var from: UInt64 = .max
  private var end: UInt64 = .max

  init(_ plan: WatchPlan) throws {
    self.plan = plan
    loop = try EventLoop()
    let servers = plan.target.servers()
    for index in 0..<plan.connections {
      connections.append(
        LoadConnection(
          server: servers[index % servers.count], index: index, slots: 0, loop: loop, owner: self,
          onDirty: { [unowned self] in dirty.append($0) }))
    }
    loop.onTurnEnd { [unowned self] in
      let due = dirty
      dirty.removeAll(keepingCapacity: true)
      for connection in due { connection.flush() }
    }
  }

  /// Connects and creates all watchers; `done` gets an error text, or nil. Loop thread only.
  func open(_ done: @escaping (String?) -> Void) {
    loop.preconditionOnLoop()
    onCreated = done
    for connection in connections { connection.connect(timeoutMilliseconds: 10_000) }
  }

  /// Counts events of puts from the first time on; those that come by the second are in time.
  func begin(from: UInt64, end: UInt64) {
    loop.preconditionOnLoop()
    self.from = from
    self.end = end
  }

  func finish() -> WatchResult {
    loop.preconditionOnLoop()
    isEnding = true
    for connection in connections { connection.close() }
    return result
  }

  func connectionReady(_ connection: LoadConnection) {
    let streams = plan.connections * plan.streams
    for stream in 0..<plan.streams {
      var writer = MessageWriter()
      let first = connection.index * plan.streams + stream
      for watcher in stride(from: first, to: plan.watchers, by: streams) {
        create(watcher, into: &writer)
      }
      if !writer.bytes.isEmpty { connection.openWatch(body: writer.bytes) }
    }
  }

  private func create(_ watcher: Int, into writer: inout MessageWriter) {
    var request = MessageWriter()
    if plan.isOneKeyEach {
      request.prefix(1, plan.keys.count)
      request.key(plan.keys, watcher % plan.keySpace)
    } else {
      request.prefix(1, plan.keys.prefix.count)
      request.raw(plan.keys.prefix)
      request.prefix(2, plan.keys.prefixEnd.count)
      request.raw(plan.keys.prefixEnd)
    }
    writer.beginFrame()
    writer.prefix(1, request.bytes.count)
    writer.raw(request.bytes)
    writer.endFrame()
  }

  func connectionLost(_ connection: LoadConnection, reason: String) {
    fail(reason)
  }

  private func fail(_ reason: String) {
    if isEnding { return }
    result.problems[reason, default: 0] += 1
    let done = onCreated
    onCreated = nil
    done?(reason)
  }

  func watchReceived(
    _ connection: LoadConnection, stream: Int, _ message: UnsafeRawBufferPointer
  ) {
    do {
      let batch = try WatchBatch(message)
      if batch.canceled { fail("a watcher was canceled") }
      if batch.created {
        result.created += 1
        if result.created == plan.watchers {
          let done = onCreated
          onCreated = nil
          done?(nil)
        }
      }
      guard batch.events > 0, batch.stamp >= from else { return }
      result.events += batch.events
      if connection.now <= end { result.inTime += batch.events }
      delivered.add(batch.events, ordering: .relaxed)
      result.latencies.record(connection.now &- batch.stamp, count: batch.events)
    } catch {
      fail("a watch response that is no protobuf: \(error)")
    }
  }

  func watchEnded(_ connection: LoadConnection, stream: Int, code: Int, message: String) {
    fail("a watch stream ended: \(code) \(message)")
  }

  func callEnded(
    _ connection: LoadConnection, slot: Int, code: Int, message: String, now: UInt64
  ) {}
}
