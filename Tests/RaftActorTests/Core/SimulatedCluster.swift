import Base

@testable import RaftActor

/// A cluster of Raft cores in one thread: network, disks, state machines, faults and checks, all
/// drawn from one seed.
///
/// Time is counted in units; a core ticks every `Options.unitsPerTick` of them. Each disk has a durable
/// image and a queue of writes under way; a crash keeps a random prefix of the queue. Everything that
/// must hold is checked as it happens, by ``Oracle``.
struct SimulatedCluster {
  struct Options {
    var members = 3
    var unitsPerTick = 4
    var electionTicks = 6
    var preVote = true
    /// Chances in 1,000, per message.
    var loss = 0
    var duplication = 0
    /// Units.
    var messageDelayMax = 3
    var syncDelayMax = 3
    var applyDelayMax = 2
    /// Chances in 10,000, per unit.
    var crash = 0
    var partition = 0
    var transfer = 0
    var membershipChange = 0
    var compaction = 0
    var unreachable = 0
    /// Chances in 1,000, per unit.
    var proposal = 300
    var read = 200
    /// Small values force flow control.
    var maxMessageBytes = 1 << 20
    var maxInflightMessages = 512

    /// Swarm testing: each seed draws its own mix of faults, and leaves some out.
    static func random(_ generator: inout SeededGenerator) -> Options {
      var options = Options()
      func draw(_ most: Int) -> Int {
        Bool.random(using: &generator) ? Int.random(in: 0...most, using: &generator) : 0
      }
      options.members = Int.random(in: 1...5, using: &generator)
      if options.members < 3 && Bool.random(using: &generator) { options.members = 3 }
      options.electionTicks = Int.random(in: 4...8, using: &generator)
      options.preVote = Int.random(in: 0..<4, using: &generator) > 0
      options.loss = draw(200)
      options.duplication = draw(100)
      options.messageDelayMax = 1 + draw(12)
      options.syncDelayMax = draw(12)
      options.applyDelayMax = draw(12)
      options.crash = draw(60)
      options.partition = draw(60)
      options.transfer = draw(60)
      options.membershipChange = draw(80)
      options.compaction = draw(150)
      options.unreachable = draw(100)
      options.maxMessageBytes = Bool.random(using: &generator) ? 60 : 1 << 20
      options.maxInflightMessages = Bool.random(using: &generator) ? 3 : 512
      return options
    }
  }

  /// Something that must never happen.
  struct Violation: Error, CustomStringConvertible {
    var description: String
  }

  /// What a state machine knows: how far it is, a hash of everything applied, and the members.
  struct Machine: Equatable {
    var index: LogIndex = 0
    var term: Term = 0
    var hash: UInt64 = 0
    var confState = ConfState()
  }

  /// What survives a crash.
  struct Disk {
    var hardState = HardState()
    var base = SnapshotMetadata()
    var entries: [Entry] = []
    var machine = Machine()

    var lastIndex: LogIndex { base.index + LogIndex(entries.count) }

    func term(at index: LogIndex) -> Term? {
      if index == base.index { return base.term }
      guard index > base.index, index <= lastIndex else { return nil }
      return entries[Int(index - base.index) - 1].term
    }

    mutating func write(_ new: ArraySlice<Entry>) {
      guard let first = new.first else { return }
      precondition(first.index <= lastIndex + 1 && first.index > base.index, "hole in the log file")
      entries.removeLast(Int(lastIndex + 1 - first.index))
      entries.append(contentsOf: new)
    }

    mutating func install(_ snapshot: Snapshot) {
      base = snapshot.metadata
      entries.removeAll()
      machine = Machine(
        index: base.index, term: base.term, hash: ReadQueue.decode(snapshot.data) ?? 0,
        confState: base.confState)
    }
  }

  struct Write {
    var due: Int
    var effects: RaftCore.Effects
  }

  /// A class so that a step changes it in place: a core is a large value.
  final class Node {
    let id: MemberID
    /// nil while the member is down.
    var core: RaftCore?
    var disk = Disk()
    var machine = Machine()
    var writes: [Write] = []
    var applying: [(due: Int, entry: Entry)] = []
    /// Counts restarts.
    var incarnation = 0
    var restartAt = 0
    var tickPhase = 0

    init(id: MemberID) { self.id = id }
  }

  struct Packet {
    var due: Int
    var message: Message
  }

  let seed: UInt64
  var options: Options
  var generator: SeededGenerator
  var now = 0
  var nodes: [Node] = []
  var packets: [Packet] = []
  /// Pairs (from, to) that lose everything.
  var blocked: Set<[MemberID]> = []
  var oracle = Oracle()
  var nextPayload: UInt64 = 0
  var nextRead: UInt64 = 0

  init(seed: UInt64, options: Options? = nil) {
    self.seed = seed
    generator = SeededGenerator(seed: seed)
    self.options = options ?? Options.random(&generator)
    let ids = (1...MemberID(self.options.members)).map { $0 * 10 }
    for id in ids { bootstrap(id, members: ids) }
  }

  // MARK: - Members

  /// The way etcd starts a static cluster: one committed, applied entry per member.
  private mutating func bootstrap(_ id: MemberID, members: [MemberID]) {
    let node = Node(id: id)
    for (offset, member) in members.enumerated() {
      let entry = Entry(
        term: 1, index: LogIndex(offset) + 1, kind: .configurationChange,
        data: Self.encode(ConfChange(kind: .addNode, nodeID: member)))
      node.disk.entries.append(entry)
      Self.advance(&node.disk.machine, over: entry)
      oracle.bootstrap(entry)
    }
    node.disk.machine.confState = ConfState(voters: members)
    node.disk.hardState = HardState(term: 1, vote: 0, commit: LogIndex(members.count))
    nodes.append(node)
    start(nodes.count - 1)
  }

  mutating func start(_ slot: Int) {
    let configuration = RaftCore.Configuration(
      id: nodes[slot].id, electionTicks: options.electionTicks,
      maxMessageBytes: options.maxMessageBytes, maxInflightMessages: options.maxInflightMessages,
      maxApplyBytes: 200, preVote: options.preVote)
    let disk = nodes[slot].disk
    nodes[slot].machine = disk.machine
    nodes[slot].incarnation += 1
    nodes[slot].tickPhase = Int.random(in: 0..<options.unitsPerTick, using: &generator)
    nodes[slot].core = RaftCore(
      configuration: configuration, hardState: disk.hardState, snapshot: disk.base,
      entries: disk.entries, applied: disk.machine.index, confState: disk.machine.confState,
      generator: SeededGenerator(seed: generator.next()))
  }

  /// Power cut: of the writes under way a prefix survives, the last of it perhaps in part.
  mutating func crash(_ slot: Int) {
    var survivors = Int.random(in: 0...nodes[slot].writes.count, using: &generator)
    for write in nodes[slot].writes {
      if survivors == 0 {
        if write.effects.snapshot == nil {
          let part = Int.random(in: 0...write.effects.entries.count, using: &generator)
          nodes[slot].disk.write(write.effects.entries.prefix(part))
        }
        break
      }
      survivors -= 1
      Self.store(write.effects, on: &nodes[slot].disk)
    }
    nodes[slot].core = nil
    nodes[slot].writes.removeAll()
    nodes[slot].applying.removeAll()
    nodes[slot].restartAt = now + Int.random(in: 1...200, using: &generator)
  }

  static func store(_ effects: RaftCore.Effects, on disk: inout Disk) {
    if let snapshot = effects.snapshot { disk.install(snapshot) }
    disk.write(effects.entries[...])
    if let hardState = effects.hardState { disk.hardState = hardState }
  }

  // MARK: - Effects: the contract of an owner

  /// Everything an owner of a core does after giving it inputs.
  mutating func drain(_ slot: Int) throws {
    while let effects = nodes[slot].core?.takeEffects() {
      try oracle.check(effects, of: nodes[slot])
      for message in effects.sendNow { try transmit(message, from: slot) }
      let latest = nodes[slot].writes.last?.due ?? now
      var due = now
      if effects.mustSync && options.syncDelayMax > 0 {
        due += Int.random(in: 0...options.syncDelayMax, using: &generator)
      }
      for entry in effects.committed {
        var due = now
        if options.applyDelayMax > 0 {
          due += Int.random(in: 0...options.applyDelayMax, using: &generator)
        }
        due = max(due, nodes[slot].applying.last?.due ?? 0)
        nodes[slot].applying.append((due, entry))
      }
      for member in effects.snapshotWanted { try makeSnapshot(slot, for: member) }
      nodes[slot].writes.append(Write(due: max(latest, due), effects: effects))
      try oracle.check(nodes, slot)
    }
  }

  private mutating func makeSnapshot(_ slot: Int, for member: MemberID) throws {
    if chance(100, of: 1000) {
      nodes[slot].core?.reportSnapshot(member, succeeded: false)
      return
    }
    let machine = nodes[slot].machine
    let metadata = SnapshotMetadata(
      index: machine.index, term: machine.term, confState: machine.confState)
    let snapshot = Snapshot(metadata: metadata, data: ReadQueue.encode(machine.hash))
    _ = nodes[slot].core?.snapshotReadyToSend(to: member, snapshot)
  }

  /// Finishes the writes that are due, in order.
  private mutating func finishWrites(_ slot: Int) throws {
    while let write = nodes[slot].writes.first, write.due <= now {
      nodes[slot].writes.removeFirst()
      let effects = write.effects
      Self.store(effects, on: &nodes[slot].disk)
      if effects.mustSync { nodes[slot].core?.persisted(effects.sequence) }
      if let snapshot = effects.snapshot {
        let index = snapshot.metadata.index
        nodes[slot].machine = nodes[slot].disk.machine
        nodes[slot].applying.removeAll { $0.entry.index <= index }
        nodes[slot].core?.snapshotInstalled(index)
        try oracle.check(nodes[slot].machine, of: nodes[slot].id)
      }
      for message in effects.sendAfterSync { try transmit(message, from: slot) }
      try drain(slot)
    }
  }

  private mutating func finishApplies(_ slot: Int) throws {
    while let next = nodes[slot].applying.first, next.due <= now {
      nodes[slot].applying.removeFirst()
      let entry = next.entry
      Self.advance(&nodes[slot].machine, over: entry)
      if entry.kind == .configurationChange,
        let state = nodes[slot].core?.applyConfChange(Self.decode(entry.data))
      {
        nodes[slot].machine.confState = state
      }
      nodes[slot].core?.applied(through: entry.index)
      try oracle.check(nodes[slot].machine, of: nodes[slot].id)
      if chance(300, of: 1000) { nodes[slot].disk.machine = nodes[slot].machine }
      try drain(slot)
    }
  }

  static func advance(_ machine: inout Machine, over entry: Entry) {
    precondition(entry.index == machine.index + 1, "applied out of order")
    machine.index = entry.index
    machine.term = entry.term
    machine.hash = Oracle.mix(machine.hash, entry)
  }

  static func encode(_ change: ConfChange) -> Bytes {
    [UInt8(change.kind.rawValue), UInt8(change.nodeID)]
  }

  static func decode(_ data: Bytes) -> ConfChange {
    ConfChange(
      kind: ConfChange.Kind(rawValue: UInt64(data[0])) ?? .updateNode, nodeID: MemberID(data[1]))
  }

  // MARK: - Network

  private mutating func transmit(_ message: Message, from slot: Int) throws {
    try oracle.check(message, from: nodes[slot])
    let pair = [nodes[slot].id, message.to]
    let isLost = blocked.contains(pair) || chance(options.loss, of: 1000)
    if message.kind == .snapshot {
      nodes[slot].core?.reportSnapshot(message.to, succeeded: !isLost)
    } else if isLost && options.unreachable > 0 && chance(300, of: 1000) {
      nodes[slot].core?.reportUnreachable(message.to)
    }
    guard !isLost else { return }
    let copies = chance(options.duplication, of: 1000) ? 2 : 1
    for _ in 0..<copies {
      let delay = Int.random(in: 1...options.messageDelayMax, using: &generator)
      packets.append(Packet(due: now + delay, message: message))
    }
  }

  private mutating func deliver() throws {
    guard packets.contains(where: { $0.due <= now }) else { return }
    let due = packets.filter { $0.due <= now }
    packets.removeAll { $0.due <= now }
    var undrained: Set<Int> = []
    for packet in due {
      guard let slot = nodes.firstIndex(where: { $0.id == packet.message.to }),
        nodes[slot].core != nil
      else { continue }
      nodes[slot].core?.step(packet.message)
      // Now and then several messages share one batch.
      if chance(700, of: 1000) {
        try drain(slot)
        undrained.remove(slot)
      } else {
        undrained.insert(slot)
      }
    }
    for slot in undrained.sorted() { try drain(slot) }
  }

  // MARK: - Time

  mutating func chance(_ part: Int, of whole: Int) -> Bool {
    part > 0 && Int.random(in: 0..<whole, using: &generator) < part
  }

  /// One unit of time: deliveries, finished writes and applies, ticks.
  mutating func step() throws {
    now += 1
    try deliver()
    for slot in nodes.indices where nodes[slot].core != nil {
      try finishWrites(slot)
      try finishApplies(slot)
      if now % options.unitsPerTick == nodes[slot].tickPhase {
        nodes[slot].core?.tick()
        try drain(slot)
      }
    }
  }

  /// Runs `units` of time with faults and load.
  mutating func runWithFaults(units: Int) throws {
    for _ in 0..<units {
      try injectLoad()
      injectFaults()
      try step()
    }
  }

  private mutating func injectLoad() throws {
    let slot = Int.random(in: nodes.indices, using: &generator)
    guard nodes[slot].core != nil else { return }
    if chance(options.proposal, of: 1000) {
      let count = Int.random(in: 1...4, using: &generator)
      let payloads = (0..<count).map { _ in makePayload() }
      _ = nodes[slot].core?.propose(payloads)
    }
    if chance(options.read, of: 1000) { read(slot) }
    if chance(options.transfer, of: 10_000) {
      let target = nodes[Int.random(in: nodes.indices, using: &generator)].id
      nodes[slot].core?.transferLeader(to: target)
    }
    if chance(options.membershipChange, of: 10_000) { changeMembership(slot) }
    if chance(options.compaction, of: 10_000) { compact(slot) }
    try drain(slot)
  }

  mutating func makePayload() -> Bytes {
    nextPayload += 1
    return ReadQueue.encode(nextPayload)
  }

  mutating func read(_ slot: Int) {
    nextRead += 1
    oracle.readStarted(nextRead)
    nodes[slot].core?.readIndex(context: ReadQueue.encode(nextRead))
  }

  private mutating func compact(_ slot: Int) {
    let machine = nodes[slot].machine
    guard machine.index > 3 else { return }
    let through = machine.index - 3
    nodes[slot].core?.compact(through: through)
    // The log file may lose only what the durable state machine contains.
    let disk = nodes[slot].disk
    let base = min(through, disk.machine.index)
    if base > disk.base.index, let term = disk.term(at: base) {
      nodes[slot].disk.entries.removeFirst(Int(base - disk.base.index))
      nodes[slot].disk.base = SnapshotMetadata(
        index: base, term: term, confState: disk.machine.confState)
    }
  }

  private mutating func changeMembership(_ slot: Int) {
    let state = nodes[slot].machine.confState
    let change: ConfChange
    if nodes.count < options.members + 2 && Bool.random(using: &generator) {
      let id = MemberID(nodes.count + 1) * 10
      nodes.append(Node(id: id))
      start(nodes.count - 1)
      change = ConfChange(
        kind: Bool.random(using: &generator) ? .addLearnerNode : .addNode, nodeID: id)
    } else if let learner = state.learners.first, Bool.random(using: &generator) {
      change = ConfChange(kind: .addNode, nodeID: learner)
    } else if state.voters.count > 2 {
      change = ConfChange(
        kind: .removeNode, nodeID: state.voters[Int(generator.next() % UInt64(state.voters.count))])
    } else {
      change = ConfChange(kind: .updateNode, nodeID: 0)
    }
    _ = nodes[slot].core?.proposeConfChange(Self.encode(change))
  }

  private mutating func injectFaults() {
    for slot in nodes.indices {
      if nodes[slot].core == nil {
        if nodes[slot].restartAt <= now { start(slot) }
      } else if chance(options.crash, of: 10_000) {
        crash(slot)
      }
    }
    guard chance(options.partition, of: 10_000) else { return }
    blocked.removeAll()
    guard Bool.random(using: &generator) else { return }
    let isOneWay = Bool.random(using: &generator)
    let side = nodes.map { _ in Bool.random(using: &generator) }
    for from in nodes.indices {
      for to in nodes.indices where side[from] != side[to] && !(isOneWay && side[from]) {
        blocked.insert([nodes[from].id, nodes[to].id])
      }
    }
  }

  // MARK: - Healing

  /// Ends all faults and requires the cluster to agree, to accept a write and to serve a read.
  mutating func heal() throws {
    options.loss = 0
    options.duplication = 0
    options.messageDelayMax = 2
    options.syncDelayMax = 1
    options.applyDelayMax = 1
    blocked.removeAll()
    for slot in nodes.indices where nodes[slot].core == nil { start(slot) }
    let ticks = options.unitsPerTick * options.electionTicks
    for _ in 0..<60 {
      for _ in 0..<ticks { try step() }
      guard let leader = currentLeader else { continue }
      let payload = makePayload()
      _ = nodes[leader].core?.propose([payload])
      let wanted = nodes[leader].core?.log.lastIndex ?? 0
      read(leader)
      let readID = nextRead
      try drain(leader)
      for _ in 0..<ticks { try step() }
      if isConverged(through: wanted) && oracle.isReadDone(readID) { return }
    }
    throw Violation(description: "no convergence after healing: \(describe())")
  }

  /// The leader of the highest term, if its members agree on it.
  var currentLeader: Int? {
    nodes.indices.filter { nodes[$0].core?.role == .leader }
      .max { (nodes[$0].core?.term ?? 0) < (nodes[$1].core?.term ?? 0) }
  }

  private func isConverged(through index: LogIndex) -> Bool {
    guard let leader = currentLeader, let core = nodes[leader].core else { return false }
    for member in core.members {
      guard let node = nodes.first(where: { $0.id == member.id }), let other = node.core,
        other.leader == core.id, other.term == core.term, node.machine.index >= index,
        node.machine == nodes[leader].machine, other.confState == core.confState
      else { return false }
    }
    return true
  }

  func describe() -> String {
    nodes.map { node in
      guard let core = node.core else { return "\(node.id) down" }
      let peers = core.role == .leader ? "\(core.status.peers)" : ""
      return "\(node.id) \(core.role) term \(core.term) leader \(core.leader) commit \(core.commit)"
        + " last \(core.log.lastIndex) applied \(core.applied) \(core.confState) \(peers)"
    }.joined(separator: "\n")
  }
}
