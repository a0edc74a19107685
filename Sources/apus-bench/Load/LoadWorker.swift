// One thread of the generator: its connections, and the next request for every free slot.

import Actors
import Synchronization

/// Drives a share of the connections on a loop of its own.
///
/// Everything but `completed` belongs to the loop, which the loop checks; hence the unchecked
/// conformance.
final class LoadWorker: LoadConnectionOwner, @unchecked Sendable {
  enum Phase { case connecting, ready, running, draining, done }

  private static let connectsAtOnceMax = 128
  private static let flushedLaterMax = 32
  private static let drainNanosecondsMax: UInt64 = 10_000_000_000
  private static let reconnectMilliseconds = 200

  let loop: EventLoop
  /// Calls that have ended. Any thread.
  let completed = Atomic<Int>(0)
  private let plan: LoadPlan
  private var maker: RequestMaker
  private let share: (total: Int, rate: Double)
  private var connections: [LoadConnection] = []
  private var dirty: [LoadConnection] = []
  private var phase = Phase.connecting
  private var unconnected: [LoadConnection] = []
  private var connecting = 0
  private var onConnected: ((String?) -> Void)?
  private var onDone: ((LoadResult) -> Void)?
  private var latencies: [Latencies?] = Array(repeating: nil, count: Method.allCases.count)
  private var inTime = Array(repeating: 0, count: Method.allCases.count)
  private var result = LoadResult()
  private var inFlight = 0
  private var issued = 0
  private var recordFrom: UInt64 = 0
  private var begin: UInt64 = 0
  private var end: UInt64 = 0
  private var last: UInt64 = 0
  /// Fixed rate: slots without a call, and the call that is due next.
  private var free: [(connection: Int, slot: Int)] = []
  private var nextDue = 0
  private var pacer: Pacer?
  private var drainTimer: LoopTimer?

  init(_ workload: Workload, _ plan: LoadPlan, number: Int) throws {
    self.plan = plan
    loop = try EventLoop()
    maker = RequestMaker(workload, worker: number, of: plan.workers)
    let workers = plan.workers
    let total = plan.total / workers + (number < plan.total % workers ? 1 : 0)
    share = (plan.total == 0 ? .max : total, plan.rate / Double(workers))
    let servers = plan.target.servers()
    for index in stride(from: number, to: plan.connections, by: workers) {
      connections.append(
        LoadConnection(
          server: servers[index % servers.count], index: connections.count,
          slots: plan.streams, loop: loop, owner: self,
          onDirty: { [unowned self] in noteDirty($0) }))
    }
    loop.onTurnEnd { [unowned self] in flushDirty(keeping: 0) }
  }

  /// A turn may read from all connections. Were they all flushed at its end only, thousands of
  /// clients would move in step: all send, then all wait.
  private func noteDirty(_ connection: LoadConnection) {
    dirty.append(connection)
    // The newest may be in the midst of what it has received.
    if dirty.count > Self.flushedLaterMax { flushDirty(keeping: 1) }
  }

  private func flushDirty(keeping rest: Int) {
    guard dirty.count > rest else { return }
    let due = dirty.dropLast(rest)
    dirty = Array(dirty.suffix(rest))
    for connection in due { connection.flush() }
  }

  // MARK: Connecting

  /// Opens all connections; `done` gets an error text, or nil. Loop thread only.
  func connect(_ done: @escaping (String?) -> Void) {
    loop.preconditionOnLoop()
    onConnected = done
    unconnected = connections.reversed()
    connectMore()
  }

  private func connectMore() {
    while connecting < Self.connectsAtOnceMax, let next = unconnected.popLast() {
      connecting += 1
      next.connect(timeoutMilliseconds: plan.connectTimeoutMilliseconds)
    }
    if connecting == 0, phase == .connecting { connected(nil) }
  }

  private func connected(_ problem: String?) {
    phase = .ready
    let done = onConnected
    onConnected = nil
    done?(problem)
  }

  func connectionReady(_ connection: LoadConnection) {
    guard phase == .connecting else { return fill(connection) }
    connecting -= 1
    connectMore()
  }

  func connectionLost(_ connection: LoadConnection, reason: String) {
    switch phase {
    case .connecting: connected("\(connection.server.endpoint): \(reason)")
    case .ready, .running, .draining:
      // Calls on it have been counted; without any, this is the only trace of the loss.
      if result.errors[reason] == nil { result.errors[reason] = 1 }
      if share.rate > 0 { free.removeAll { $0.connection == connection.index } }
      if phase == .running { connectAgain(connection) }
    case .done: break
    }
  }

  private func connectAgain(_ connection: LoadConnection) {
    let timer = LoopTimer(loop: loop) { [unowned self, unowned connection] in
      if phase == .running { connection.connect(timeoutMilliseconds: 2000) }
    }
    timer.schedule(afterMilliseconds: Self.reconnectMilliseconds)
  }

  // MARK: Running

  /// Starts the load; `done` gets the result after the last answer. Loop thread only.
  ///
  /// - Parameter begin: where the clock of a fixed rate begins; other loads begin at once.
  func run(from begin: UInt64, _ done: @escaping (LoadResult) -> Void) {
    loop.preconditionOnLoop()
    onDone = done
    phase = .running
    self.begin = share.rate > 0 ? begin : monotonicNanoseconds()
    recordFrom = self.begin + plan.warmUpNanoseconds
    end = recordFrom.addingReportingOverflow(plan.durationNanoseconds).partialValue
    if share.rate > 0 {
      do {
        pacer = try Pacer(loop: loop, begin: begin, tick: plan.tickNanoseconds) {
          [unowned self] in pace(now: $0)
        }
      } catch {
        result.errors["\(error)", default: 0] += 1
        return finish()
      }
    }
    for connection in connections {
      if connection.isOpen { fill(connection) } else { connectAgain(connection) }
    }
    let timer = LoopTimer(loop: loop) { [unowned self] in drain() }
    // The clock of a fixed rate begins a little later than now.
    let nanoseconds = end - min(monotonicNanoseconds(), end)
    if nanoseconds < UInt64(Int32.max) * 1_000_000 {
      timer.schedule(afterMilliseconds: Int(nanoseconds / 1_000_000) + 1)
    }
    drainTimer = timer
  }

  private func fill(_ connection: LoadConnection) {
    guard phase == .running else { return }
    let now = monotonicNanoseconds()
    for slot in connection.slots.indices {
      if share.rate > 0 {
        free.append((connection.index, slot))
      } else {
        next(connection, slot, now: now)
      }
    }
  }

  private func next(_ connection: LoadConnection, _ slot: Int, now: UInt64) {
    guard now < end, issued < share.total, connection.isOpen else { return endIfIdle() }
    send(connection, slot, due: now)
  }

  private func send(_ connection: LoadConnection, _ slot: Int, due: UInt64) {
    issued += 1
    inFlight += 1
    let method = maker.make(into: &connection.slots[slot].writer, now: due)
    connection.start(slot: slot, method: method, due: due)
  }

  /// When the call with this number is due: at the end of its tick, all of one tick at once.
  private func due(_ number: Int) -> UInt64 {
    let exact = UInt64(Double(number) / share.rate * 1e9)
    return begin + (exact / plan.tickNanoseconds + 1) * plan.tickNanoseconds
  }

  /// Sends what is due, as far as slots are free. The rest goes as soon as one is, and counts from
  /// when it was due: a slow server cannot slow the clock.
  private func pace(now: UInt64) {
    guard phase == .running || phase == .draining else { return }
    while let place = free.last, due(nextDue) <= now, hasDue {
      free.removeLast()
      send(connections[place.connection], place.slot, due: due(nextDue))
      nextDue += 1
    }
    if phase == .running, !hasDue, now >= end || issued >= share.total { drain() }
  }

  /// Fixed rate: a call is left that is due by the end.
  private var hasDue: Bool { nextDue < share.total && due(nextDue) <= end }

  func callEnded(
    _ connection: LoadConnection, slot: Int, code: Int, message: String, now: UInt64
  ) {
    inFlight -= 1
    completed.add(1, ordering: .relaxed)
    if phase == .done { return }
    if code == 0 {
      record(connection.slots[slot].method, from: connection.slots[slot].start, now)
    } else if phase == .running || code != -1 {
      result.errors[message, default: 0] += 1
    }
    if share.rate > 0 {
      if connection.isOpen { free.append((connection.index, slot)) }
      pace(now: now)
      endIfIdle()
    } else if phase == .running {
      next(connection, slot, now: now)
    } else {
      endIfIdle()
    }
  }

  private func record(_ method: Method, from start: UInt64, _ now: UInt64) {
    guard start >= recordFrom else { return }
    // Closed loop: what is answered after the end is not part of the rate.
    guard share.rate > 0 || now <= end else { return }
    last = now
    let place = method.rawValue
    if now <= end { inTime[place] += 1 }
    if latencies[place] == nil { latencies[place] = Latencies() }
    latencies[place]?.record(max(now, start) - start)
  }

  // MARK: End

  private func endIfIdle() {
    if inFlight == 0, phase == .draining || issued >= share.total { finish() }
  }

  /// Waits for the answers that are still to come. With a fixed rate, what was due by the end
  /// and had no free slot is still sent: left out, the worst times would not be counted.
  private func drain() {
    guard phase == .running else { return }
    phase = .draining
    pacer?.stop()
    drainTimer?.cancel()
    // The timer may be a millisecond early; the calls of the last tick are due all the same.
    if share.rate > 0 { pace(now: max(monotonicNanoseconds(), end)) }
    if inFlight == 0 { return finish() }
    let timer = LoopTimer(loop: loop) { [unowned self] in finish() }
    timer.schedule(afterMilliseconds: Int(Self.drainNanosecondsMax / 1_000_000))
    drainTimer = timer
  }

  private func finish() {
    guard phase == .running || phase == .draining else { return }
    phase = .done
    pacer?.stop()
    drainTimer?.cancel()
    result.unanswered += inFlight
    if share.rate > 0 {
      while hasDue {
        nextDue += 1
        result.unanswered += 1
      }
    }
    for method in Method.allCases {
      guard let times = latencies[method.rawValue] else { continue }
      result.latencies[method] = times
      result.inTime[method] = inTime[method.rawValue]
    }
    result.ended = completed.load(ordering: .relaxed)
    result.receivedBytes = connections.reduce(0) { $0 + $1.receivedBytes }
    result.elapsedNanoseconds = (plan.total > 0 ? max(last, recordFrom) : end) &- recordFrom
    let done = onDone
    onDone = nil
    done?(result)
  }

  func close() {
    loop.preconditionOnLoop()
    for connection in connections { connection.close() }
    loop.stop()
  }

  func watchReceived(
    _ connection: LoadConnection, stream: Int, _ message: UnsafeRawBufferPointer
  ) {}

  func watchEnded(_ connection: LoadConnection, stream: Int, code: Int, message: String) {}
}
