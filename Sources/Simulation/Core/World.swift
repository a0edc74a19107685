import Base
import EtcdAPI
import RaftActor
import StoreActor

/// A cluster of Raft cores with their state machines in one thread: network, disks, clocks, clients and
/// faults, all drawn from one seed.
///
/// Code under test: `RaftCore`, `StateMachine` and all below it, `Lessor`, `WatchHub`. What the actors
/// around them do is modelled here, after their contracts; the actors themselves run in the second
/// layer. Time is nanoseconds since the start.
public final class World: SimulatedWorld {
  enum Event: WorldEvent {
    case tick(Int, incarnation: Int)
    case deliver(Packet)
    case drain(Int, incarnation: Int)
    case flushed(Int, incarnation: Int)
    case store(Int, incarnation: Int)
    case storeCommitted(Int, incarnation: Int)
    case snapshotMade(Int, incarnation: Int, member: MemberID, image: Int?)
    case compact(Int, incarnation: Int)
    case catchUp(Int, incarnation: Int)
    case restart(Int)
    case remove(Int, incarnation: Int)
    case client(Int)
    case timeout(Int, operation: UInt64)
    case read(Int, incarnation: Int, client: Int, operation: UInt64, committed: LogIndex)
    case keepAlive(Int, client: Int, operation: UInt64, lease: LeaseID)
    case watcher(Int)
    case faults
  }

  final class Packet {
    let message: Message
    init(_ message: Message) { self.message = message }
  }

  public let seed: UInt64
  public internal(set) var options: SimulationOptions
  let plant: Plant?
  var random: SeededGenerator
  public internal(set) var now: UInt64 = 0
  /// Inputs given to cores and stores so far.
  public internal(set) var steps = 0
  public internal(set) var trace: Trace
  var queue = EventQueue<Event>()
  var nodes: [Node] = []
  /// [from][to]: everything is lost.
  var blocked: [[Bool]] = []
  /// When the last message of a link arrives, for links that keep the order.
  var linkBusyUntil: [[UInt64]] = []
  var oracle: Oracle
  var clients: [Client] = []
  var watchers: [Watcher] = []
  /// Snapshots on their way.
  var images: [StoreImage] = []
  /// Keepalives that wait for a proof of leadership, by operation and client.
  var keepAlivesToProve: [UInt64: LeaseID] = [:]
  var isHealing = false
  /// Clients make no requests.
  var isQuiet = false
  /// The hook of a planted fault.
  var planted = PlantState()

  static let cluster: ClusterID = 0xa905
  static let membersMax = 8
  static let millisecond: UInt64 = 1_000_000
  static let second: UInt64 = 1_000_000_000

  public var counts: RunCounts {
    var counts = oracle.counts
    counts.steps = steps
    return counts
  }

  public init(
    seed: UInt64, options: SimulationOptions? = nil, plant: Plant? = nil, storyLines: Int = 0
  ) {
    self.seed = seed
    self.plant = plant
    trace = Trace(linesMax: storyLines)
    // Options have a generator of their own, so that leaving a fault out keeps the others.
    var generator = SeededGenerator(seed: seed ^ 0x5157_41d5)
    let drawn = options ?? SimulationOptions.random(&generator)
    self.options = drawn
    random = SeededGenerator(seed: seed)
    oracle = Oracle(
      keys: drawn.keys, ttlMin: Lessor.ttlMin(electionTimeout: drawn.electionTimeout))
  }

  // MARK: - Running

  /// Faults and load, then healing: the cluster must agree and serve again.
  public func run() throws(Violation) { try simulate() }

  func handle(_ event: Event) throws(Violation) {
    switch event {
    case .tick(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      try tick(node)
    case .deliver(let packet):
      guard let slot = slot(of: packet.message.to) else { return }
      guard nodes[slot].isRunning, live(slot, nodes[slot].incarnation, event) != nil else { return }
      try deliver(packet.message, to: nodes[slot])
    case .drain(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      try drain(node)
    case .flushed(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      try flushed(node)
    case .store(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      node.storeIsDue = false
      try workStore(node)
    case .storeCommitted(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      try storeCommitted(node)
    case .snapshotMade(let slot, let incarnation, let member, let image):
      guard let node = live(slot, incarnation, event) else { return }
      try snapshotMade(node, for: member, image: image)
    case .compact(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      compactSlice(node)
    case .catchUp(let slot, let incarnation):
      guard let node = live(slot, incarnation, event) else { return }
      try catchUpWatchers(node)
    case .restart(let slot): try restart(nodes[slot])
    case .remove(let slot, let incarnation):
      guard nodes[slot].incarnation == incarnation, nodes[slot].isRunning else { return }
      trace.note(now, "\(nodes[slot].id) stops: it was removed")
      nodes[slot].isRemoved = true
      stop(nodes[slot])
    case .client(let client): try act(client)
    case .timeout(let client, let operation): finish(client, operation)
    case .keepAlive(let slot, let client, let operation, let lease):
      guard nodes[slot].isRunning, live(slot, nodes[slot].incarnation, event) != nil else { return }
      try keepAlive(lease, on: nodes[slot], client, operation)
    case .read(let slot, let incarnation, let client, let operation, let committed):
      guard let node = live(slot, incarnation, event), waits(client, operation) else { return }
      try read(on: node, client, operation, committed: committed)
    case .watcher(let watcher): try act(watcher: watcher)
    case .faults: try injectFaults()
    }
  }

  /// The member an event is for, if its process still lives. A paused one gets it later.
  private func live(_ slot: Int, _ incarnation: Int, _ event: Event) -> Node? {
    let node = nodes[slot]
    guard node.isRunning, node.incarnation == incarnation else { return nil }
    if node.pausedUntil > now {
      // Afterwards clock and clients come first or last, as it happens; messages stay in order.
      var due = node.pausedUntil
      switch event {
      case .deliver: due += 500_000
      case .read, .keepAlive: due += UInt64(draw(0...1000)) * 1000
      default: break
      }
      queue.add(event, at: due)
      return nil
    }
    steps += 1
    trace.mix(now ^ UInt64(slot) << 56)
    return node
  }

}
