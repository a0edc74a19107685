import Base
import RaftActor

/// Events that both layers have.
protocol WorldEvent {
  static var faults: Self { get }
  static func client(_ number: Int) -> Self
  static func watcher(_ number: Int) -> Self
}

/// What the two layers share: a queue of events in simulated time, chance from one seed, clients that
/// ask one thing at a time.
protocol SimulatedWorld: AnyObject {
  associatedtype Event: WorldEvent
  associatedtype Member

  var options: SimulationOptions { get }
  var random: SeededGenerator { get set }
  /// Nanoseconds since the start.
  var now: UInt64 { get set }
  var trace: Trace { get set }
  var queue: EventQueue<Event> { get set }
  var nodes: [Member] { get }
  var clients: [Client] { get set }
  var watchers: [Watcher] { get set }

  func bootstrap() throws(Violation)
  func handle(_ event: Event) throws(Violation)
  func makeWatcher(_ number: Int) -> Watcher
  /// Ends the faults; the cluster must agree and serve again.
  func heal() throws(Violation)
}

extension SimulatedWorld {
  /// Nanoseconds.
  var electionTimeout: UInt64 { options.electionTimeout }

  // MARK: - Running

  /// Faults and load, then healing.
  func simulate() throws(Violation) {
    do {
      try bootstrap()
      queue.add(.faults, at: 20 * World.millisecond)
      try run(until: UInt64(options.seconds) * World.second)
      try heal()
    } catch {
      trace.note(now, "VIOLATION \(error)")
      throw error
    }
  }

  func run(until end: UInt64) throws(Violation) {
    while now < end, let (due, event) = queue.next() {
      now = max(now, due)
      try handle(event)
    }
  }

  func slot(of id: MemberID) -> Int? {
    let slot = Int(id / 10) - 1
    return slot >= 0 && slot < nodes.count ? slot : nil
  }

  // MARK: - The start

  /// The members of a static cluster and their first entries: one committed entry per member.
  func firstMembers() -> (ids: [MemberID], entries: [Entry]) {
    let ids = (1...options.members).map { MemberID($0) * 10 }
    let entries = ids.enumerated().map { position, id in
      Entry(
        term: 1, index: LogIndex(position + 1), kind: .configurationChange,
        data: ConfChange(kind: .addNode, nodeID: id, context: World.context(id)).encoded())
    }
    return (ids, entries)
  }

  func addClientsAndWatchers() {
    for client in 0..<options.clients {
      clients.append(Client(number: client))
      queue.add(.client(client), at: UInt64(draw(1...200)) * World.millisecond)
    }
    for watcher in 0..<options.watchers {
      watchers.append(makeWatcher(watcher))
      queue.add(.watcher(watcher), at: UInt64(draw(1...2000)) * World.millisecond)
    }
  }

  // MARK: - Clients

  func waits(_ client: Int, _ operation: UInt64) -> Bool {
    clients[client].operation == operation && clients[client].isWaiting
  }

  /// The client has its answer, or has given up.
  func finish(_ number: Int, _ operation: UInt64, after milliseconds: UInt64 = 0) {
    guard waits(number, operation) else { return }
    clients[number].isWaiting = false
    queue.add(
      .client(number),
      at: now + milliseconds * World.millisecond + 1_000 + delay(options.thinkTime))
  }

  // MARK: - Chance

  func chance(_ part: Int, of whole: Int) -> Bool {
    part > 0 && Int.random(in: 0..<whole, using: &random) < part
  }

  func draw(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }

  /// Nanoseconds, most often well below `microseconds`.
  func delay(_ microseconds: Int) -> UInt64 {
    guard microseconds > 0 else { return 0 }
    let most = draw(0...3) == 0 ? microseconds : max(1, microseconds / 4)
    return UInt64(draw(0...most)) * 1000
  }
}
