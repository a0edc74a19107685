import Actors
import Base
import EtcdAPI
import FoundationEssentials
import Glibc
import RaftActor
import StoreActor

/// The second layer: the real actors of members (`RaftNode`, `LogWriter` with the real log, `KVStore`,
/// `BackendWriter` with the real store file) on one replayable executor each.
///
/// The network, the log's disk, the clocks and the gateway are simulated. The store's file is a real one
/// in a folder of its own: LMDB's own crash safety is not under test.
public final class MemberWorld: SimulatedWorld {
  enum Event: WorldEvent {
    case turn(Int, executor: Int, incarnation: Int)
    case tick(Int, incarnation: Int)
    case deliver(MemberPacket)
    case persisted(Int, incarnation: Int, sequence: UInt64)
    case pauseEnded(Int, incarnation: Int, StorePause)
    case announce(Int, incarnation: Int)
    case restart(Int)
    case remove(Int, incarnation: Int)
    case client(Int)
    case timeout(Int, operation: UInt64)
    case watcher(Int)
    case faults
  }

  final class MemberPacket {
    let message: Message
    /// A copy of the file beside a snapshot message, on its way.
    let file: String?

    init(_ message: Message, file: String? = nil) {
      self.message = message
      self.file = file
    }
  }

  public let seed: UInt64
  public internal(set) var options: SimulationOptions
  var random: SeededGenerator
  public internal(set) var now: UInt64 = 0
  public internal(set) var steps = 0
  public internal(set) var trace: Trace
  var queue = EventQueue<Event>()
  var nodes: [MemberNode] = []
  var blocked: [[Bool]] = []
  var oracle: Oracle
  var clients: [Client] = []
  var watchers: [Watcher] = []
  var isHealing = false
  var isQuiet = false
  let root: String
  var filesMade = 0
  /// Files of snapshots that were made and not sent yet, by sender, receiver and index.
  var snapshotFiles: [SnapshotFileKey: String] = [:]

  struct SnapshotFileKey: Hashable {
    let from: MemberID
    let to: MemberID
    let index: LogIndex
  }

  public var counts: RunCounts {
    var counts = oracle.counts
    counts.steps = steps
    return counts
  }

  public init(seed: UInt64, options: SimulationOptions, storyLines: Int = 0) {
    self.seed = seed
    self.options = options
    trace = Trace(linesMax: storyLines)
    random = SeededGenerator(seed: seed)
    oracle = Oracle(
      keys: options.keys, ttlMin: Lessor.ttlMin(electionTimeout: options.electionTimeout))
    let base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"
    root = "\(base)/apus-simulation-\(getpid())-\(seed)"
  }

  public func run() throws(Violation) {
    mkdir(root, 0o700)
    defer {
      for node in nodes { node.stop() }
      for name in Self.list(root) {
        let path = "\(root)/\(name)"
        unlink(path)
        Self.removeFolder(path)
      }
      rmdir(root)
    }
    try simulate()
  }

  func handle(_ event: Event) throws(Violation) {
    switch event {
    case .turn(let slot, let executor, let incarnation):
      guard let node = live(slot, incarnation, event), let actors = node.actors else { return }
      node.isScheduled[executor] = false
      node.clock.set(now)
      actors.executors[executor].runTurn()
      try finishTurn(node)
    case .tick(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      queue.add(.tick(slot, incarnation: incarnation), at: now + UInt64(options.tick) * 1000)
      node.actors?.raft.inbox.send(.tick)
      node.actors?.store.inbox.send(.tick)
      collect(node)
    case .deliver(let packet): try deliver(packet, event)
    case .persisted(let slot, let incarnation, let sequence):
      guard let node = live(slot, incarnation, event) else { return }
      node.actors?.raft.inbox.send(.persisted(sequence))
      collect(node)
    case .pauseEnded(let slot, let incarnation, let kind):
      guard let node = live(slot, incarnation, event) else { return }
      node.actors?.store.inbox.send(.pauseEnded(kind))
      collect(node)
    case .announce(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      node.actors?.raft.inbox.send(.announceCommit)
      collect(node)
    case .restart(let slot):
      guard nodes[slot].actors == nil, !nodes[slot].isRemoved else { return }
      try start(nodes[slot])
    case .remove(let slot, let incarnation):
      let node = nodes[slot]
      guard node.incarnation == incarnation, node.actors != nil else { return }
      trace.note(now, "\(node.id) stops: it was removed")
      node.isRemoved = true
      node.stop()
      for index in watchers.indices where watchers[index].node == slot {
        watchers[index].node = nil
      }
    case .client(let client): try act(client)
    case .timeout(let client, let operation): finish(client, operation)
    case .watcher(let watcher): act(watcher: watcher)
    case .faults: injectFaults()
    }
  }

  func live(_ slot: Int, _ incarnation: Int, _ event: Event) -> MemberNode? {
    let node = nodes[slot]
    guard node.actors != nil, node.incarnation == incarnation else { return nil }
    if node.pausedUntil > now {
      queue.add(event, at: node.pausedUntil)
      return nil
    }
    steps += 1
    trace.mix(now ^ UInt64(slot) << 56)
    return node
  }

  /// Gives executors with work a turn to come.
  func collect(_ node: MemberNode) {
    guard let actors = node.actors else { return }
    let delays = [
      20, max(20, options.syncDelay / 8), 20 + options.applyDelay, 50 + options.storeCommitDelay,
      100 + options.storeCommitDelay,
    ]
    for (position, executor) in actors.executors.enumerated()
    where executor.hasWork && !node.isScheduled[position] {
      node.isScheduled[position] = true
      queue.add(
        .turn(node.slot, executor: position, incarnation: node.incarnation),
        at: now + 1_000 + delay(delays[position]))
    }
  }

  /// Sees to what the turn has put out.
  private func finishTurn(_ node: MemberNode) throws(Violation) {
    var failure: String?
    for output in node.outbox.take() {
      if case .logFailed(let reason) = output {
        failure = failure ?? reason
        continue
      }
      // What an ended process would not have done any more is not done.
      if failure == nil { try handle(output, of: node) }
    }
    if let failure {
      crash(node, power: node.losesPower, "ends: \(failure)")
      return
    }
    if let status = node.actors?.store.status {
      try require(
        Int(status.applied) < oracle.revisions.count
          && status.revision == oracle.revisions[Int(status.applied)], .revision,
        "\(node.id) is at revision \(status.revision) after entry \(status.applied)")
      try require(
        status.applied >= node.lastApplied, .pointerOrder,
        "\(node.id) went from entry \(node.lastApplied) to \(status.applied)")
      node.lastApplied = status.applied
      trace.mix(status.applied << 32 ^ UInt64(bitPattern: status.revision))
    }
    collect(node)
  }

  private func handle(_ output: MemberOutput, of node: MemberNode) throws(Violation) {
    switch output {
    case .send(let messages): for message in messages { try send(message, from: node) }
    case .committed(let entries):
      for entry in entries {
        try oracle.commit(entry, at: node.id, now: now, drift: options.drift)
      }
    case .reads(let states):
      for state in states {
        let id = state.context.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard let read = node.reads.removeValue(forKey: id) else { continue }
        if let needed = oracle.reads.removeValue(forKey: id) {
          try require(
            state.index >= needed, .linearizableRead,
            "\(node.id) confirmed a read at \(state.index), committed was \(needed)")
        }
        node.actors?.store.inbox.send(.read([read], atLeast: state.index))
      }
    case .soft(let soft):
      try became(soft, node)
    case .dropped(let ids):
      for id in ids {
        if let waiter = node.waiters.removeValue(forKey: id) {
          finish(waiter.client, waiter.operation, after: 50)
        }
      }
    case .persisted(let sequence):
      queue.add(
        .persisted(node.slot, incarnation: node.incarnation, sequence: sequence),
        at: now + delay(options.syncDelay))
    case .logFailed: break
    case .replies(let replies): for reply in replies { try answer(reply, on: node) }
    case .watch(let deliveries): try takeWatch(deliveries, node)
    case .snapshotMade(let member, let snapshot, let path):
      guard let snapshot else { break }
      let key = SnapshotFileKey(from: node.id, to: member, index: snapshot.metadata.index)
      snapshotFiles[key] = path
    case .pause(let kind):
      queue.add(
        .pauseEnded(node.slot, incarnation: node.incarnation, kind),
        at: now + 10 * World.millisecond)
    case .announceLater:
      queue.add(
        .announce(node.slot, incarnation: node.incarnation), at: now + World.millisecond)
    case .membership(let membership):
      if membership.confState != node.membership.confState { oracle.counts.membershipChanges += 1 }
      node.membership = membership
      if membership.removed.contains(node.id) {
        queue.add(
          .remove(node.slot, incarnation: node.incarnation), at: now + World.second)
      }
    }
  }

  private func became(_ soft: RaftCore.SoftState, _ node: MemberNode) throws(Violation) {
    trace.note(now, "\(node.id) \(soft.role), leader \(soft.leader), term \(soft.term)")
    node.soft = soft
    guard soft.role == .leader else { return }
    if let known = oracle.leaders[soft.term] {
      try require(
        known == (node.id, node.incarnation), .electionSafety,
        "\(known.member) and \(node.id) lead term \(soft.term)")
      return
    }
    oracle.leaders[soft.term] = (node.id, node.incarnation)
    oracle.counts.elections += 1
  }

}
