import Base
import EtcdAPI
import RaftActor
import StoreActor

// What must hold of applied state, answers, watches and leases.

extension Oracle {
  // MARK: - Applying

  /// A member has applied `entry`; `output` is what that left to do.
  mutating func applied(_ entry: Entry, _ output: ApplyOutput, on node: Node) throws(Violation) {
    let index = Int(entry.index)
    try require(
      index < revisions.count, .committedImmutable, "\(node.id) applied \(index), not committed")
    let machine = node.machine
    let revision = revisions[index]
    try require(
      machine.kv.currentRevision == revision, .revision,
      "\(node.id) is at revision \(machine.kv.currentRevision) after entry \(index), the model at "
        + "\(revision)")
    if !output.effects.changes.isEmpty || revision != revisions[index - 1] {
      try checkChanges(output.effects.changes, revision, on: node)
    }
    // A joiner applies what the first members started with.
    let isFirst = entry.index <= bootstrapCount
    node.chain = isFirst ? 0 : chain(node.chain, entry, output, machine)
    if index < chains.count {
      try require(
        chains[index] == node.chain, .determinism,
        "\(node.id) did something else with entry \(index) than the first to apply it")
    } else {
      chains.append(node.chain)
    }
    if entry.kind != .normal { try checkConfiguration(at: entry.index, machine) }
  }

  private func checkChanges(
    _ changes: [Change], _ revision: Int64, on node: Node
  ) throws(Violation) {
    let events = revision >= 2 ? model.events[Int(revision) - 2] : []
    try require(
      changes.count == events.count, .revision,
      "revision \(revision) has \(changes.count) changes at \(node.id), \(events.count) in the model"
    )
    for (change, event) in zip(changes, events) {
      try require(change.revision == event.revision, .revision, "\(change.revision)")
      try require(
        change.key == Model.name(event.key) && (change.kind == .delete) == event.isDelete
          && change.keyValue == event.keyValue, .keyHistory,
        "\(node.id) at \(change.revision): \(change), the model: \(event)")
    }
  }

  private func chain(
    _ before: UInt64, _ entry: Entry, _ output: ApplyOutput, _ machine: SimulatedMachine
  ) -> UInt64 {
    var chain = Self.mix(before, entry.term &* 31 &+ entry.kind.rawValue)
    for change in output.effects.changes { chain = Self.mix(chain, change.keyValue) }
    for write in output.writes {
      chain = Self.mix(chain, write.key)
      chain = Self.mix(chain, write.value ?? [])
    }
    return Self.mix(chain, UInt64(bitPattern: machine.kv.compactRevision))
  }

  /// Voters change one at a time, and equally everywhere.
  private mutating func checkConfiguration(
    at index: LogIndex, _ machine: SimulatedMachine
  ) throws(Violation) {
    let state = machine.membership.confState
    if let known = voters[index] {
      return try require(
        known == state, .configurationSafety, "members differ after entry \(index)")
    }
    voters[index] = state
    guard let before = voters.filter({ $0.key < index }).max(by: { $0.key < $1.key })?.value,
      // Bootstrap entries fill an empty list.
      index > bootstrapCount
    else { return }
    let changed = Set(before.voters).symmetricDifference(state.voters).count
    try require(changed <= 1, .configurationSafety, "entry \(index) changed \(changed) voters")
    counts.membershipChanges += 1
  }

  // MARK: - Whole states

  /// A whole state is stored, sent, or taken up: it must be the one of its index.
  mutating func check(
    _ machine: SimulatedMachine, chain: UInt64, _ node: MemberID, _ invariant: Invariant
  ) throws(Violation) {
    let index = Int(machine.applied)
    try require(
      index < revisions.count && machine.kv.currentRevision == revisions[index], invariant,
      "\(node) holds revision \(machine.kv.currentRevision) at entry \(index), the model "
        + "\(index < revisions.count ? revisions[index] : -1)")
    try require(
      index < chains.count && chains[index] == chain, invariant,
      "\(node) holds another state at entry \(index)")
    guard let hash = try? machine.kv.hashKV(0) else {
      throw Violation(invariant, "\(node) cannot hash its state at entry \(index)")
    }
    let revision = machine.kv.currentRevision
    let known = historyHashes[revision, default: [:]][hash.compactRevision]
    try require(
      known == nil || known == hash.hash, .compaction,
      "\(node): the history up to \(revision), compacted at \(hash.compactRevision), has another "
        + "checksum")
    historyHashes[revision, default: [:]][hash.compactRevision] = hash.hash
    var state = UInt64(hash.hash)
    for record in machine.lessor.records { state = Self.mix(state, record.encoded) }
    for lease in machine.lessor.leases {
      for key in machine.lessor.keys(of: lease) ?? [] { state = Self.mix(state, key) }
    }
    for alarm in machine.alarms.alarms { state = Self.mix(state, alarm.encoded) }
    for member in machine.membership.members { state = Self.mix(state, member.encodedJSON()) }
    for id in machine.membership.removed { state = Self.mix(state, id) }
    state = Self.mix(state, UInt64(bitPattern: machine.kv.compactRevision))
    if let known = states[machine.applied] {
      try require(known == state, invariant, "\(node) holds another state at entry \(index)")
    }
    states[machine.applied] = state
  }

  // MARK: - Answers

  /// A client hears how its request ended.
  func answered(
    _ id: UInt64, succeeded: Bool, revision: Int64, count: Int64?, by node: MemberID,
    applied: LogIndex
  ) throws(Violation) {
    guard let (index, result) = expected[id] else {
      throw Violation(.clientAck, "\(node) answered request \(id.hex), which is not committed")
    }
    try require(
      index <= ruledCommit && index <= applied, .clientAck,
      "\(node) answered request \(id.hex) at entry \(index), committed \(ruledCommit), applied "
        + "\(applied)")
    try require(
      succeeded == result.succeeds, .determinism,
      "request \(id.hex) succeeded: \(succeeded), in the model: \(result.succeeds)")
    guard succeeded else { return }
    try require(
      revision == result.revision && (count ?? result.count) == result.count, .revision,
      "request \(id.hex) answered revision \(revision), count \(count ?? -1); the model: \(result)")
  }

  /// A confirmed read is served from the state of a member.
  mutating func checkRead(
    id: UInt64, index: LogIndex, node: Node
  ) throws(Violation) {
    guard let needed = reads.removeValue(forKey: id) else {
      throw Violation(
        .linearizableRead, "\(node.id) confirmed a read that nobody asked for, or twice")
    }
    try require(
      index >= needed, .linearizableRead,
      "\(node.id) confirmed a read at \(index), committed was \(needed) when it was asked")
  }

  /// Rows of keys `from..<to` at `asked` (0 = now) as a member answers them.
  mutating func checkRows(
    from: Int, to: Int, asked: Int64, _ result: Result<[Bytes], KVError>, on node: Node
  ) throws(Violation) {
    let kv = node.machine.kv
    let revision = asked == 0 ? kv.currentRevision : asked
    counts.reads += 1
    switch result {
    case .success(let rows):
      try require(
        asked == 0 || revision >= kv.compactRevision, .compaction,
        "\(node.id) served revision \(revision), compacted at \(kv.compactRevision)")
      try require(
        rows == model.rows(from: from, to: to, at: revision), .compaction,
        "\(node.id) reads keys \(from)..<\(to) at \(revision) as \(rows)")
    case .failure(let error):
      try require(
        error == .compacted && revision < kv.compactRevision
          || error == .futureRevision && revision > kv.currentRevision, .compaction,
        "\(node.id) refused a read at \(revision): \(error); it is at \(kv.currentRevision), "
          + "compacted at \(kv.compactRevision)")
    }
  }
}
